"""Certified bounds on the infimum of Definition 2.1."""

import numpy as np
from scipy.optimize import linear_sum_assignment

__all__ = ["upper_bound"]


def upper_bound(logits: np.ndarray, labels: np.ndarray, n_classes: int) -> float:
    """Upper bound on the smallest 0-1 discrepancy over all injective maps, without any search.

    A sample whose largest logit over ALL source classes is its label's class is right under every
    map that chooses this class, whatever the others. So the best assignment of target to source
    classes by those counts gets at least its own count right.

    Args:
        logits: Source logits (N, C).
        labels: Target labels 0..K-1 (N,).
        n_classes: K.

    Returns:
        A share of samples in [0, 1].

    Example:
        >>> upper_bound(np.array([[0., 1, 2], [3, 1, 0], [2, 1, 0]]), np.array([0, 1, 0]), 2)
        0.33333333333333337
    """
    counts = np.zeros((n_classes, logits.shape[1]), np.int64)
    np.add.at(counts, (labels, logits.argmax(axis=1)), 1)
    picked = linear_sum_assignment(counts, maximize=True)
    return float(1 - counts[picked].sum() / len(labels))
