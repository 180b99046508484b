"""LogME: evidence of a Bayesian linear model from features to what is to be predicted."""

import numpy as np

from modgap.ranking.score import ALL_TASKS, Score
from modgap.ranking.source_outputs import principal

__all__ = ["SCORE", "logme"]

ROUNDS, TOLERANCE, SMALL = 11, 1e-3, 1e-5


def logme(features: np.ndarray, targets: np.ndarray) -> float:
    """Maximum log evidence a sample, mean over columns of the targets (You et al. 2021, algorithm 1).

    Precisions alpha of the weights and beta of the noise go to their fixed point, at most eleven rounds. The number of
    weights is the rank of the features: the code that the authors published counts D / 2 ln alpha also where there are
    fewer samples than features, which rewards features for their number alone (of pure noise, 300 x 512, it gives about
    3 in place of -0.3).

    Args:
        features: Shape (n, D), as they are, not centered.
        targets: 0/1 of each class, or values, shape (n, M).

    Returns:
        Natural logarithm of the evidence divided by n; higher is better. It depends on the unit of values.
    """
    squares, projections = _projections(np.asarray(features, np.float64), targets)
    remainders = np.maximum((targets**2).sum(axis=0) - projections.sum(axis=0), 0)
    return float(np.mean([_evidence(squares, x2, r, len(features)) for x2, r in zip(projections.T, remainders)]))  # noqa: B905


def _projections(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squares of the nonzero singular values, (r,), and of the targets on the left vectors, (r, M)."""
    squares, right = principal(features)
    turned = right.T @ (features.T @ targets)
    return squares, turned**2 / np.maximum(squares, np.finfo(np.float64).tiny)[:, None]


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
