"""Predictions of a source model under one map of classes."""

import numpy as np

from modgap.discrepancy.kernels.predictions import fill_predictions
from modgap.discrepancy.threads import RESIDENT_BYTES
from modgap.storage.memory_map import release_pages


def predicted_classes(logits: np.ndarray, rows: np.ndarray, source_classes: np.ndarray) -> np.ndarray:
    """Return the predicted target class of each row under an injective map; ties go to the lowest source class.

    Args:
        logits: Source logits, shape (N', C).
        rows: Rows to predict, shape (N,).
        source_classes: Source class of each target class, shape (K,).

    Example:
        >>> predicted_classes(np.array([[0, 2, 1], [5, 2, 5]], np.float32), np.arange(2), np.array([2, 0]))
        array([0, 1])
    """
    target_classes = np.argsort(source_classes)
    sorted_classes = np.asarray(source_classes)[target_classes]
    predicted = np.empty(len(rows), np.int64)
    size = max(1, len(rows) * RESIDENT_BYTES // max(logits.nbytes, 1))
    for first in range(0, len(rows), size):
        part = slice(first, first + size)
        fill_predictions(logits, rows[part], sorted_classes, target_classes, predicted[part])
        release_pages(logits)
    return predicted
