"""Refuse features and labels that no probe can be fitted on, saying what is wrong with them."""

import numpy as np
from numpy.typing import ArrayLike

from modgap.distortion.arrays import not_finite
from modgap.errors import InputError

__all__ = ["checked_features", "checked_labels", "checked_samples", "class_numbers"]


def checked_features(features: ArrayLike, what: str = "") -> np.ndarray:
    """Features (n, D) as they are, once known to be finite real numbers, n and D at least 1.

    Args:
        features: The array.
        what: Which samples these are, for the error: "training", "test".

    Raises:
        InputError: When they are not.
    """
    array = np.asarray(features)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"expected{_named(what)} features of shape (n, D) and a float type, got {array.dtype} {array.shape}"
        )
    if 0 in array.shape:
        raise InputError(
            f"expected at least one{_named(what)} sample and one feature, got features of shape {array.shape}"
        )
    if found := not_finite(array):
        raise InputError(
            f"expected finite{_named(what)} features, got {found}; drop these samples or mend the encoder that made "
            "them"
        )
    return array


def checked_labels(labels: ArrayLike, samples: int, what: str = "") -> np.ndarray:
    """Integer labels (n,), one for each of this many samples.

    Raises:
        InputError: When they are of another shape or type.
    """
    array = np.asarray(labels)
    if array.shape != (samples,) or array.dtype.kind not in "iu":
        raise InputError(
            f"expected{_named(what)} labels as integers of shape ({samples},), one a sample, got {array.dtype} "
            f"{array.shape}"
        )
    return array.astype(np.int64)


def _named(what: str) -> str:
    return f" {what}" if what else ""


def class_numbers(labels: ArrayLike, samples: int) -> np.ndarray:
    """Labels as class numbers 0..K-1 in the order of their values, (n,).

    Raises:
        InputError: When they are not one integer a sample.
    """
    return np.unique(checked_labels(labels, samples), return_inverse=True)[1]


def checked_samples(features: ArrayLike, labels: ArrayLike, what: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Features (n, D) and their labels (n,), both checked.

    Raises:
        InputError: When either is not what a probe takes.
    """
    array = checked_features(features, what)
    return array, checked_labels(labels, len(array), what)
