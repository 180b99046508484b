"""Parts that the two kinds of gains share: the order of classes, the gains of swaps, and the type of counters."""

import numpy as np
from numba import njit

from modgap.discrepancy.kernels.compilation import shared_kernel

NARROW = 1 << 28
"""Total weight from which counters are 64 bits wide; twice the total must fit into a counter."""


def counter_dtype(weights: np.ndarray) -> type[np.int32] | type[np.int64]:
    """Return an integer type that is wide enough for the gains of entries with these weights (E,)."""
    return np.int32 if int(weights.sum()) < NARROW else np.int64


@njit(inline="always")
def beats(row, c, d):
    """Return True if class c ranks above class d in a row of logits (C,)."""
    return row[c] > row[d] or (row[c] == row[d] and c < d)


@shared_kernel
def fill_swaps(confusion, chosen, k, out):
    """Write the matches gained if target class k swaps with another one into out (C,), at the taken source classes.

    The entry at the source class of k itself is 0.
    """
    for j in range(len(chosen)):
        out[chosen[j]] = confusion[k, j] + confusion[j, k] - confusion[k, k] - confusion[j, j] if j != k else 0
