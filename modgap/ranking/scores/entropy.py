"""Mean entropy of a source's predictions: a score that does not use the labels."""

import numpy as np
from scipy.special import entr

from modgap.ranking.score import ALL_TASKS, ERROR_RATE, Score


def relative_entropy(probabilities: np.ndarray) -> float:
    """Return the mean entropy over samples, divided by its largest value log Z, in [0, 1]; NaN for one class.

    Args:
        probabilities: Probability of each source class for each sample, shape (n, Z). The rows sum to 1.

    Example:
        >>> relative_entropy(np.array([[0.5, 0.5], [1.0, 0.0]]))
        0.5
    """
    n_classes = probabilities.shape[1]
    if n_classes < 2:
        return float("nan")
    return float(entr(probabilities).sum(axis=1).mean() / np.log(n_classes))


SCORE = Score(
    name="entropy",
    title="mean entropy of the source's predictions, relative to its largest value; it does not use the labels",
    unit="share of log of the number of source classes",
    reference="a measure of confidence; a baseline for scores that use labels",
    compute=lambda outputs, _seed: relative_entropy(outputs.probabilities),
    higher_is_better=False,
    bounds=ERROR_RATE,
    tasks=ALL_TASKS,
    needs_logits=True,
    default=False,
)
