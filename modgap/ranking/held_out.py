"""Held-out errors of the samples of a target, from the logits of a source, for scores."""

import numpy as np

from modgap.discrepancy import TestedSamples, held_out_samples
from modgap.errors import InputError
from modgap.ranking.score import ErrorOptions
from modgap.ranking.source_outputs import SourceOutputs
from modgap.statistics.bootstrap import group_numbers
from modgap.statistics.intervals import SampleErrors

__all__ = ["check_class_counts", "held_out_errors"]


def check_class_counts(outputs: SourceOutputs) -> np.ndarray:
    """Return the logits, shape (n, C), if there are at least as many source classes as target classes.

    Raises:
        InputError: If there are fewer.
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
        name: `search`, `soft`, `soft-matched`, or `leep` for minus the log-probability of the label.

    Returns:
        Errors of the n samples. Samples that are not tested have NaN and weight 0.

    Raises:
        InputError: If the source has too few classes, or the target has fewer than two classes that can be tested.
    """
    tested = held_out_samples(
        check_class_counts(outputs),
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
    errors = None if tested is None else tested.log_losses if name == "leep" else tested.errors.get(name)
    if tested is None or errors is None:
        raise InputError("Fewer than two classes have two samples or groups, so no held-out error can be computed.")
    return _for_all_samples(tested, errors, outputs)


def _for_all_samples(tested: TestedSamples, errors: SampleErrors, outputs: SourceOutputs) -> SampleErrors:
    """Return errors of all n samples, with NaN and weight 0 for those that are not tested."""
    values = np.full(len(outputs), np.nan)
    values[tested.rows] = errors.errors
    weights = np.zeros(len(outputs))
    weights[tested.rows] = errors.weights
    strata = None
    if errors.strata is not None:
        strata = np.zeros(len(outputs), np.int64)
        strata[tested.rows] = tested.labels
    units = group_numbers(outputs.groups, len(outputs))
    return SampleErrors(values, weights, units, errors.averages, strata, errors.split_seed)
