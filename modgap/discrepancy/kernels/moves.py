"""What both ways of knowing the gains of moves share: which class wins, what a swap is worth, how wide to count."""

import numpy as np
from numba import njit

__all__ = ["beats", "counter_of", "fill_swaps"]

NARROW = 1 << 28
"""Total weight up to which counters are 32 bits wide; twice it must fit."""


def counter_of(weights: np.ndarray) -> type:
    """Integers wide enough for gains of entries with these weights (E,)."""
    return np.int32 if int(weights.sum()) < NARROW else np.int64


@njit(inline="always")
def beats(row, c, d):
    """Whether class c ranks above class d in a row of logits (C,)."""
    return row[c] > row[d] or (row[c] == row[d] and c < d)


@njit(nogil=True)
def fill_swaps(state, k, found):
    """Matches gained where target class k exchanges source classes with another, into found (C,); 0 at its own."""
    confusion = state.confusion
    for j in range(len(state.chosen)):
        found[state.chosen[j]] = confusion[k, j] + confusion[j, k] - confusion[k, k] - confusion[j, j] if j != k else 0
