"""Entity F1 of predicted labels of words."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modgap.probes.input_checks import validate_labels

__all__ = ["EntityF1", "entity_f1"]


@dataclass(frozen=True)
class EntityF1:
    """F1 of words over all classes except the outside class; each sample is one labeled word.

    Attributes:
        value: Micro F1, in [0, 1], higher is better; NaN if no word has such a class or is predicted to have one.
        precision: Share of the words predicted to have a class that do have it; NaN if there are none.
        recall: Share of the words with a class for which it is predicted; NaN if there are none.
    """

    value: float
    precision: float
    recall: float


def entity_f1(predicted: ArrayLike, truth: ArrayLike, outside: int) -> EntityF1:
    """Compute the micro F1 over all classes of words except the outside class.

    An error rate means little where most words are outside. This F1 counts words, not entities of several words.

    Args:
        predicted: Predicted labels, shape (n,).
        truth: True labels, shape (n,).
        outside: Label of words that belong to no class.

    Raises:
        InputError: When labels are not integers, or their numbers differ.

    Example:
        >>> entity_f1([0, 1, 2, 0], [0, 1, 1, 2], outside=0).value
        0.4
    """
    true_labels = validate_labels(truth, np.size(truth), "test")
    predictions = validate_labels(predicted, len(true_labels), "predicted")
    inside = true_labels != outside
    correct = int(((predictions == true_labels) & inside).sum())
    positives = int(inside.sum())
    predicted_positives = int((predictions != outside).sum())
    return EntityF1(
        value=_ratio(2 * correct, positives + predicted_positives),
        precision=_ratio(correct, predicted_positives),
        recall=_ratio(correct, positives),
    )


def _ratio(part: int, total: int) -> float:
    return part / total if total else float("nan")
