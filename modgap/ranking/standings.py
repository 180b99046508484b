"""Values of one score for several sources, with intervals, ranks and corrected comparisons.

Intervals come from errors by sample, or from random subsamples of nine tenths of a target's samples.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from modgap.errors import InputError, UsageError
from modgap.ranking.score import Score
from modgap.ranking.source_outputs import SourceOutputs
from modgap.statistics.intervals import LEVEL, SampleErrors
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL, holm
from modgap.statistics.paired import paired_differences
from modgap.targets.splits import stratification_labels, stratified_keys

SURELY_WORSE = SIGNIFICANCE_LEVEL / 2
"""A source is significantly worse than its control if its win probability is at most this."""
MIN_SUBSAMPLES = 10
"""Fewest subsamples with a score from which a spread is estimated."""
SIGNIFICANT_DIGITS = 8
"""Values that agree in so many digits are equal: they may differ by the rounding of sums."""


@dataclass(frozen=True)
class Standings:
    """Values of one score for S sources, and how the sources compare by it.

    All arrays are in the order in which the sources were passed.

    Attributes:
        values: The score of each source, shape (S,). NaN for a source without a value.
        intervals: 95 % interval of each value, shape (S, 2). NaN where it is unknown.
        difference_intervals: 95 % interval of the value of source i minus that of source j, shape (S, S, 2). NaN where
            it is unknown.
        p_values: Two-sided p-value of no difference of sources i and j, not corrected for the number of pairs, shape
            (S, S). NaN where it is unknown.
        higher_is_better: True if a higher score is better.
        standard_errors: Standard error of each difference, shape (S, S), NaN where it is unknown. None for scores that
            are not errors by sample.
        degrees: Degrees of freedom of each standard error, shape (S, S). None without standard errors.
        places: Place of each source among those of equal value, shape (S,). None for the order in which they were
            passed.
    """

    values: np.ndarray
    intervals: np.ndarray
    difference_intervals: np.ndarray
    p_values: np.ndarray
    higher_is_better: bool
    standard_errors: np.ndarray | None = None
    degrees: np.ndarray | None = None
    places: np.ndarray | None = None

    @cached_property
    def ranks(self) -> np.ndarray:
        """Rank of each source from 1 (best), shape (S,).

        Sources of equal value share the smallest rank. A source without a value has rank 0.
        """
        signed = round_significant(-self.values if self.higher_is_better else self.values)
        return np.where(np.isfinite(self.values), (signed[None] < signed[:, None]).sum(axis=1) + 1, 0)

    @cached_property
    def win_probabilities(self) -> np.ndarray:
        """Probability that source i is better than source j, shape (S, S). NaN where it is unknown.

        It is 1 - p / 2 for the source of the better value, where p is the uncorrected p-value, and p / 2 for the other.
        """
        signed = round_significant(self.values if self.higher_is_better else -self.values)
        direction = np.sign(signed[:, None] - signed)
        return np.asarray(0.5 * (1 + direction) - direction * self.p_values / 2)

    @cached_property
    def corrected_p_values(self) -> np.ndarray:
        """P-value of the comparison of each source with the first, corrected by Holm for all pairs, shape (S,).

        A correction for the number of other sources would not do, because the first source is the one that the samples
        favor: of ten equal sources one would differ from it in 15 % of the cases.

        NaN for the first, for sources without a value, and where it is unknown.
        """
        corrected = np.full(len(self.values), np.nan)
        first, *others = self.ranked() or [0]
        corrected[others] = self._corrected_pairs[first, others]
        return corrected

    @cached_property
    def different(self) -> np.ndarray:
        """True for each pair that differs significantly at the 95 % level, symmetric, shape (S, S).

        Comparisons are corrected by Holm for the number of all pairs. A pair whose p-value is unknown counts as not
        different.
        """
        return np.asarray(self._corrected_pairs <= SIGNIFICANCE_LEVEL)

    @cached_property
    def _corrected_pairs(self) -> np.ndarray:
        """P-value of each pair, corrected by Holm for the number of all pairs, symmetric, shape (S, S)."""
        ranked = np.array(self.ranked(), np.int64)
        rows, columns = (ranked[indices] for indices in np.triu_indices(len(ranked), 1))
        corrected = np.full(self.p_values.shape, np.nan)
        corrected[rows, columns] = corrected[columns, rows] = holm(self.p_values[rows, columns])
        return corrected

    @cached_property
    def rank_intervals(self) -> np.ndarray:
        """95 % interval of each rank, shape (S, 2). 0 where it is unknown.

        The best rank is 1 plus the number of significantly better sources. The worst rank is the number of sources
        minus the number of significantly worse ones (Mogstad, Romano, Shaikh and Wilhelm 2024). The comparisons are
        those of `different`, so that the interval of a rank agrees with the ties.
        """
        intervals = np.zeros((len(self.values), 2), np.int64)
        ranked = np.flatnonzero(self.ranks > 0)
        pairs = np.ix_(ranked, ranked)
        if np.isfinite(self.p_values[pairs]).all():
            better = self.different[pairs] & (self.ranks[ranked][:, None] < self.ranks[ranked])
            intervals[ranked] = np.stack([1 + better.sum(axis=0), len(ranked) - better.sum(axis=1)], axis=1)
        return intervals

    def order(self) -> np.ndarray:
        """Return the indices of the sources, best first. Sources without a value come last."""
        places = np.arange(len(self.ranks)) if self.places is None else self.places
        return np.asarray(np.lexsort((places, np.where(self.ranks > 0, self.ranks, len(self.ranks) + 1))))

    def ranked(self) -> list[int]:
        """Return the indices of the sources that have a value, best first."""
        return [int(index) for index in self.order() if self.ranks[index] > 0]

    def interval(self, index: int) -> tuple[float, float] | None:
        """Return the 95 % interval of the value of a source. None if it is unknown."""
        return _known(self.intervals[index])

    def difference_interval(self, one: int, other: int) -> tuple[float, float] | None:
        """Return the 95 % interval of the value of one source minus that of another. None if it is unknown."""
        return _known(self.difference_intervals[one, other])

    def tied_with(self, index: int) -> np.ndarray:
        """Return the indices of the other sources that do not differ significantly from this one (95 % level)."""
        tied = ~self.different[index] & np.isfinite(self.p_values[index]) & (self.ranks > 0)
        tied[index] = False
        return np.flatnonzero(tied)

    def smallest_difference(self, one: int, other: int, comparisons: int) -> float | None:
        """Return the smallest difference of two sources that could have been significant. None where it is unknown.

        Args:
            one: Index of a source.
            other: Index of another source.
            comparisons: Number of comparisons that the p-value is corrected for.
        """
        if self.standard_errors is None or self.degrees is None:
            return None
        quantile = special.stdtrit(self.degrees[one, other], 1 - SIGNIFICANCE_LEVEL / 2 / comparisons)
        smallest = float(quantile * self.standard_errors[one, other])
        return smallest if smallest > 0 else None

    def among(self, mask: np.ndarray) -> "Standings":
        """Return the standings of some sources among themselves, as if the others had no value.

        Args:
            mask: True for the sources to compare, shape (S,).
        """
        pairs = mask[:, None] & mask
        return replace(
            self,
            values=np.where(mask, self.values, np.nan),
            intervals=np.where(mask[:, None], self.intervals, np.nan),
            difference_intervals=np.where(pairs[:, :, None], self.difference_intervals, np.nan),
            p_values=np.where(pairs, self.p_values, np.nan),
        )


def _known(ends: np.ndarray) -> tuple[float, float] | None:
    low, high = ends.tolist()
    return (low, high) if np.isfinite(ends).all() else None


def compute_standings(
    values: ArrayLike,
    resampled: np.ndarray,
    *,
    higher_is_better: bool,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    n_units: int | None = None,
    spread_factor: float = 1.0,
) -> Standings:
    """Compute intervals and comparisons from a score on all samples and on random subsamples of them.

    The standard deviation over subsamples that lack a share d of the samples, times sqrt((1 - d) / d), estimates the
    standard error of the value (delete-d jackknife; Shao and Wu 1989). The part that depends on the number of samples
    cancels with the mean over subsamples. All sources are scored on the same subsamples, so what they share cancels in
    differences. Intervals and p-values use Student's t distribution, with one degree of freedom less than there are
    subsamples or independent units, whichever are fewer: more subsamples of the same few units do not show their
    spread any better.

    Args:
        values: Score of each source on all samples, shape (S,). NaN for a source without a value.
        resampled: Score of each source on each subsample, shape (S, R), NaN where it is not defined. R may be 0. If
            fewer than ten subsamples have a score, for a source or for both of a pair, there is no interval or no
            probability.
        higher_is_better: True if a higher score is better.
        bounds: Lowest and highest value that the score can have. Intervals are clipped to them.
        n_units: Number of groups, or of independent samples; None for as many as there are subsamples.
        spread_factor: Standard error divided by the standard deviation over subsamples; 1 if these are halves.

    Returns:
        The standings of the S sources.

    References:
        Shao and Wu, "A general theory for jackknife variance estimation", Annals of Statistics, 1989.
    """
    scores = np.asarray(values, np.float64)
    has_value = np.isfinite(scores)
    spreads, counts = _spread(resampled)
    spreads = spread_factor * spreads
    most = counts.max(initial=0) if n_units is None else n_units
    has_interval = has_value & (counts >= MIN_SUBSAMPLES)
    margins = _margins(spreads, np.minimum(counts, most))
    intervals = np.full((len(scores), 2), np.nan)
    intervals[has_interval] = np.stack([scores - margins, scores + margins], axis=1).clip(*bounds)[has_interval]
    difference_intervals, p_values = _compare_pairs(scores, resampled, most, spread_factor)
    return Standings(scores, intervals, difference_intervals, p_values, higher_is_better)


def _margins(spreads: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return half of the width of 95 % intervals."""
    return np.asarray(stats.t.ppf((1 + LEVEL) / 2, np.maximum(counts - 1, 1)) * spreads)


