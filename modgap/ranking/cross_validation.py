"""Cross-validation folds that keep groups together, and the error of predictions."""

from collections.abc import Callable, Sequence

import numpy as np

from modgap.errors import InputError
from modgap.labels.label_space import label_space
from modgap.probes.folds import stratified_folds
from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, SourceOutputs
from modgap.statistics.bootstrap import group_numbers
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.weights import choose_weighting, entry_weights
from modgap.targets.splits import stratification_labels, stratified_keys

__all__ = ["REPEATS", "assign_folds", "prediction_error", "repeated_errors", "sample_keys"]

REPEATS = 5
"""Number of cross-validations that an error by sample is averaged over."""


def sample_keys(outputs: SourceOutputs, seed: int) -> np.ndarray:
    """Return a random key in [0, 1) for each sample, shape (n,).

    The keys are spread evenly over each class, and those of a group lie together.
    """
    return stratified_keys(stratification_labels(outputs.labels), outputs.groups, seed)


def assign_folds(outputs: SourceOutputs, seed: int) -> np.ndarray:
    """Assign each sample to one of five folds, stratified by class with groups kept together, shape (n,).

    Raises:
        InputError: If all samples are in one fold, so that none is left to fit on. This happens only if no class has
            two groups, or two samples where there are no groups.
    """
    folds = stratified_folds(stratification_labels(outputs.labels), outputs.groups, seed)
    if (folds == folds[0]).all():
        units, n_units = "samples", len(folds)
        if outputs.groups is not None:
            units, n_units = "groups", len(np.unique(outputs.groups))
        raise InputError(
            f"No class has two {units} ({n_units} in all), and a fold of the cross-validation took all samples, so "
            f"that none is left to fit on. At least two {units} of a class are needed. Use five or more of each class."
        )
    return folds


def prediction_error(outputs: SourceOutputs, predicted: np.ndarray) -> float:
    """Compute the error of predictions; lower is better.

    Args:
        outputs: Outputs with the true labels or values of n samples.
        predicted: Predictions, shape (n, M).

    Returns:
        For classification the error rate of the column with the largest prediction. For multi-label targets 1 - mean
        average precision over the classes that have a sample among the n, and NaN if none has. For regression 1 - R2,
        which is 1 for predicting the mean, and NaN for constant values.
    """
    if outputs.task == CLASSIFICATION:
        return float((predicted.argmax(axis=1) != outputs.labels).mean())
    truth = outputs.target_matrix
    if outputs.task == MULTI_LABEL:
        from sklearn.metrics import average_precision_score

        present = np.flatnonzero(truth.any(axis=0))
        precisions = [average_precision_score(truth[:, k], predicted[:, k]) for k in present]
        return float(1 - np.mean(precisions)) if precisions else float("nan")
    variation = ((truth - truth.mean(axis=0)) ** 2).sum()
    return float(((truth - predicted) ** 2).sum() / variation) if variation > 0 else float("nan")


def repeated_errors(
    outputs: SourceOutputs,
    weight: str | None,
    seed: int,
    predict: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
) -> SampleErrors:
    """Compute the 0-1 error of each sample over five cross-validations with different folds.

    The errors of one cross-validation do not show how much the error depends on the samples that a classifier is fitted
    on. The spread between several does, so that intervals cover the expected error.

    Args:
        outputs: Outputs of a source on n samples of a classification target.
        weight: What counts equally: `samples`, `groups` or `classes`. None for groups where there are groups.
        seed: Seed of the folds. The first cross-validation has the folds of `assign_folds` with this seed.
        predict: Function of the fold of each sample, shape (n,), in each cross-validation, that returns the predictions
            of each, shape (n, K). Rows of samples that are not predicted are NaN.
    """
    predictions = predict([assign_folds(outputs, seed + (repeat << 32)) for repeat in range(REPEATS)])
    is_predicted = np.isfinite(predictions[0]).all(axis=1)
    wrong = np.array([predicted.argmax(axis=1) != outputs.labels for predicted in predictions], np.float64)
    wrong[:, ~is_predicted] = np.nan
    space = label_space(outputs.labels)
    units = group_numbers(outputs.groups, len(outputs))
    groups = None if outputs.groups is None else units
    weighting = choose_weighting(weight, groups)
    weights = entry_weights(space, groups, weighting)
    averages = wrong[:, is_predicted] @ weights[is_predicted] / weights[is_predicted].sum()
    strata = outputs.labels if weighting == "classes" else None
    return SampleErrors(wrong.mean(axis=0), weights, units, averages, strata, seed)
