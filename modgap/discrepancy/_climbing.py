"""Climb from a map by its best single moves and swaps until none of them helps."""

from numba import njit

from modgap.discrepancy._tables import move

__all__ = ["climb", "swap_gain"]


@njit(inline="always")
def swap_gain(confusion, k, other):
    """Matches gained when two target classes exchange their source classes."""
    return confusion[k, other] + confusion[other, k] - confusion[k, k] - confusion[other, other]


@njit(nogil=True)
def _best_move(state, k):
    """(matches gained, source class) of the best that target class k can do; ties to the lowest class."""
    gains, losses = state.gains[k], state.losses
    most = gains[0] - losses[0]
    for c in range(1, len(losses)):
        most = max(most, gains[c] - losses[c])
    best, target = most + state.bases[k], -1
    for c in range(len(losses)):
        if gains[c] - losses[c] == most:
            target = c
            break
    for other in range(len(state.chosen)):
        gain = swap_gain(state.confusion, k, other)
        if other != k and gain > best:
            best, target = gain, state.chosen[other]
    return best, target


@njit(cache=True, nogil=True)
def climb(ranks, state):
    """Take the target classes in turn, each to its best source class, until a whole round changes none."""
    classes = len(state.chosen)
    k = idle = 0
    while idle < classes:
        gain, target = _best_move(state, k)
        idle += 1
        if gain > 0:
            move(ranks, state, k, target)
            idle = 0
        k = (k + 1) % classes
