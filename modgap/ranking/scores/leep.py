"""LEEP: log-likelihood of the target's labels when they are predicted through the source's classes.

Its cross-validated version has a prior, and samples that its class probabilities were not fitted on.
"""

import numpy as np

from modgap.ranking.score import ALL_TASKS, NON_POSITIVE, Score
from modgap.ranking.scores.discrepancy import held_out_errors


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Compute the mean log of the expected empirical prediction over samples (equation 2 of the paper).

    Args:
        probabilities: Probability of each source class for each sample, shape (n, Z). The rows sum to 1.
        labels: Target classes 0..K-1, shape (n,).

    Returns:
        The score in nats, at most 0, which is perfect. It is about log(1 / K) for a source whose classes are unrelated
        to the labels. Higher is better.

    References:
        Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020.

    Example:
        >>> round(leep(np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]]), np.array([0, 0, 1])), 4)
        -0.2449
    """
    joint = np.zeros((int(labels.max()) + 1, probabilities.shape[1]))
    for label in range(len(joint)):
        joint[label] = probabilities[labels == label].sum(axis=0)
    marginal = joint.sum(axis=0)
    # A source class of probability 0 for every sample cannot predict anything; its column stays 0.
    conditional = joint / np.where(marginal > 0, marginal, 1)
    return float(np.log(np.einsum("nz,nz->n", probabilities, conditional[labels])).mean())


SCORES = (
    Score(
        name="leep",
        title="mean log-probability of the labels, predicted through the source's classes",
        unit="nats",
        reference="Nguyen et al., ICML 2020",
        compute=lambda outputs, _seed: leep(outputs.probabilities, outputs.labels),
        higher_is_better=True,
        bounds=NON_POSITIVE,
        needs_logits=True,
    ),
    Score(
        name="leep-held-out",
        title="LEEP on samples that it was not fitted on, over repeated splits",
        unit="nats",
        reference="Nguyen et al., ICML 2020, with a prior and on held-out samples",
        version=2,
        higher_is_better=True,
        bounds=NON_POSITIVE,
        tasks=ALL_TASKS,
        needs_logits=True,
        errors=lambda outputs, options, seed: held_out_errors(outputs, options, seed, "leep"),
        error_tasks=ALL_TASKS,
        uses_splits=True,
    ),
)
