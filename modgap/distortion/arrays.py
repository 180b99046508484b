"""What maps and similarity share: features and labels that were looked at, distances in blocks of rows."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from modgap.errors import InputError, UsageError

__all__ = [
    "blockwise",
    "centered_features",
    "checked_count",
    "not_finite",
    "one_thread",
    "squared_distances",
]

ROWS_NAMED = 5
BLOCK_BYTES = 1 << 25
T = TypeVar("T")


def centered_features(features: ArrayLike, name: str, least: int) -> np.ndarray:
    """Features as float64 (n, D) with mean 0 and a largest entry of 1, so that squares neither overflow nor vanish.

    Args:
        features: Features (n, D) of any real type.
        name: Whose they are, for the error.
        least: Samples that are needed.

    Raises:
        InputError: When they are not of this shape, too few, not finite, or the same for all samples.
    """
    array = np.asarray(features)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"expected features of shape (n, D) and a real type of {name}, got {array.dtype} {array.shape}"
        )
    if len(array) < least or not array.shape[1]:
        raise InputError(f"expected at least {least} samples with features of {name}, got features {array.shape}")
    _refuse_not_finite(array, name)
    scaled = array.astype(np.float64)
    scaled /= np.abs(scaled).max() or 1.0
    scaled -= scaled[0]  # Exact where nothing differs, unlike the mean.
    scaled -= scaled.mean(axis=0)
    largest = np.abs(scaled).max()
    if not largest:
        raise InputError(
            f"the features of {name} are the same for all {len(array)} samples, so nothing can be told apart; "
            "take an earlier layer, or leave this encoder out"
        )
    scaled /= largest
    return scaled


def _refuse_not_finite(array: np.ndarray, name: str) -> None:
    if found := not_finite(array):
        raise InputError(
            f"expected finite features of {name}, got {found}; leave these samples out for every encoder, or mend the "
            "one that made them"
        )


def not_finite(array: np.ndarray) -> str:
    """Which rows (n, D) are not finite, in words; nothing where all are."""
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if not len(bad):
        return ""
    named = ", ".join(str(int(row)) for row in bad[:ROWS_NAMED]) + (", ..." if len(bad) > ROWS_NAMED else "")
    return f"NaN or infinite values in {len(bad)} of {len(array)} rows ({named})"


def checked_count(name: str, value: int, low: int, high: int | None = None) -> int:
    """A whole number in [low, high].

    Raises:
        UsageError: When it is not.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise UsageError(
            f"expected {name} of {f'at least {low}' if high is None else f'{low} to {high}'}, got {value!r}"
        )
    return int(value)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS and OpenMP use one thread: how they share the work out between several changes the last bits."""
    with threadpool_limits(1):
        yield


def blockwise(function: Callable[[slice], T], rows: int, row_bytes: int, threads: int = 1) -> list[T]:
    """What a function gives for each block of rows, in order; the blocks do not depend on the number of threads.

    Args:
        function: Takes the block.
        rows: How many there are.
        row_bytes: What the function needs for one row, in bytes; a block stays below about 32 MB.
        threads: Blocks at a time.
    """
    size = max(1, BLOCK_BYTES // max(1, row_bytes))
    blocks = [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, blocks))


def squared_distances(points: np.ndarray, block: slice, norms: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of a block of rows to all, (b, n), at least 0; norms are the rows' squared norms."""
    squares = points[block] @ points.T
    squares *= -2
    squares += norms
    squares += norms[block, None]
    return np.maximum(squares, 0, out=squares)
