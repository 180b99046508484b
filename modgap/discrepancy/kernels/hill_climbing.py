"""Climb from a map by its best single moves and swaps until none of them helps."""

import numpy as np
from numba import njit

from modgap.discrepancy.kernels.gains import fill_gains, move

__all__ = ["climb", "first_most"]


@njit(nogil=True)
def first_most(found):
    """(largest of the gains (C,), lowest class that has it)."""
    most = found[0]
    for c in range(1, len(found)):
        most = max(most, found[c])
    c = 0
    while found[c] < most:
        c += 1
    return most, c


@njit(cache=True, nogil=True)
def climb(source, state):
    """Take the target classes in turn, each to its best source class, until a whole round changes none."""
    classes = len(state.chosen)
    found = np.empty(len(state.owner), state.weights.dtype)
    k = idle = 0
    while idle < classes:
        fill_gains(source, state, k, found)
        gain, target = first_most(found)
        idle += 1
        if gain > 0:
            move(source, state, k, target)
            idle = 0
        k = (k + 1) % classes
