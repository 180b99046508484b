"""LEEP: how well the target's labels follow from the source's predicted classes, averaged softly."""

import numpy as np

from modgap.ranking.score import AT_MOST_ZERO, Score

__all__ = ["SCORE", "leep"]


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Log of the expected empirical prediction, mean over samples (Nguyen et al. 2020, equation 2).

    Args:
        probabilities: Of the source's classes for each sample, rows sum to 1, shape (n, Z).
        labels: Target classes 0..K-1, shape (n,).

    Returns:
        At most 0, which is perfect; about log(1 / K) for a source that tells nothing. Higher is better.

    Example:
        >>> round(leep(np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]]), np.array([0, 0, 1])), 4)
        -0.2449
    """
    joint = np.zeros((int(labels.max()) + 1, probabilities.shape[1]))
    for label in range(len(joint)):
        joint[label] = probabilities[labels == label].sum(axis=0)
    marginal = joint.sum(axis=0)
    # A class that no sample has a share of cannot predict; its shares are 0 everywhere.
    conditional = joint / np.where(marginal > 0, marginal, 1)
    return float(np.log(np.einsum("nz,nz->n", probabilities, conditional[labels])).mean())


SCORE = Score(
    "leep", "log expected empirical prediction through the source's classes", "Nguyen et al., ICML 2020",
    lambda evidence, seed: leep(evidence.probabilities, evidence.labels), higher_is_better=True,
    bounds=AT_MOST_ZERO, needs_logits=True,
)  # fmt: skip
