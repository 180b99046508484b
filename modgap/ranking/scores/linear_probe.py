"""Cross-validated error of a linear probe on the features."""

import numpy as np
import scipy.linalg

from modgap.ranking.cross_validation import assign_folds, prediction_error
from modgap.ranking.score import ALL_TASKS, NON_NEGATIVE, Score
from modgap.ranking.source_outputs import SourceOutputs

__all__ = ["SCORE", "cross_validated_ridge"]

STRENGTHS = tuple(10.0**exponent for exponent in range(-3, 5))
"""L2 strengths per sample, on standardized features."""


def cross_validated_ridge(features: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Predict each fold by ridge regression fitted on the other folds.

    The L2 strength has the smallest squared error over all folds and is the same for all columns. The products of a
    fold are subtracted from those of all samples. Eight Cholesky factorizations take half the time of one
    eigendecomposition for all strengths.

    Args:
        features: Features, shape (n, D).
        targets: Targets, shape (n, M).
        folds: Fold of each sample, 0..F-1, shape (n,).

    Returns:
        Predictions, shape (n, M).
    """
    points = _standardize(features)
    predictions = np.empty((len(STRENGTHS), *targets.shape))
    gram = points.T @ points
    products = points.T @ targets
    for fold in range(int(folds.max()) + 1):
        test = folds == fold
        test_points = points[test]
        n_train = int((~test).sum())
        mean_point = (points.sum(axis=0) - test_points.sum(axis=0)) / n_train
        mean_target = (targets.sum(axis=0) - targets[test].sum(axis=0)) / n_train
        train_gram = gram - test_points.T @ test_points - n_train * np.outer(mean_point, mean_point)
        train_products = products - test_points.T @ targets[test] - n_train * np.outer(mean_point, mean_target)
        centered = test_points - mean_point
        for index, strength in enumerate(STRENGTHS):
            penalized = train_gram + strength * n_train * np.eye(len(train_gram))
            weights = scipy.linalg.solve(penalized, train_products, assume_a="pos")
            predictions[index, test] = mean_target + centered @ weights
    errors = ((predictions - targets) ** 2).sum(axis=(1, 2))
    best: np.ndarray = predictions[int(errors.argmin())]
    return best


def _standardize(features: np.ndarray) -> np.ndarray:
    """Standardize features, and rotate them into n dimensions if there are more features than samples."""
    spread = features.std(axis=0)
    standardized: np.ndarray = (features - features.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if standardized.shape[1] <= len(standardized):
        return standardized
    squares, vectors = scipy.linalg.eigh(standardized @ standardized.T)
    rotated: np.ndarray = vectors * np.sqrt(np.maximum(squares, 0))
    return rotated


def _compute(outputs: SourceOutputs, seed: int) -> float:
    features = np.asarray(outputs.features, np.float64)
    predicted = cross_validated_ridge(features, outputs.target_matrix, assign_folds(outputs, seed))
    return prediction_error(outputs, predicted)


SCORE = Score(
    name="linear-probe",
    title="error of a linear probe (ridge regression) on the features in 5-fold cross-validation",
    unit="error rate (1 - average precision for multi-label, 1 - R2 for regression)",
    reference="Alain and Bengio, 2016",
    compute=_compute,
    higher_is_better=False,
    bounds=NON_NEGATIVE,
    tasks=ALL_TASKS,
)
