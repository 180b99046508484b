"""TransRate: coding rate of the features less that within the classes."""

import numpy as np

from modgap.ranking.score import Score
from modgap.ranking.source_outputs import Moments

__all__ = ["SCORE", "transrate"]

EPSILON = 1e-4


def transrate(moments: Moments, labels: np.ndarray, epsilon: float = EPSILON) -> float:
    """R(Z) - sum over classes of n_c / n R(Z_c) with R(Z) = logdet(I + Z'Z / (n epsilon)) / 2 (Huang et al. 2022).

    Args:
        moments: Of the features.
        labels: Target classes 0..K-1, shape (n,).
        epsilon: Distortion that coding allows, in the features' squared unit.

    Returns:
        At least 0; higher is better. It depends on the features' unit.
    """
    counts, n = np.bincount(labels), len(labels)
    whole = np.log1p(moments.variances * (n - 1) / (n * epsilon)).sum() / 2
    within = [_rate(moments.centered[labels == label], epsilon) for label in range(len(counts))]
    return float(whole - counts / n @ np.array(within))


def _rate(points: np.ndarray, epsilon: float) -> float:
    n, width = points.shape
    # Both products have the same eigenvalues but for zeros.
    product = points.T @ points if width <= n else points @ points.T
    return 0.5 * float(np.linalg.slogdet(np.eye(len(product)) + product / (n * epsilon))[1])


SCORE = Score(
    "transrate", "coding rate of the features less that within classes", "Huang et al., ICML 2022",
    lambda evidence, seed: transrate(evidence.moments, evidence.labels), higher_is_better=True,
)  # fmt: skip
