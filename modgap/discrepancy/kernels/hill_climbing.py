"""Hill climbing by the best single moves and swaps until none of them helps."""

import numpy as np
from numba import njit

from modgap.discrepancy.kernels.gains import fill_gains, move

__all__ = ["climb", "highest_gain"]


@njit(nogil=True)
def highest_gain(gains):
    """Return the largest of the gains (C,) and the lowest class that has it."""
    highest = gains[0]
    for c in range(1, len(gains)):
        highest = max(highest, gains[c])
    c = 0
    while gains[c] < highest:
        c += 1
    return highest, c


@njit(cache=True, nogil=True)
def climb(source, state):
    """Move each target class in turn to its best source class, until no target class moves in a full round."""
    classes = len(state.chosen)
    gains = np.empty(len(state.owner), state.weights.dtype)
    k = 0
    n_unchanged = 0
    while n_unchanged < classes:
        fill_gains(source, state, k, gains)
        gain, target = highest_gain(gains)
        n_unchanged += 1
        if gain > 0:
            move(source, state, k, target)
            n_unchanged = 0
        k = (k + 1) % classes
