"""Cross-validation folds that keep groups together, and the error of predictions."""

import numpy as np

from modgap.probes.folds import stratified_folds
from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, SourceOutputs
from modgap.targets.splits import stratification_labels, stratified_keys

__all__ = ["assign_folds", "prediction_error", "sample_keys"]


def sample_keys(outputs: SourceOutputs, seed: int) -> np.ndarray:
    """Return a random key in [0, 1) for each sample, shape (n,).

    The keys are spread evenly over each class, and those of a group lie together.
    """
    return stratified_keys(stratification_labels(outputs.labels), outputs.groups, seed)


def assign_folds(outputs: SourceOutputs, seed: int) -> np.ndarray:
    """Assign each sample to one of five folds, stratified by class with groups kept together, shape (n,)."""
    return stratified_folds(stratification_labels(outputs.labels), outputs.groups, seed)


def prediction_error(outputs: SourceOutputs, predicted: np.ndarray) -> float:
    """Compute the error of predictions; lower is better.

    Args:
        outputs: Outputs with the true labels or values of n samples.
        predicted: Predictions, shape (n, M).

    Returns:
        For classification the error rate of the column with the largest prediction. For multi-label targets 1 - mean
        average precision. For regression 1 - R2, which is 1 for predicting the mean, and NaN for constant values.
    """
    if outputs.task == CLASSIFICATION:
        return float((predicted.argmax(axis=1) != outputs.labels).mean())
    truth = outputs.target_matrix
    if outputs.task == MULTI_LABEL:
        from sklearn.metrics import average_precision_score

        precisions = [average_precision_score(truth[:, k], predicted[:, k]) for k in range(truth.shape[1])]
        return float(1 - np.mean(precisions))
    variation = ((truth - truth.mean(axis=0)) ** 2).sum()
    return float(((truth - predicted) ** 2).sum() / variation) if variation > 0 else float("nan")
