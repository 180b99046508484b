"""GBC: how far the classes overlap, each a Gaussian."""

import numpy as np

from modgap.ranking.score import AT_MOST_ZERO, Score
from modgap.ranking.source_outputs import Evidence

__all__ = ["SCORE", "gbc"]

MOST_COMPONENTS = 64
VARIANCE_FLOOR = 1e-4


def gbc(features: np.ndarray, labels: np.ndarray) -> float:
    """Minus the sum over ordered pairs of classes of their Bhattacharyya coefficient (Pándy et al. 2022).

    The classes are Gaussians with diagonal covariances, whose variances are at least 1e-4.

    Args:
        features: Shape (n, D).
        labels: Target classes 0..K-1, shape (n,).

    Returns:
        In [-K (K - 1), 0]; 0 where no two classes overlap. Higher is better.
    """
    members = [features[labels == label] for label in range(int(labels.max()) + 1)]
    means = np.stack([each.mean(axis=0) for each in members])
    variances = np.maximum([each.var(axis=0) for each in members], VARIANCE_FLOOR)
    overlap = 0.0
    for number in range(len(members) - 1):
        middle = (variances[number] + variances[number + 1 :]) / 2
        apart = ((means[number] - means[number + 1 :]) ** 2 / middle).sum(axis=1) / 8
        roots = (np.log(variances[number]) + np.log(variances[number + 1 :])) / 2
        overlap += np.exp(-apart - (np.log(middle) - roots).sum(axis=1) / 2).sum()
    return -2 * float(overlap)


def _of(evidence: Evidence, seed: int) -> float:
    wide = evidence.features.shape[1] > MOST_COMPONENTS
    features = evidence.moments.projected(MOST_COMPONENTS) if wide else np.asarray(evidence.features, np.float64)
    return gbc(features, evidence.labels)


SCORE = Score(
    "gbc", "overlap of the classes as Gaussians, on 64 principal components", "Pándy et al., CVPR 2022", _of,
    higher_is_better=True, bounds=AT_MOST_ZERO, usual=False,
)  # fmt: skip
