"""NCE: negative conditional entropy of the target's labels given the source's predicted classes."""

import numpy as np

from modgap.ranking.score import NON_POSITIVE, Score


def nce(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Compute the negative conditional entropy -H(Y | Z).

    Args:
        predicted: Source class with the largest output for each sample, shape (n,).
        labels: Target classes 0..K-1, shape (n,).

    Returns:
        The score in nats, at most 0. It is 0 if the predicted class determines the label. Higher is better.

    References:
        Tran, Nguyen and Hassner, "Transferability and Hardness of Supervised Classification Tasks", ICCV 2019.

    Example:
        >>> nce(np.array([3, 3, 7]), np.array([0, 0, 1]))
        0.0
    """
    classes, z = np.unique(predicted, return_inverse=True)
    counts = np.zeros((int(labels.max()) + 1, len(classes)))
    np.add.at(counts, (labels, z), 1)
    nonzero = counts > 0
    # Adding 0.0 turns -0.0 into 0.0.
    return float((counts[nonzero] * np.log((counts / counts.sum(axis=0))[nonzero])).sum() / len(labels)) + 0.0


SCORE = Score(
    name="nce",
    title="negative conditional entropy of the labels given the source's predicted class",
    unit="nats",
    reference="Tran et al., ICCV 2019",
    compute=lambda outputs, _seed: nce(outputs.probabilities.argmax(axis=1), outputs.labels),
    higher_is_better=True,
    bounds=NON_POSITIVE,
    needs_logits=True,
    default=False,
)
