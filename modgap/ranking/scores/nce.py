"""NCE: negative conditional entropy of the target's labels given the source's predicted classes."""

import numpy as np

from modgap.ranking.score import AT_MOST_ZERO, Score

__all__ = ["SCORE", "nce"]


def nce(predicted: np.ndarray, labels: np.ndarray) -> float:
    """-H(Y | Z), in nats (Tran, Nguyen and Hassner 2019).

    Args:
        predicted: Source class of the largest output of each sample, shape (n,).
        labels: Target classes, shape (n,).

    Returns:
        At most 0, where the predicted class determines the label. Higher is better.

    Example:
        >>> nce(np.array([3, 3, 7]), np.array([0, 0, 1]))
        0.0
    """
    given, z = np.unique(predicted, return_inverse=True)
    counts = np.zeros((int(labels.max()) + 1, len(given)))
    np.add.at(counts, (labels, z), 1)
    filled = counts > 0
    return float((counts[filled] * np.log((counts / counts.sum(axis=0))[filled])).sum() / len(labels)) + 0.0


SCORE = Score(
    "nce", "negative conditional entropy given the source's predicted class", "Tran et al., ICCV 2019",
    lambda evidence, seed: nce(evidence.probabilities.argmax(axis=1), evidence.labels), higher_is_better=True,
    bounds=AT_MOST_ZERO,
    needs_logits=True,
    usual=False,
)  # fmt: skip
