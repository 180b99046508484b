"""LogME: evidence of a Bayesian linear model from features to what is to be predicted."""

import numpy as np
import scipy.linalg

from modgap.ranking.score import ALL_TASKS, Score

__all__ = ["SCORE", "logme"]

ROUNDS, TOLERANCE, SMALL = 11, 1e-3, 1e-5


def logme(features: np.ndarray, targets: np.ndarray) -> float:
    """Maximum log evidence a sample, mean over columns of the targets (You et al. 2021, algorithm 1).

    Precisions alpha of the weights and beta of the noise go to their fixed point, at most eleven rounds. The number of
    weights is the rank of the features: the code that the authors published counts D / 2 ln alpha also where there are
    fewer samples than features, which rewards features for their number alone (of pure noise, 300 x 512, it gives about
    3 in place of -0.3).

    Args:
        features: Shape (n, D), as they are, not centred.
        targets: 0/1 of each class, or values, shape (n, M).

    Returns:
        Natural logarithm of the evidence divided by n; higher is better. It depends on the unit of values.
    """
    left, squares = _left_vectors(np.asarray(features, np.float64))
    projections = (left.T @ targets) ** 2
    remainders = np.maximum((targets**2).sum(axis=0) - projections.sum(axis=0), 0)
    return float(np.mean([_evidence(squares, x2, r, len(features)) for x2, r in zip(projections.T, remainders)]))  # noqa: B905


def _left_vectors(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (n, k) of the nonzero singular values, and their squares (k,)."""
    n, width = features.shape
    if n > 2 * width:
        # A thin matrix of the same singular values, three times faster than decomposing the tall one.
        basis, triangle = scipy.linalg.qr(features, mode="economic", check_finite=False)
        left, values, _ = scipy.linalg.svd(triangle, full_matrices=False, check_finite=False)
        left = basis @ left
    else:
        left, values, _ = scipy.linalg.svd(features, full_matrices=False, check_finite=False)
    kept = values > (values.max() if len(values) else 0) * max(n, width) * np.finfo(np.float64).eps
    return left[:, kept], values[kept] ** 2


def _evidence(sigma: np.ndarray, x2: np.ndarray, rest: float, n: int) -> float:
    alpha = beta = 1.0
    residual = weights = 0.0
    for _ in range(ROUNDS):
        ratio = alpha / beta
        explained = (sigma / (sigma + ratio)).sum()
        weights = (sigma * x2 / (ratio + sigma) ** 2).sum()
        residual = (x2 / (1 + sigma / ratio) ** 2).sum() + rest
        alpha = explained / (weights + SMALL)
        beta = (n - explained) / (residual + SMALL)
        if abs(alpha / beta - ratio) / ratio <= TOLERANCE:
            break
    spread = len(sigma) * np.log(alpha) + n * np.log(beta) - np.log(alpha + beta * sigma).sum()
    return float(spread - beta * residual - alpha * weights - n * np.log(2 * np.pi)) / 2 / n


SCORE = Score(
    "logme", "log evidence of a Bayesian linear model on the features", "You et al., ICML 2021",
    lambda evidence, seed: logme(evidence.features, evidence.one_hot), higher_is_better=True, tasks=ALL_TASKS,
)  # fmt: skip
