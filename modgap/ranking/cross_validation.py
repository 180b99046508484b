"""Cross-validation that keeps groups whole, and errors of what it predicts."""

import numpy as np

from modgap.ranking.source_outputs import CLASSIFICATION, MULTI_LABEL, Evidence
from modgap.targets.splits import stratification_labels, stratified_keys

__all__ = ["error_of", "folds_of", "halves_order"]

FOLDS = 5


def halves_order(evidence: Evidence, seed: int) -> np.ndarray:
    """A key in [0, 1) for each sample, evenly spread over each class, groups together, shape (n,)."""
    return stratified_keys(stratification_labels(evidence.labels), evidence.groups, seed)


def folds_of(evidence: Evidence, seed: int) -> np.ndarray:
    """Fold 0..4 of each sample, by class, groups kept whole, shape (n,)."""
    return (halves_order(evidence, seed) * FOLDS).astype(np.int64)


def error_of(evidence: Evidence, predicted: np.ndarray) -> float:
    """How wrong predictions (n, M) are; lower is better.

    Of classes the share of samples whose largest column is another; of multi-label data the mean of 1 - average
    precision; of values 1 - R2, which is 1 for predicting the mean.
    """
    if evidence.task == CLASSIFICATION:
        return float((predicted.argmax(axis=1) != evidence.labels).mean())
    truth = evidence.one_hot
    if evidence.task == MULTI_LABEL:
        from sklearn.metrics import average_precision_score

        return float(
            1 - np.mean([average_precision_score(truth[:, k], predicted[:, k]) for k in range(truth.shape[1])])
        )
    spread = ((truth - truth.mean(axis=0)) ** 2).sum()
    return float(((truth - predicted) ** 2).sum() / spread) if spread > 0 else float("nan")
