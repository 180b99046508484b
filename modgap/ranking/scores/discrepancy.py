"""Modality knowledge discrepancy as scores of predictions and of probabilities.

All of them map the classes of the target to classes of the source. They differ in the error of a map, in the way to
find the best map, and in the samples on which its error is measured: held-out ones, or those that it was fitted on.
"""

from functools import partial

import numpy as np

from modgap.discrepancy import Estimate, estimate, held_out_samples
from modgap.discrepancy.probabilities import Probabilities, matched_temperature
from modgap.errors import InputError
from modgap.labels.label_space import label_space
from modgap.ranking.score import ALL_TASKS, ERROR_RATE, NON_NEGATIVE, ErrorOptions, Score
from modgap.ranking.source_outputs import SourceOutputs
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.units import unit_numbers


def _usable_logits(outputs: SourceOutputs) -> np.ndarray:
    """Return the logits, shape (n, C), contiguous in memory.

    Raises:
        InputError: If there are fewer source classes than target classes, so that a map cannot be injective.
    """
    assert outputs.logits is not None
    n_source_classes = outputs.logits.shape[1]
    if outputs.n_classes > n_source_classes:
        raise InputError(
            f"The target has {outputs.n_classes} classes, but the source's head has only {n_source_classes}."
        )
    return np.ascontiguousarray(outputs.logits)


def held_out_errors(outputs: SourceOutputs, options: ErrorOptions, seed: int, name: str) -> SampleErrors:
    """Compute the held-out errors of all samples over repeated splits.

    Args:
        outputs: Outputs of a source with logits on n samples.
        options: Weights and splits.
        seed: Seed of the splits.
        name: Which error of a sample: `search` for the 0-1 error of the best map, `soft` or `soft-matched` for those of
            the scores of these names, or `leep` for minus the log-probability of the label.

    Returns:
        Errors of the n samples. Samples that are not tested have NaN and weight 0.

    Raises:
        InputError: If the source has too few classes, or the target has fewer than two classes that can be tested.
    """
    tested = held_out_samples(
        _usable_logits(outputs),
        outputs.labels,
        groups=outputs.groups,
        # The search starts from the soft maps too, as in `modgap discrepancy`, so that both give the same error.
        estimators=("search", "soft") if name == "search" else ("soft",),
        weight=options.weight,
        splits=options.splits,
        per_class=options.per_class,
        seed=seed,
        threads=1,
    )
    errors = None
    if tested is not None:
        errors = tested.log_losses if name == "leep" else tested.errors.get(name)
    if tested is None or errors is None:
        raise InputError("Fewer than two classes have two samples or groups, so no held-out error can be computed.")
    values = np.full(len(outputs), np.nan)
    values[tested.rows] = errors.errors
    weights = np.zeros(len(outputs))
    weights[tested.rows] = errors.weights
    strata = None
    if errors.strata is not None:
        strata = np.zeros(len(outputs), np.int64)
        strata[tested.rows] = tested.labels
    units = unit_numbers(outputs.groups, len(outputs))
    return SampleErrors(values, weights, units, errors.averages, strata, errors.split_seed, without=errors.without)


PERMUTATIONS = 19
"""Number of permutations of the labels for the null distribution of `discrepancy-ratio`."""
RANDOM_MAPS = 100_000
"""Number of random maps of `discrepancy-montecarlo`."""


def _estimate(outputs: SourceOutputs, estimator: str, permutations: int, seed: int) -> Estimate:
    """Return the estimate of one estimator on all samples, without the precision and extras of `modgap discrepancy`."""
    result = estimate(
        _usable_logits(outputs),
        outputs.labels,
        groups=outputs.groups,
        estimators=[estimator],
        trials=RANDOM_MAPS,
        splits=1,
        permutations=permutations,
        permutations_for=estimator,
        seed=seed,
        threads=1,
    )
    return result.estimates[estimator]


def _ratio_to_null(outputs: SourceOutputs, seed: int) -> float:
    ratio = _estimate(outputs, "search", PERMUTATIONS, seed).in_sample_ratio_to_null
    return float("nan") if ratio is None else float(ratio)


def _matched(outputs: SourceOutputs, options: ErrorOptions, seed: int) -> SampleErrors:
    """Return the held-out errors of `soft-matched`.

    Raises:
        InputError: If no temperature gives the logits the entropy, for example because they are constant.
    """
    probabilities = Probabilities(_usable_logits(outputs), label_space(outputs.labels).rows)
    # Called for its error alone, because the held-out test leaves this score out without a reason.
    matched_temperature(probabilities, outputs.n_classes)
    return held_out_errors(outputs, options, seed, "soft-matched")


_of_maps = partial(Score, higher_is_better=False, tasks=ALL_TASKS, needs_logits=True)
"""Function that makes a score of this module."""
_held_out = partial(_of_maps, bounds=ERROR_RATE, error_tasks=ALL_TASKS, uses_splits=True)
"""Function that makes a score that is a held-out error."""
SCORES = (
    _held_out(
        name="discrepancy",
        title="held-out error of the best map from target classes to source classes, over repeated splits",
        unit="error rate",
        reference="MoNA, ICML 2024, equation 3, on held-out samples",
        version=3,
        errors=lambda outputs, options, seed: held_out_errors(outputs, options, seed, "search"),
    ),
    _of_maps(
        name="discrepancy-ratio",
        title="error of the best class map, divided by its mean with permuted labels",
        unit="ratio to the null",
        reference="MoNA, ICML 2024, equation 3, relative to its null distribution",
        compute=_ratio_to_null,
        bounds=NON_NEGATIVE,
        default=False,
        version=3,
    ),
    _of_maps(
        name="discrepancy-montecarlo",
        title="smallest error of 100,000 random class maps, as in the MoNA paper",
        unit="error rate",
        reference="MoNA, ICML 2024, algorithm 2",
        compute=lambda outputs, seed: float(_estimate(outputs, "montecarlo", 0, seed).solution.value),
        bounds=ERROR_RATE,
        default=False,
        version=2,
    ),
    _held_out(
        name="soft",
        title="held-out probability that the source does not give to the classes of the best map",
        unit="1 - probability",
        reference="MoNA, ICML 2024, equation 3, with probabilities in place of predictions",
        version=2,
        errors=lambda outputs, options, seed: held_out_errors(outputs, options, seed, "soft"),
    ),
    _held_out(
        name="soft-matched",
        title="the score soft at the temperature at which the mean entropy is half of log K",
        unit="1 - probability",
        reference="MoNA, ICML 2024, equation 3, with probabilities of equal entropy for all sources",
        default=False,
        version=2,
        errors=_matched,
    ),
)
