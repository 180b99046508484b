"""Predictions of a source model under one map of classes, and their errors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from modgap.discrepancy.kernels.predictions import fill_predictions
from modgap.label_space import LabelSpace

__all__ = ["confusion_matrix", "error_terms", "held_out_confusion", "predicted_classes"]


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
    predicted = np.empty(len(rows), np.int64)
    fill_predictions(logits, rows, np.asarray(source_classes)[target_classes], target_classes, predicted)
    return predicted


def error_terms(
    logits: np.ndarray, space: LabelSpace, samples: np.ndarray, source_classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the term 1 - P(pred|x) of each sample and its weight: equation (10), or its multi-label form.

    Args:
        logits: Source logits, shape (N', C).
        space: Labels of the N samples.
        samples: Numbers of M samples, shape (M,).
        source_classes: Source class of each target class, shape (K,).

    Returns:
        Terms in [0, 1], and weights relative to `space.unit`, both of shape (M,).
    """
    predicted = np.full(len(space), -1)
    predicted[samples] = predicted_classes(logits, space.rows[samples], source_classes)
    correct_weights = space.entry_weights * (space.labels == predicted[space.entry_samples])
    correct = np.add.reduceat(correct_weights, space.starts[:-1])[samples]
    total = space.sample_weights[samples]
    return 1 - correct / total, total / space.unit


def confusion_matrix(logits: np.ndarray, space: LabelSpace, source_classes: ArrayLike) -> np.ndarray:
    """Return the weight of the samples by label (rows) and prediction (columns) under one map, shape (K, K).

    Args:
        logits: Source logits, shape (N', C).
        space: Labels of the N samples.
        source_classes: Source class of each target class, shape (K,).
    """
    predicted = predicted_classes(logits, space.rows, np.asarray(source_classes))
    matrix = np.zeros((space.n_classes, space.n_classes))
    np.add.at(matrix, (space.labels, predicted[space.entry_samples]), space.entry_weights / space.unit)
    return matrix


def held_out_confusion(
    logits: np.ndarray, space: LabelSpace, tested: np.ndarray, halves: np.ndarray, maps: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the confusion matrix of maps that are tested on the half of the samples that did not choose them.

    Args:
        logits: Source logits, shape (N', C).
        space: Labels of the N samples.
        tested: Numbers of the M tested samples, shape (M,).
        halves: Half of each tested sample, 0 or 1, shape (M,).
        maps: The map chosen on half 0 and the map chosen on half 1, both of shape (K,).

    Returns:
        Weight of the tested samples by label (rows) and prediction (columns), shape (K, K).
    """
    matrix = np.zeros((space.n_classes, space.n_classes))
    for half in (0, 1):
        matrix += confusion_matrix(logits, space.subset(tested[halves == 1 - half]), maps[half])
    return matrix
