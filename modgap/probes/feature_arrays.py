"""Centered features, checked counts, and distances in blocks of rows, which maps and similarities share."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError, UsageError
from modgap.probes.input_checks import validate_features
from modgap.probes.single_thread import single_blas_thread

BLOCK_BYTES = 1 << 25
T = TypeVar("T")


def center_features(features: ArrayLike, owner: str, min_samples: int) -> np.ndarray:
    """Return features as float64, shape (n, D), with mean 0 and a largest entry of 1.

    With this scale squares neither overflow nor vanish.

    Args:
        features: Features of any real type, shape (n, D).
        owner: Encoder or layer that the features come from, used in error messages.
        min_samples: Smallest number of samples that is accepted.

    Raises:
        InputError: When the features have another shape or type, have too few samples, are not finite, or are the same
            for all samples.
    """
    array = validate_features(features, owner=owner, min_samples=min_samples)
    scaled = array.astype(np.float64)
    scaled /= np.abs(scaled).max() or 1.0
    scaled -= scaled[0]  # Exact for features that are the same for all samples, unlike the mean.
    scaled -= scaled.mean(axis=0)
    largest = np.abs(scaled).max()
    if not largest:
        raise InputError(
            f"The features of {owner} are the same for all {len(array)} samples. "
            "Use an earlier layer, or leave this encoder out."
        )
    scaled /= largest
    return scaled


def validate_count(name: str, value: int, low: int, high: int | None = None) -> int:
    """Return an integer after checking that it is in [low, high].

    Args:
        name: Name of the option, used in the error message.
        value: The integer.
        low: Smallest accepted value.
        high: Largest accepted value; None if there is none.

    Raises:
        UsageError: When the value is not an integer in this range.
    """
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"{low} to {high}"
        raise UsageError(f"{name} is {value!r}. Expected an integer, {limits}.")
    return int(value)


def map_blocks(function: Callable[[slice], T], n_rows: int, row_bytes: int) -> list[T]:
    """Return the results of a function for successive blocks of rows.

    Args:
        function: Function of the slice of rows in a block.
        n_rows: Total number of rows.
        row_bytes: Memory that the function needs for one row, in bytes; a block needs less than about 32 MB.
    """
    size = max(1, BLOCK_BYTES // max(1, row_bytes))
    with single_blas_thread():
        return [function(slice(start, min(start + size, n_rows))) for start in range(0, n_rows, size)]


def squared_distances(points: np.ndarray, block: slice, norms: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances of a block of rows to all rows, shape (b, n), at least 0.

    Args:
        points: All rows, shape (n, D).
        block: Rows from which distances are measured.
        norms: Squared norm of each row, shape (n,).
    """
    squares = points[block] @ points.T
    squares *= -2
    squares += norms
    squares += norms[block, None]
    return np.asarray(np.maximum(squares, 0, out=squares))
