"""Validation of the logits and labels that a discrepancy is estimated from."""

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError
from modgap.labels.label_space import LabelSpace, label_space
from modgap.labels.user_arrays import to_numpy
from modgap.storage.memory_map import release_pages

ROWS_NAMED = 5
ROWS_AT_A_TIME = 4096
LARGEST_EXACT_INTEGER = 2**24
"""All integers up to this one are exact in float32."""


def validate_logits(logits: ArrayLike) -> np.ndarray:
    """Return the logits as a read-only, C-contiguous float32 array (N, C) with the same order and ties in every row.

    The 0-1 discrepancy depends only on the order within a row. Logits that float32 cannot hold are therefore replaced
    by their dense ranks.

    Args:
        logits: Source logits, shape (N, C).

    Raises:
        InputError: If the array is not two-dimensional, not of real numbers, empty, has only one class, or has NaN or
            infinite values.
    """
    array = to_numpy(logits, "logits")
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"The logits have type {array.dtype} and shape {array.shape}. Expected real numbers of shape (N, C)."
        )
    if len(array) == 0:
        raise InputError(f"The logits have shape {array.shape}. Expected at least one sample.")
    if array.shape[1] < 2:
        raise InputError(f"The logits have shape {array.shape}. Expected at least two source classes.")
    _raise_if_not_finite(array)
    fits_float32 = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
    exact = np.ascontiguousarray(array, np.float32) if fits_float32 else _float32_in_order(array)
    # Numba compiles kernels for read-only arrays separately, and memory-mapped logits are read-only. All logits are
    # made read-only, so that the kernels are compiled once.
    exact = exact.view(np.ndarray)
    exact.flags.writeable = False
    return exact


def _raise_if_not_finite(array: np.ndarray) -> None:
    if array.dtype.kind != "f":
        return
    n_invalid = np.zeros(len(array), np.int64)
    for start in range(0, len(array), ROWS_AT_A_TIME):
        block = array[start : start + ROWS_AT_A_TIME]
        n_invalid[start : start + ROWS_AT_A_TIME] = (~np.isfinite(block)).sum(axis=1)
        release_pages(array)
    rows = np.flatnonzero(n_invalid)
    if len(rows):
        named = ", ".join(str(int(row)) for row in rows[:ROWS_NAMED])
        more = ", ..." if len(rows) > ROWS_NAMED else ""
        raise InputError(
            f"The logits have {n_invalid.sum()} NaN or infinite values in {len(rows)} of {len(array)} rows "
            f"({named}{more}). Expected finite logits. Drop these samples, or fix the model that computed them."
        )


def _float32_in_order(array: np.ndarray) -> np.ndarray:
    """Return float32 values with the same order and ties in each row: the same values if they fit, else dense ranks."""
    with np.errstate(over="ignore"):
        narrowed = np.ascontiguousarray(array, np.float32)
    # NumPy compares integers of 64 bits with floats as doubles, in which neighbors beyond 2**53 are equal.
    is_exact = (
        np.array_equal(narrowed, array)
        if array.dtype.kind == "f"
        else int(array.min()) >= -LARGEST_EXACT_INTEGER and int(array.max()) <= LARGEST_EXACT_INTEGER
    )
    if is_exact:
        return narrowed
    for i, row in enumerate(array):
        narrowed[i] = np.unique(row, return_inverse=True)[1]
    return narrowed


def validate_labels(labels: ArrayLike, n_samples: int) -> LabelSpace:
    """Return the label space of labels that belong to rows of logits.

    Args:
        labels: Integer labels (N,) or 0/1 labels (N, K).
        n_samples: Number N of rows of logits.

    Raises:
        InputError: If there is not one label for each row, or no row has a label.
    """
    array = to_numpy(labels, "labels")
    if array.ndim and len(array) != n_samples:
        raise InputError(
            f"There are {len(array)} labels for {n_samples} rows of logits. Expected one label for each row."
        )
    space = label_space(array)
    if len(space) == 0:
        raise InputError(f"None of the {n_samples} samples has a label. Expected at least one sample with a label.")
    return space
