"""Linear probes by least squares with an L2 penalty (ridge regression), in closed form.

`ridge_path` fits classes and gives exact leave-one-out errors, for probes of distortion. `fit_ridge` fits any values,
for baselines. `cross_validated_ridge` predicts each fold from the others, for scores.
"""

from collections.abc import Sequence

import numpy as np
import scipy.linalg
from sklearn.preprocessing import StandardScaler

STRENGTHS_PER_SAMPLE = tuple(10.0**exponent for exponent in range(-3, 5))
"""L2 strengths of `cross_validated_ridge`, each multiplied by the number of training samples."""


def ridge_path(
    features: np.ndarray, labels: np.ndarray, strengths: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit least squares on 0/1 targets, with an L2 penalty on everything but the intercept, for every strength.

    The leave-one-out predictions are exact: y_i - (y_i - f(x_i)) / (1 - h_ii), where h is the diagonal of the hat
    matrix, including the intercept's 1 / n. One eigendecomposition of the smaller of the (D, D) and (n, n) products
    serves all strengths.

    Args:
        features: Features, shape (n, D), finite and standardized.
        labels: Class of each sample, 0..K-1, shape (n,).
        strengths: L2 strengths S, positive, `alpha` of scikit-learn's Ridge.

    Returns:
        Weights of the features with one row for each class, shape (S, K, D), intercepts (S, K), and the exact
        leave-one-out error rate of each strength in [0, 1], shape (S,).

    Example:
        >>> ridge_path(np.array([[0.0], [1], [4], [5]]), np.array([0, 0, 1, 1]), [1.0])[2]
        array([0.])
    """
    targets = np.eye(int(labels.max()) + 1)[labels]
    target_means = targets.mean(0)
    left, singular_values, right = _decompose(features - features.mean(0))
    projected = left.T @ (targets - target_means)
    squares = singular_values**2
    errors = []
    for strength in strengths:
        shrinkage = squares / (squares + strength)
        fitted = target_means + left @ (shrinkage[:, None] * projected)
        leverage = 1 / len(labels) + (left**2) @ shrinkage
        left_out = targets - (targets - fitted) / np.maximum(1 - leverage, 1e-12)[:, None]
        errors.append(float((left_out.argmax(1) != labels).mean()))
    shrunk = [singular_values / (squares + strength) for strength in strengths]
    weights = np.stack([(factors[:, None] * projected).T @ right.T for factors in shrunk])
    intercepts = target_means - weights @ features.mean(0)
    return weights, intercepts, np.array(errors)


def fit_ridge(features: np.ndarray, targets: np.ndarray, strengths: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Fit least squares with an L2 penalty on everything but the intercept, for every strength.

    Args:
        features: Features, shape (n, D), finite.
        targets: Values to predict, shape (n, M).
        strengths: L2 strengths, positive, `alpha` of scikit-learn's Ridge.

    Returns:
        Weights (S, M, D) and intercepts (S, M).

    Example:
        >>> weights, intercepts = fit_ridge(np.array([[0.0], [2.0]]), np.array([[0.0], [2.0]]), [2.0])
        >>> float(weights[0, 0, 0]), float(intercepts[0, 0])
        (0.5, 0.5)
    """
    feature_means, target_means = features.mean(0), targets.mean(0)
    centered, differences = features - feature_means, targets - target_means
    n, width = centered.shape
    if n >= width:
        squares, vectors = scipy.linalg.eigh(centered.T @ centered)
        projected = vectors.T @ (centered.T @ differences)
        weights = np.stack([(vectors @ (projected / (squares + strength)[:, None])).T for strength in strengths])
    else:
        # In the space of the samples, so that nothing of the size of features times samples is multiplied twice.
        squares, vectors = scipy.linalg.eigh(centered @ centered.T)
        projected = vectors.T @ differences
        shares = [vectors @ (projected / (squares + strength)[:, None]) for strength in strengths]
        weights = (np.concatenate(shares, axis=1).T @ centered).reshape(len(strengths), targets.shape[1], width)
    return weights, target_means - weights @ feature_means


def _decompose(centered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return left singular vectors (n, r), the singular values (r,) above zero, and right singular vectors (D, r)."""
    n, width = centered.shape
    squares, vectors = scipy.linalg.eigh(centered @ centered.T if n < width else centered.T @ centered)
    nonzero = squares > squares[-1] * max(n, width) * np.finfo(np.float64).eps
    singular_values = np.sqrt(squares[nonzero])
    vectors = vectors[:, nonzero]
    if n < width:
        return vectors, singular_values, centered.T @ vectors / singular_values
    return centered @ vectors / singular_values, singular_values, vectors


def cross_validated_ridge(features: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Predict the targets of each fold by least squares with an L2 penalty, fitted on the other folds.

    The L2 strength is the one of `STRENGTHS_PER_SAMPLE` with the smallest squared error over all folds, the same for
    all targets. Features are standardized once over all samples. The products of each fold are subtracted from those
    of all samples. One Cholesky factorization for each of eight strengths takes half the time of one eigendecomposition
    for all of them.

    Args:
        features: Features, shape (n, D), finite.
        targets: Values to predict, or 0/1 for each class, shape (n, M).
        folds: Fold of each sample, 0..F-1, shape (n,).

    Returns:
        Predictions, shape (n, M).
    """
    points = _standardize(features)
    predictions = np.empty((len(STRENGTHS_PER_SAMPLE), *targets.shape))
    gram = points.T @ points
    products = points.T @ targets
    for fold in range(int(folds.max()) + 1):
        test = folds == fold
        test_points = points[test]
        n_train = int((~test).sum())
        feature_means = (points.sum(axis=0) - test_points.sum(axis=0)) / n_train
        target_means = (targets.sum(axis=0) - targets[test].sum(axis=0)) / n_train
        train_gram = gram - test_points.T @ test_points - n_train * np.outer(feature_means, feature_means)
        train_products = products - test_points.T @ targets[test] - n_train * np.outer(feature_means, target_means)
        for number, strength in enumerate(STRENGTHS_PER_SAMPLE):
            penalized = train_gram + strength * n_train * np.eye(len(train_gram))
            weights = scipy.linalg.solve(penalized, train_products, assume_a="pos")
            predictions[number, test] = target_means + (test_points - feature_means) @ weights
    errors = ((predictions - targets) ** 2).sum(axis=(1, 2))
    return np.asarray(predictions[int(errors.argmin())])


def _standardize(features: np.ndarray) -> np.ndarray:
    """Return standardized features, rotated into n dimensions where there are more features than samples."""
    standardized = np.asarray(StandardScaler().fit_transform(features))
    if standardized.shape[1] <= len(standardized):
        return standardized
    squares, vectors = scipy.linalg.eigh(standardized @ standardized.T)
    return np.asarray(vectors * np.sqrt(np.maximum(squares, 0)))
