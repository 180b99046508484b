"""The terms of equation (11) under one given map."""

from collections.abc import Sequence

import numpy as np
from numba import njit

from modgap.label_space import LabelSpace

__all__ = ["confusion_matrix", "error_terms", "predicted_classes"]


@njit(cache=True, nogil=True)
def _predict(logits, rows, ordered, owners, predicted):
    """Target class whose source class has the largest logit; `ordered` rises, so ties go to the lowest."""
    for i in range(len(rows)):
        best = 0
        for k in range(1, len(ordered)):
            if logits[rows[i], ordered[k]] > logits[rows[i], ordered[best]]:
                best = k
        predicted[i] = owners[best]


def predicted_classes(logits: np.ndarray, rows: np.ndarray, source_classes: np.ndarray) -> np.ndarray:
    """Predicted target class of these rows under an injective map (K,); ties to the lowest source class.

    Example:
        >>> predicted_classes(np.array([[0, 2, 1], [5, 2, 5]], np.float32), np.arange(2), np.array([2, 0]))
        array([0, 1])
    """
    owners = np.argsort(source_classes)
    predicted = np.empty(len(rows), np.int64)
    _predict(logits, rows, np.asarray(source_classes)[owners], owners, predicted)
    return predicted


def error_terms(
    logits: np.ndarray, space: LabelSpace, samples: np.ndarray, source_classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """1 - P(pred|x) of each sample, and what the sample weighs. Equation (10), or its multi-label form.

    Args:
        logits: Source logits.
        space: Labels of the N samples.
        samples: Which of them, shape (M,).
        source_classes: The map, shape (K,).

    Returns:
        Terms in [0, 1] and weights relative to `space.unit`, both of shape (M,).
    """
    predicted = np.full(len(space), -1)
    predicted[samples] = predicted_classes(logits, space.rows[samples], source_classes)
    own = space.entry_weights * (space.labels == predicted[space.entry_samples])
    right = np.add.reduceat(own, space.starts[:-1])[samples]
    total = np.add.reduceat(space.entry_weights, space.starts[:-1])[samples]
    return 1 - right / total, total / space.unit


def confusion_matrix(logits: np.ndarray, space: LabelSpace, source_classes: Sequence[int]) -> np.ndarray:
    """Weight of samples by label (rows) and prediction (columns) under one map, shape (K, K)."""
    predicted = predicted_classes(logits, space.rows, np.asarray(source_classes))
    table = np.zeros((space.n_classes, space.n_classes))
    np.add.at(table, (space.labels, predicted[space.entry_samples]), space.entry_weights / space.unit)
    return table
