"""LogME: log evidence of a Bayesian linear model from the features to the targets."""

import numpy as np

from modgap.ranking.score import ALL_TASKS, Score
from modgap.ranking.source_outputs import bound_magnitudes, principal_components

MAX_ITERATIONS = 11
TOLERANCE = 1e-3
"""Relative change of alpha / beta at which the iteration stops."""
EPSILON = 1e-5
"""Added to denominators."""


def logme(features: np.ndarray, targets: np.ndarray) -> float:
    """Compute the maximum log evidence per sample, averaged over the columns of the targets (algorithm 1).

    The precisions alpha of the weights and beta of the noise are iterated to their fixed point, at most eleven times.
    The number of weights is the rank of the features. The code that the authors published counts D / 2 ln alpha even if
    there are fewer samples than features, which rewards features for their number alone: for pure noise of shape
    300 x 512 it gives about 3 instead of -0.3. Features that are all zero have rank 0 and no weights, so that their
    evidence is that of Gaussian noise around zero.

    Args:
        features: Features, not centered, shape (n, D).
        targets: 0/1 for each class, or real values, shape (n, M).

    Returns:
        The natural logarithm of the evidence divided by n, in nats per sample. Higher is better. It depends on the unit
        of real values.

    References:
        You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021.
    """
    # Squared nonzero singular values (r,), and squared projections of the targets on the left vectors (r, M).
    bounded = bound_magnitudes(features)
    squares, right_vectors = principal_components(bounded)
    rotated = right_vectors.T @ (bounded.T @ targets)
    projections = rotated**2 / np.maximum(squares, np.finfo(np.float64).tiny)[:, None]
    squares, projections = squares[squares > 0], projections[squares > 0]
    remainders = np.maximum((targets**2).sum(axis=0) - projections.sum(axis=0), 0)
    evidences = [
        _evidence(squares, x2, remainder, len(features))
        for x2, remainder in zip(projections.T, remainders, strict=True)
    ]
    return float(np.mean(evidences))


def _evidence(sigma: np.ndarray, x2: np.ndarray, remainder: float, n: int) -> float:
    if not len(sigma):
        beta = n / (remainder + EPSILON)
        return float(n * np.log(beta) - beta * remainder - n * np.log(2 * np.pi)) / 2 / n
    alpha = beta = 1.0
    residual = weights = 0.0
    for _ in range(MAX_ITERATIONS):
        ratio = alpha / beta
        explained = (sigma / (sigma + ratio)).sum()
        weights = (sigma * x2 / (ratio + sigma) ** 2).sum()
        residual = (x2 / (1 + sigma / ratio) ** 2).sum() + remainder
        alpha = explained / (weights + EPSILON)
        beta = (n - explained) / (residual + EPSILON)
        if abs(alpha / beta - ratio) / ratio <= TOLERANCE:
            break
    log_determinants = len(sigma) * np.log(alpha) + n * np.log(beta) - np.log(alpha + beta * sigma).sum()
    return float(log_determinants - beta * residual - alpha * weights - n * np.log(2 * np.pi)) / 2 / n


SCORE = Score(
    name="logme",
    title="log evidence of a Bayesian linear model on the features, per sample",
    unit="nats per sample",
    reference="You et al., ICML 2021",
    compute=lambda outputs, _seed: logme(outputs.features, outputs.target_matrix),
    higher_is_better=True,
    tasks=ALL_TASKS,
    version=2,
)
