"""Standings of scores that are means of errors by sample: intervals and paired comparisons on the same splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modgap.errors import InputError
from modgap.ranking.score import Score
from modgap.ranking.source_outputs import SourceOutputs
from modgap.ranking.standings import Standings, round_significant
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.paired import paired_differences
from modgap.statistics.sample_file import SampleFile
from modgap.targets.splits import stratification_labels

__all__ = ["ScoredErrors", "check_comparable", "compute_error_standings", "sample_file"]


@dataclass(frozen=True)
class ScoredErrors:
    """Errors of a source on all samples of a target by one score, and what they can be compared with.

    Attributes:
        errors: Error of each sample.
        n_classes: Number K of target classes.
        per_class: Number of samples of each class that maps are fitted on. None for halves, and for scores without
            maps.
    """

    errors: SampleErrors
    n_classes: int
    per_class: int | None


def check_comparable(scored: Mapping[str, ScoredErrors]) -> None:
    """Raise an InputError if sources were scored on different numbers of classes or of samples a class.

    Args:
        scored: Errors of each source by its name.
    """
    names = list(scored)
    for name in names[1:]:
        first = scored[names[0]]
        other = scored[name]
        if (first.n_classes, first.per_class) != (other.n_classes, other.per_class):
            raise InputError(
                f"{name} has {_describe(other)}, and {names[0]} has {_describe(first)}. Errors are comparable only for "
                "the same number of classes and of samples of each class that maps are fitted on."
            )


def _describe(scored: ScoredErrors) -> str:
    fitted = "halves of the samples" if scored.per_class is None else f"{scored.per_class} samples a class"
    return f"{scored.n_classes} classes and maps fitted on {fitted}"


def compute_error_standings(
    score: Score, errors: Sequence[SampleErrors | None], more: Mapping[int, tuple[float, float]] | None = None
) -> Standings:
    """Compute intervals and comparisons of sources from their errors on the same samples and splits.

    Args:
        score: The score.
        errors: Errors of S sources. None for a source without a value.
        more: Variance of the mean error from further random draws, such as those of a training, and the degrees of
            freedom of this estimate, for each source with errors. None for no such variance.

    Returns:
        The standings of the S sources.

    Raises:
        InputError: If samples, weights, groups or splits differ.
    """
    n_sources = len(errors)
    values = np.full(n_sources, np.nan)
    intervals = np.full((n_sources, 2), np.nan)
    difference_intervals = np.full((n_sources, n_sources, 2), np.nan)
    p_values, standard_errors, degrees = (np.full((n_sources, n_sources), np.nan) for _ in range(3))
    present = {index: one for index, one in enumerate(errors) if one is not None}
    for index, one in present.items():
        mean = score.mean_of(one, *(more[index] if more else ()))
        values[index] = mean.value
        intervals[index] = np.clip(mean.interval, *score.bounds) if mean.interval else np.nan
    if present:
        indices = list(present)
        pairs = np.ix_(indices, indices)
        low, high = score.bounds
        parts = [more[index] for index in indices] if more else None
        differences = paired_differences(list(present.values()), high - low, parts)
        ends = differences.intervals
        difference_intervals[pairs] = -ends[:, :, ::-1] if score.higher_is_better else ends
        rounded = round_significant(values[indices])
        is_equal = (rounded[:, None] == rounded) & np.isfinite(differences.p_values)
        p_values[pairs] = np.where(is_equal, 1.0, differences.p_values)
        standard_errors[pairs], degrees[pairs] = differences.standard_errors, differences.degrees
    return Standings(
        values, intervals, difference_intervals, p_values, score.higher_is_better, standard_errors, degrees
    )


def sample_file(scored: Mapping[str, ScoredErrors], outputs: SourceOutputs, numbers: np.ndarray) -> SampleFile:
    """Return the errors of the tested samples, with one column for each source.

    Args:
        scored: Errors of each source by its name, at least one, on the same n samples.
        outputs: Outputs of one of the sources, for labels and groups.
        numbers: Number of each sample in the target, shape (n,).
    """
    first = next(iter(scored.values()))
    tested = first.errors.tested
    groups = None if outputs.groups is None else first.errors.units[tested]
    columns = {name: _select(one.errors, tested) for name, one in scored.items()}
    labels = stratification_labels(outputs.labels)[tested]
    return SampleFile(numbers[tested], labels, groups, columns, first.n_classes, first.per_class)


def _select(errors: SampleErrors, samples: np.ndarray) -> SampleErrors:
    """Return the errors of some of the samples, which are all that are tested."""
    strata = None if errors.strata is None else errors.strata[samples]
    return SampleErrors(
        errors.errors[samples],
        errors.weights[samples],
        errors.units[samples],
        errors.averages,
        strata,
        errors.split_seed,
    )