def round_significant(values: np.ndarray) -> np.ndarray:
    """Round to eight significant digits, so that sources are not ranked by the rounding errors of sums.

    Args:
        values: Numbers, of any shape. NaN and infinity stay as they are.

    Returns:
        The rounded numbers, of the same shape.

    Example:
        >>> round_significant(np.array([1.23456789012, 0.0])).tolist()
        [1.2345679, 0.0]
    """
    with np.errstate(divide="ignore"):
        unit = 10.0 ** (np.floor(np.log10(np.abs(values))) - SIGNIFICANT_DIGITS + 1)
    rounded = np.round(values / np.where(unit > 0, unit, 1)) * unit
    return np.where(np.isfinite(unit) & (unit > 0), rounded, values)


def _spread(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard deviation over the subsamples that have a value, and their number, both of shape (...,)."""
    finite = np.isfinite(resampled)
    counts = finite.sum(axis=-1)
    means = np.where(finite, resampled, 0).sum(axis=-1) / np.maximum(counts, 1)
    squares = np.where(finite, resampled - means[..., None], 0) ** 2
    return np.sqrt(squares.sum(axis=-1) / np.maximum(counts - 1, 1)), counts


def _compare_pairs(
    values: np.ndarray, resampled: np.ndarray, most: int, spread_factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of the difference (S, S, 2) and the two-sided p-value (S, S) of each pair.

    Args:
        values: Score of each source, shape (S,).
        resampled: Score of each source on each subsample, shape (S, R).
        most: Largest number of subsamples or units that counts.
        spread_factor: Standard error divided by the standard deviation over subsamples.
    """
    rounded = round_significant(values)
    differences = rounded[:, None] - rounded
    on_subsamples = round_significant(resampled)
    # One row after the other, because all pairs at once would take gigabytes with a thousand sources.
    spreads, counts = np.empty(differences.shape), np.empty(differences.shape, np.int64)
    for number, row in enumerate(on_subsamples):
        spreads[number], counts[number] = _spread(row - on_subsamples)
    spreads *= spread_factor
    units = np.minimum(counts, most)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values = 2 * special.stdtr(np.maximum(units - 1, 1), -np.abs(differences) / spreads)
    # Without any spread the sign test decides.
    p_values = np.where(spreads > 0, p_values, np.where(differences == 0, 1.0, 2.0 ** (1.0 - units)))
    margins = _margins(spreads, units)
    unknown = ~np.isfinite(differences) | (counts < MIN_SUBSAMPLES)
    p_values[unknown] = np.nan
    margins[unknown] = np.nan
    return np.stack([differences - margins, differences + margins], axis=2), p_values


def error_arrays(errors: SampleErrors) -> dict[str, np.ndarray]:
    """Return the arrays of a cache entry that hold errors by sample."""
    arrays = {name: getattr(errors, name) for name in ("errors", "weights", "units", "averages", "strata", "without")}
    # Entries of bounded errors are those of earlier versions.
    arrays["is_bounded"] = None if errors.is_bounded else np.array(False)
    return {name: array for name, array in arrays.items() if array is not None}


def decode_errors(arrays: Mapping[str, np.ndarray], seed: int) -> SampleErrors:
    """Return the errors by sample that the arrays of a cache entry hold, with the seed of their splits."""
    errors, weights, units, averages = (np.array(arrays[name]) for name in ("errors", "weights", "units", "averages"))
    strata = np.array(arrays["strata"]) if "strata" in arrays else None
    without = np.array(arrays["without"]) if "without" in arrays else None
    return SampleErrors(errors, weights, units, averages, strata, seed, "is_bounded" not in arrays, without)


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


# Subsamples

MIN_GROUPS = 10
"""Fewest groups, or independent samples, whose subsamples are used to estimate a spread."""
MOST_ALONE = 0.1
"""Largest share of samples that are alone in their class and in each subsample."""
DELETED = 0.1
"""Share of the samples that a subsample lacks.

Some scores grow with the number of samples, such as TransRate where there are more features than samples. A subsample
of one half would then vary too little, and equal sources would differ significantly in up to 31 % of the cases
(`tests/test_subsamples.py`)."""
SPREAD_FACTOR = math.sqrt((1 - DELETED) / DELETED)
"""Standard error of a score, divided by the standard deviation over subsamples (delete-d jackknife)."""
SUBSAMPLES_VERSION = 3
"""Version of the choice of the subsamples, which their stored scores depend on."""
SEED_SALT = 0x4A1F


def subsample(outputs: SourceOutputs, seed: int, number: int) -> np.ndarray:
    """Choose nine tenths of the samples at random, stratified by class, with groups kept together.

    The choice depends on labels, groups, seed and number only. Samples are drawn without replacement, because copies of
    a sample would be each other's nearest neighbors. Samples that are alone in their class are in each subsample, so
    that all have the same classes, if they are at most a tenth of all. If a class has a single group, nine tenths of
    all groups are chosen whatever their classes.

    Args:
        outputs: Outputs of a source on n samples.
        seed: Seed of all subsamples.
        number: Number of the subsample, from 0.

    Returns:
        Indices of the chosen samples in ascending order, shape (m,).
    """
    own_seed = int(np.random.SeedSequence([seed, SEED_SALT, number]).generate_state(1)[0])
    labels = stratification_labels(outputs.labels)
    groups = np.arange(len(outputs))
    if outputs.groups is not None:
        groups = np.unique(outputs.groups, return_inverse=True)[1]
        group_labels = labels[np.unique(groups, return_index=True)[1]]
        if np.unique(group_labels, return_counts=True)[1].min() < 2:
            labels = np.zeros_like(labels)
    chosen = stratified_keys(labels, groups, own_seed) < 1 - DELETED
    if outputs.groups is None:
        alone = (np.bincount(labels) == 1)[labels]
        # More of them would make the subsamples too large, and their spread too small.
        if alone.mean() <= MOST_ALONE:
            chosen |= alone
    return np.flatnonzero(chosen)


def count_units(outputs: SourceOutputs) -> int:
    """Return the number of groups, or of samples if they are independent."""
    return len(outputs) if outputs.groups is None else len(np.unique(outputs.groups))


def score_subsamples(score: Score, outputs: SourceOutputs, seed: int, numbers: Iterable[int]) -> np.ndarray:
    """Compute a score on subsamples.

    Args:
        score: The score.
        outputs: Outputs of a source on all samples.
        seed: Seed of the subsamples and of the score's own random numbers.
        numbers: Numbers of R subsamples.

    Returns:
        Scores, shape (R,). NaN for subsamples on which the score is not defined, and everywhere if there are fewer
        than ten groups or independent samples.
    """
    if count_units(outputs) < MIN_GROUPS:
        return np.array([np.nan for _ in numbers], np.float64)
    scores = []
    for number in numbers:
        try:
            scores.append(score.evaluate(outputs.subset(subsample(outputs, seed, number)), seed))
        except UsageError:
            raise
        except (InputError, ValueError, ZeroDivisionError, np.linalg.LinAlgError):
            scores.append(np.nan)
    return np.array(scores, np.float64)


def subsample_standings(
    score: Score, values: Sequence[float] | np.ndarray, subsamples: np.ndarray, n_units: int | None
) -> Standings:
    """Return the standings by a score of sources on all samples, with intervals from subsamples.

    Args:
        score: The score.
        values: Score of each source, shape (S,).
        subsamples: Score of each source on each subsample, as from `score_subsamples`, shape (S, R).
        n_units: Number of groups, or of independent samples. None if it is not known.
    """
    return compute_standings(
        values,
        subsamples,
        higher_is_better=score.higher_is_better,
        bounds=score.bounds,
        n_units=n_units,
        spread_factor=SPREAD_FACTOR,
    )
