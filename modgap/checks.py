"""Refuse logits and labels that no discrepancy is defined for, saying what is wrong with them."""

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError

__all__ = ["checked_labels", "checked_logits"]

ROWS_NAMED = 5
ROWS_AT_A_TIME = 4096


def checked_logits(logits: ArrayLike) -> np.ndarray:
    """Logits as C-contiguous float32 (N, C) with the same order and the same ties in every row.

    Float64 logits that float32 cannot hold are replaced by their dense ranks, since the 0-1
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
    exact = np.ascontiguousarray(array, np.float32) if array.dtype.itemsize <= 4 else _float32_in_order(array)
    return exact


def _refuse_not_finite(array: np.ndarray) -> None:
    if array.dtype.kind != "f":
        return
    bad = np.zeros(len(array), np.int64)
    for cut in range(0, len(array), ROWS_AT_A_TIME):
        bad[cut : cut + ROWS_AT_A_TIME] = (~np.isfinite(array[cut : cut + ROWS_AT_A_TIME])).sum(axis=1)
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


def checked_labels(labels: ArrayLike, n_samples: int, n_source_classes: int) -> tuple[np.ndarray, int]:
    """Labels as int64 (N,), and the number of target classes K.

    Raises:
        InputError: When the labels are not integers 0..K-1 that all occur, when there is one class,
            when their number is not `n_samples`, or when K exceeds the number of source classes.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"expected integer labels of shape (N,), got {array.dtype} {array.shape}")
    if len(array) != n_samples:
        raise InputError(f"expected one label for each of {n_samples} rows of logits, got {len(array)}")
    found = np.unique(array)
    if found[0] < 0:
        raise InputError(f"expected labels from 0, got {int(found[0])}; drop unlabelled samples or renumber")
    missing = np.setdiff1d(np.arange(min(int(found[-1]) + 1, len(array) + 1)), found)
    if len(missing):
        raise InputError(
            f"expected labels 0..K-1 without gaps, got {len(found)} different ones up to {int(found[-1])} "
            f"(first missing: {int(missing[0])}); renumber with numpy.unique(labels, return_inverse=True)"
        )
    if len(found) < 2:
        raise InputError("expected at least two target classes, got one; a discrepancy needs classes to tell apart")
    if len(found) > n_source_classes:
        raise InputError(
            f"expected at most as many target classes as source classes, got {len(found)} > {n_source_classes}; "
            "use a source with a larger head"
        )
    return array.astype(np.int64), len(found)
