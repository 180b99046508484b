"""Checks of the features and labels that probes, maps and similarities are computed from."""

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError

ROWS_NAMED = 5


def validate_features(
    features: ArrayLike, role: str = "", *, owner: str | None = None, min_samples: int = 1
) -> np.ndarray:
    """Return features as an array, shape (n, D), after checking that they are finite real numbers and D >= 1.

    Args:
        features: The features, shape (n, D).
        role: Role of the samples, used in error messages: "training", "test", or empty.
        owner: Encoder or layer that the features come from, one of several, used in error messages. None if the
            features are the only ones.
        min_samples: Smallest number n of samples.

    Raises:
        InputError: When the features have another shape or type, are empty, or are not finite.
    """
    array = np.asarray(features)
    subject = _subject(role, "features") if owner is None else f"The features of {owner}"
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"{subject} have type {array.dtype} and shape {array.shape}. Expected real numbers of shape (n, D)."
        )
    if len(array) < min_samples or not array.shape[1]:
        samples = "one sample" if min_samples == 1 else f"{min_samples} samples"
        raise InputError(f"{subject} have shape {array.shape}. At least {samples} and one feature are needed.")
    if rows := describe_non_finite_rows(array):
        advice = "Remove these samples, or fix the encoder that computed the features."
        if owner is not None:
            advice = "Remove these samples for every encoder, or fix the encoder that computed them."
        raise InputError(f"{subject} have {rows}. {advice}")
    return array


def validate_labels(labels: ArrayLike, n_samples: int, role: str = "") -> np.ndarray:
    """Return labels as int64, shape (n,), after checking that there is one integer for each sample.

    Args:
        labels: The labels, shape (n,).
        n_samples: Number of samples n.
        role: Role of the samples, used in error messages.

    Raises:
        InputError: When the labels have another shape or type.
    """
    array = np.asarray(labels)
    if array.shape != (n_samples,) or array.dtype.kind not in "iu":
        raise InputError(
            f"{_subject(role, 'labels')} have type {array.dtype} and shape {array.shape}. "
            f"Expected integers of shape ({n_samples},), one for each sample."
        )
    return array.astype(np.int64)


def validate_samples(features: ArrayLike, labels: ArrayLike, role: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Return features, shape (n, D), and their labels, shape (n,), after checking both.

    Args:
        features: The features, shape (n, D).
        labels: The labels, shape (n,).
        role: Role of the samples, used in error messages.

    Raises:
        InputError: When the features or the labels cannot be used.
    """
    array = validate_features(features, role)
    return array, validate_labels(labels, len(array), role)


def class_numbers(labels: ArrayLike, n_samples: int) -> np.ndarray:
    """Return labels as class numbers 0..K-1 in the order of their values, shape (n,).

    Args:
        labels: Integer labels, shape (n,).
        n_samples: Number of samples n.

    Raises:
        InputError: When there is not one integer for each sample.
    """
    return np.unique(validate_labels(labels, n_samples), return_inverse=True)[1].ravel()


def describe_non_finite_rows(array: np.ndarray) -> str:
    """Return a description of the rows that have NaN or infinite values; an empty string if there are none.

    Args:
        array: Numbers, shape (n, D).
    """
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if not len(bad):
        return ""
    numbers = ", ".join(str(int(row)) for row in bad[:ROWS_NAMED])
    more = ", ..." if len(bad) > ROWS_NAMED else ""
    return f"NaN or infinite values in {len(bad)} of {len(array)} rows ({numbers}{more})"


def _subject(role: str, noun: str) -> str:
    return f"The {role} {noun}" if role else f"The {noun}"
