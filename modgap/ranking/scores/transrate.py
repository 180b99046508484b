"""TransRate: coding rate of the features minus their coding rate within the classes."""

import numpy as np

from modgap.ranking.score import Score
from modgap.ranking.source_outputs import Moments

EPSILON = 1e-4
"""Distortion that the coding allows, in the squared unit of the features."""


def transrate(moments: Moments, labels: np.ndarray) -> float:
    """Compute R(Z) - sum over classes of n_c / n R(Z_c), where R(Z) = logdet(I + Z'Z / (n EPSILON)) / 2.

    The code in the paper's appendix, which is widely copied, takes the plain mean over the classes in place of the
    formula's weights. The two agree for classes of equal size.

    Args:
        moments: Centered features Z, shape (n, D), and the variances of their principal components.
        labels: Target classes 0..K-1, shape (n,).

    Returns:
        The score in nats, at least 0. Higher is better. It depends on the features' unit.

    References:
        Huang et al., "Frustratingly Easy Transferability Estimation", ICML 2022.
    """
    counts = np.bincount(labels)
    n = len(labels)
    # The variances have the divisor n - 1, and the formula has n.
    total_rate = np.log1p(moments.variances * (n - 1) / (n * EPSILON)).sum() / 2
    class_rates = [_coding_rate(moments.centered[labels == label]) for label in range(len(counts))]
    return float(total_rate - counts / n @ np.array(class_rates))


def _coding_rate(points: np.ndarray) -> float:
    """Return R of some rows of Z, shape (n_c, D), in nats."""
    n, width = points.shape
    # Both products have the same nonzero eigenvalues.
    product = points.T @ points if width <= n else points @ points.T
    return 0.5 * float(np.linalg.slogdet(np.eye(len(product)) + product / (n * EPSILON))[1])


SCORE = Score(
    name="transrate",
    title="coding rate of the features minus their coding rate within the classes",
    unit="nats",
    reference="Huang et al., ICML 2022",
    compute=lambda outputs, _seed: transrate(outputs.moments, outputs.labels),
    higher_is_better=True,
    version=2,
)
