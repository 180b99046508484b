"""Refuse logits and labels that no discrepancy is defined for, saying what is wrong with them."""

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError
from modgap.storage.memory_map import forget_pages

__all__ = ["validate_logits"]

ROWS_NAMED = 5
ROWS_AT_A_TIME = 4096


def validate_logits(logits: ArrayLike) -> np.ndarray:
    """Logits as C-contiguous float32 (N, C) with the same order and the same ties in every row; read-only.

    Logits that float32 cannot hold are replaced by their dense ranks, since the 0-1
    discrepancy depends on nothing but the order within a row.

    Raises:
        InputError: When the array is not two-dimensional, not of real numbers, empty, has one class,
            or has NaN or infinite values.
    """
    array = np.asarray(logits)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(f"expected logits of shape (N, C) and a float type, got {array.dtype} {array.shape}")
    if len(array) == 0:
        raise InputError(f"expected at least one sample, got logits of shape {array.shape}")
    if array.shape[1] < 2:
        raise InputError(f"expected at least two source classes, got logits of shape {array.shape}")
    _refuse_not_finite(array)
    holds = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
    exact = np.ascontiguousarray(array, np.float32) if holds else _float32_in_order(array)
    # Numba compiles read-only arrays apart, and mapped logits are read-only: all are, so that once will do.
    exact = exact.view(np.ndarray)
    exact.flags.writeable = False
    return exact


def _refuse_not_finite(array: np.ndarray) -> None:
    if array.dtype.kind != "f":
        return
    bad = np.zeros(len(array), np.int64)
    for cut in range(0, len(array), ROWS_AT_A_TIME):
        bad[cut : cut + ROWS_AT_A_TIME] = (~np.isfinite(array[cut : cut + ROWS_AT_A_TIME])).sum(axis=1)
    forget_pages(array)
    bad_rows = np.flatnonzero(bad)
    if len(bad_rows):
        named = ", ".join(str(int(row)) for row in bad_rows[:ROWS_NAMED])
        more = ", ..." if len(bad_rows) > ROWS_NAMED else ""
        raise InputError(
            f"expected finite logits, got {bad.sum()} NaN or infinite values in {len(bad_rows)} of {len(array)} "
            f"rows ({named}{more}); drop these samples or mend the model that made them"
        )


def _float32_in_order(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrowed = np.ascontiguousarray(array, np.float32)
    if np.array_equal(narrowed, array):
        return narrowed
    for i, row in enumerate(array):
        narrowed[i] = np.unique(row, return_inverse=True)[1]
    return narrowed
