"""Cross-validation folds that keep groups together, and the error of predictions."""

from collections.abc import Callable, Sequence

import numpy as np

from modgap.errors import InputError
from modgap.labels.label_space import label_space
from modgap.probes.folds import stratified_folds
from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, SourceOutputs
from modgap.statistics.intervals import SampleErrors
from modgap.statistics.jackknife import group_blocks
from modgap.statistics.units import unit_numbers
from modgap.statistics.weights import choose_weighting, entry_weights
from modgap.targets.splits import stratification_labels

REPEATS = 5
"""Number of cross-validations that an error by sample is averaged over."""
SPREAD = float(np.sqrt(5 / 4 + 1 / REPEATS))
"""Standard error of the mean of an unbounded error, as a multiple of that of as many independent samples.

Predictors of all folds share samples that they are fitted on, so the errors of samples are not independent. The
factor is that of the corrected test for repeated cross-validation with five folds. In simulations of equally good
sources (`tests/test_errors_by_sample.py`), p is at most .05 in 3 to 7 % of the cases with it, and in 6 to 12 % without.
"""


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


def left_out_blocks(outputs: SourceOutputs, weight: str | None, seed: int) -> list[np.ndarray]:
    """Return a mask, shape (n,), of each block of groups or samples without which predictors are fitted once more.

    Blocks are of groups where there are groups, of samples where classes count equally, and there are none where
    samples are independent and count equally, or where the error is no mean over samples.

    Args:
        outputs: Outputs of a source on n samples.
        weight: What counts equally: `samples`, `groups` or `classes`. None for groups where there are groups.
        seed: Seed of the blocks.
    """
    if outputs.task != CLASSIFICATION:
        return []
    units = unit_numbers(outputs.groups, len(outputs))
    has_blocks = outputs.groups is not None or weight == "classes"
    return group_blocks(outputs.labels, units if has_blocks else None, seed)


def repeated_errors(
    outputs: SourceOutputs,
    weight: str | None,
    seed: int,
    predict: Callable[[np.ndarray, Sequence[np.ndarray]], Sequence[np.ndarray]],
) -> SampleErrors:
    """Compute the error of each sample over five cross-validations with different folds.

    The errors of one cross-validation do not show how much the error depends on the samples that a predictor is fitted
    on. The spread between several does, so that intervals cover the expected error. With groups it does not, because
    all share them, nor with few samples of a class that counts as much as the others. There, the first cross-validation
    of a classification is repeated without one block of groups, or of samples, after the other.

    For classification it is the 0-1 error. 1 - R2 and 1 - mean average precision are no means over samples. There, the
    error of a sample is that of all samples plus the influence of this one: by the linearization of a ratio for R2, and
    by leaving out one sample after the other for the precision. Influences are multiplied by `SPREAD`, and their mean
    is 0.

    Args:
        outputs: Outputs of a source on n samples.
        weight: What counts equally: `samples`, `groups` or `classes`. None for groups where there are groups. In the
            average precision, samples count equally.
        seed: Seed of the folds. The first cross-validation has the folds of `assign_folds` with this seed.
        predict: Function of a mask of r samples, shape (n,), and of their folds, shape (r,), in each cross-validation,
            that returns the predictions of each, shape (r, M). Rows of samples that are not predicted are NaN.

    References:
        Bouckaert and Frank, "Evaluating the replicability of significance tests for comparing learning algorithms",
        PAKDD 2004. Efron and Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981.
    """
    assignments = [assign_folds(outputs, seed + (repeat << 32)) for repeat in range(REPEATS)]
    predictions = predict(np.full(len(outputs), True), assignments)
    is_predicted = np.isfinite(predictions[0]).all(axis=1)
    units = unit_numbers(outputs.groups, len(outputs))
    groups = None if outputs.groups is None else units
    weighting = choose_weighting(weight, groups)
    if outputs.task == MULTI_LABEL:
        weighting, weights = "samples", np.full(len(outputs), 1 / len(outputs))
    else:
        weights = entry_weights(label_space(outputs.labels), groups, weighting)
    errors = np.array([_errors_by_sample(outputs, predicted, weights) for predicted in predictions])
    errors[:, ~is_predicted] = np.nan
    averages = errors[:, is_predicted] @ weights[is_predicted] / weights[is_predicted].sum()
    strata = outputs.labels if weighting == "classes" else None
    is_bounded = outputs.task == CLASSIFICATION
    changes = []
    for block in left_out_blocks(outputs, weight, seed):
        rest, judged = ~block, is_predicted & ~block
        folds = assignments[0][rest]
        if (folds != folds[0]).any() and judged.any():
            predicted = predict(rest, [folds])[0][is_predicted[rest]]
            wrong = predicted.argmax(axis=1) != outputs.labels[judged]
            changes.append(np.average(wrong - errors[0, judged], weights=weights[judged]))
    without = np.array(changes) if len(changes) > 1 else None
    return SampleErrors(errors.mean(axis=0), weights, units, averages, strata, seed, is_bounded, without)


def _errors_by_sample(outputs: SourceOutputs, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the error of each sample in one cross-validation, shape (n,).

    Args:
        outputs: Outputs with the true labels or values of n samples.
        predicted: Predictions, shape (n, M).
        weights: Weight of each sample, (n,).
    """
    if outputs.task == CLASSIFICATION:
        return np.asarray(predicted.argmax(axis=1) != outputs.labels, np.float64)
    truth = outputs.target_matrix
    if outputs.task == MULTI_LABEL:
        without = np.full(len(truth), 0.0)
        present = np.flatnonzero(truth.any(axis=0))
        for k in present:
            without += 1 - _precision_without_each(truth[:, k] > 0, predicted[:, k])
        change = -(len(truth) - 1) * without / max(len(present), 1)
        return np.asarray(prediction_error(outputs, predicted) + SPREAD * (change - change.mean()))
    variation = ((truth - np.average(truth, axis=0, weights=weights)) ** 2).sum(axis=1)
    squares = ((truth - predicted) ** 2).sum(axis=1)
    mean_variation = np.average(variation, weights=weights)
    if mean_variation == 0:
        return np.full(len(truth), np.nan)
    error = np.average(squares, weights=weights) / mean_variation
    return np.asarray(error + SPREAD * (squares - error * variation) / mean_variation)


def _precision_without_each(is_positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the average precision of all samples but one, for each of n samples, shape (n,).

    Without its only positive sample a class has no average precision; it is then that of all samples.

    Args:
        is_positive: True for samples of the class, (n,), at least one.
        scores: Score of each sample, (n,).
    """
    order = np.argsort(-scores, kind="stable")
    positive = is_positive[order]
    n_higher = np.searchsorted(-scores[order], -scores[order], side="left")
    n_at_least = np.searchsorted(-scores[order], -scores[order], side="right")
    hits = np.cumsum(positive)[n_at_least - 1]
    # A sample that is left out lowers the precision at all positives with its own score or a lower one.
    fewer = np.maximum(n_at_least - 1, 1)
    above, below, below_positive = (
        np.concatenate([[0.0], np.cumsum(positive * ratio)])
        for ratio in (hits / n_at_least, hits / fewer, (hits - 1) / fewer)
    )
    own = (hits - 1) / fewer
    sums = above[n_higher] + np.where(
        positive, below_positive[-1] - below_positive[n_higher] - own, below[-1] - below[n_higher]
    )
    n_left = positive.sum() - positive
    precision = np.empty(len(scores))
    precision[order] = np.where(n_left > 0, sums / np.maximum(n_left, 1), above[-1] / positive.sum())
    return precision
