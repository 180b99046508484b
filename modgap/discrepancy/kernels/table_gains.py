"""The gain of every single move of a map, kept up to date while the map changes.

For each sample the best and the second-best chosen class are kept. Moving target class k to source
class c changes a sample's prediction only if c ranks above its best chosen class, or if k is its best:
then the second-best takes over unless c ranks above that. So the matches gained by the move are

    bases[k] + gains[k, c] - losses[c]

where each sample adds to the tables at the classes ranked above its best and second-best only. A move
touches the samples in which the class given up or the class taken ranks no lower than the second-best:
these are found in an index by class. Ranks that were not kept are replaced by comparing logits.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from modgap.discrepancy.kernels.moves import beats, counter_of, fill_swaps
from modgap.discrepancy.ranks import Ranking

__all__ = ["Ranks", "State", "fill_gains", "move", "new_state", "ranks_of", "restart_from"]


class Ranks(NamedTuple):
    """Leading classes (E, R) of samples that are rows (E,) of logits (N, C), and their index by class."""

    logits: np.ndarray
    rows: np.ndarray
    leading: np.ndarray
    firsts: np.ndarray
    samples: np.ndarray
    ranks: np.ndarray


class State(NamedTuple):
    """A map and all that follows from it.

    labels (E,) and weights (E,); chosen (K,) is the map and owner (C,) its inverse, -1 for free; best and
    second (E,) are target classes, and above_best and above_second (E,) their ranks, R where they are not
    among the kept;
    gains (K, C), losses (C,), bases (K,) as above; confusion (K, K) counts by label and prediction;
    deep (E,) lists the samples whose second-best is not among the kept, size (1,) says how many;
    occupied (1,) is added to `losses` where a source class is chosen, so that no single move goes there;
    touched (E,) and marked (E,) are working space, marked all False between calls.
    """

    labels: np.ndarray
    weights: np.ndarray
    occupied: np.ndarray
    chosen: np.ndarray
    owner: np.ndarray
    best: np.ndarray
    second: np.ndarray
    above_best: np.ndarray
    above_second: np.ndarray
    gains: np.ndarray
    losses: np.ndarray
    bases: np.ndarray
    confusion: np.ndarray
    deep: np.ndarray
    size: np.ndarray
    touched: np.ndarray
    marked: np.ndarray


def ranks_of(logits: np.ndarray, ranking: Ranking) -> Ranks:
    """The ranking as the kernels take it."""
    return Ranks(logits, ranking.rows, ranking.leading, *ranking.index)


def new_state(labels: np.ndarray, weights: np.ndarray, n_classes: int, n_source_classes: int) -> State:
    """Room for a map and its tables; `restart_from` fills it."""
    size = len(labels)
    total = int(weights.sum())
    number = counter_of(weights)
    best, second, above_best, above_second = (np.zeros(size, np.int32) for _ in range(4))
    return State(
        labels.astype(np.int32),
        weights.astype(number),
        np.array([2 * total + 1], number),
        np.zeros(n_classes, np.int64),
        np.full(n_source_classes, -1, np.int32),
        best,
        second,
        above_best,
        above_second,
        np.zeros((n_classes, n_source_classes), number),
        np.zeros(n_source_classes, number),
        np.zeros(n_classes, number),
        np.zeros((n_classes, n_classes), number),
        np.zeros(size, np.int32),
        np.zeros(1, np.int64),
        np.zeros(size, np.int32),
        np.zeros(size, np.bool_),
    )


@njit(nogil=True)
def _find_in_row(row, chosen, known):
    """Target classes of the best and second-best chosen classes of a row; `known` is the best, or -1."""
    best = known
    if best < 0:
        best = 0
        for k in range(1, len(chosen)):
            if beats(row, chosen[k], chosen[best]):
                best = k
    second = -1
    for k in range(len(chosen)):
        if k != best and (second < 0 or beats(row, chosen[k], chosen[second])):
            second = k
    return best, second


@njit(nogil=True)
def _find(ranks, state, count):
    """Set the best and the second-best chosen class of the first `count` touched samples."""
    leading = ranks.leading
    owner = state.owner
    touched = state.touched
    best = state.best
    second = state.second
    above_best = state.above_best
    above_second = state.above_second
    kept = leading.shape[1]
    for j in range(count):
        i = touched[j]
        high = 0
        while high < kept and owner[leading[i, high]] < 0:
            high += 1
        low = high + 1
        while low < kept and owner[leading[i, low]] < 0:
            low += 1
        above_best[i] = high
        above_second[i] = min(low, kept)
        if low < kept:
            best[i] = owner[leading[i, high]]
            second[i] = owner[leading[i, low]]
        else:
            known = owner[leading[i, high]] if high < kept else -1
            best[i], second[i] = _find_in_row(ranks.logits[ranks.rows[i]], state.chosen, known)


@njit(nogil=True)
def _add_beyond(ranks, state, i, weight):
    """Add sample i, with this weight, to the tables at the classes that rank too low to be among the kept."""
    row = ranks.logits[ranks.rows[i]]
    y = state.labels[i]
    best = state.best[i]
    second = state.second[i]
    last = ranks.leading[i, -1]
    for c in range(len(row)):
        if c == last or beats(row, c, last) or not beats(row, c, state.chosen[second]):
            continue
        if beats(row, c, state.chosen[best]):
            if best == y:
                state.losses[c] += weight
            state.gains[y, c] += weight
        if best == y:
            state.gains[y, c] += weight
        elif second == y:
            state.gains[best, c] -= weight


@njit(nogil=True)
def _add(ranks, state, count, sign):
    """Add the first `count` touched samples to all tables, or with sign -1 take them away."""
    leading = ranks.leading
    touched = state.touched
    labels = state.labels
    gains = state.gains
    losses = state.losses
    bases = state.bases
    confusion = state.confusion
    kept = leading.shape[1]
    some_left = leading.shape[1] < len(losses)
    for j in range(count):
        i = touched[j]
        weight = sign * state.weights[i]
        y = labels[i]
        best = state.best[i]
        high = state.above_best[i]
        low = state.above_second[i]
        confusion[y, best] += weight
        if best == y:
            bases[y] -= weight
            for r in range(high):
                gains[y, leading[i, r]] += 2 * weight
                losses[leading[i, r]] += weight
            for r in range(high, low):
                gains[y, leading[i, r]] += weight
        else:
            for r in range(high):
                gains[y, leading[i, r]] += weight
            if state.second[i] == y:
                bases[best] += weight
                for r in range(low):
                    gains[best, leading[i, r]] -= weight
        if some_left and low == kept:
            _add_beyond(ranks, state, i, weight)


@njit(nogil=True)
def _touch(ranks, state, c, count):
    """List the samples in which class c ranks no lower than the second-best chosen class."""
    samples = ranks.samples
    of_samples = ranks.ranks
    above_second = state.above_second
    marked = state.marked
    touched = state.touched
    for e in range(ranks.firsts[c], ranks.firsts[c + 1]):
        i = samples[e]
        if of_samples[e] <= above_second[i] and not marked[i]:
            marked[i] = True
            touched[count] = i
            count += 1
    for j in range(state.size[0]):
        i = state.deep[j]
        row = ranks.logits[ranks.rows[i]]
        second = state.chosen[state.second[i]]
        if not marked[i] and not beats(row, second, c):
            marked[i] = True
            touched[count] = i
            count += 1
    return count


@njit(nogil=True)
def _place(state, k, c):
    state.chosen[k] = c
    state.owner[c] = k


@njit(nogil=True)
def _exchange(state, k, c):
    """Give target class k the source class c; whoever had c gets k's."""
    left = state.chosen[k]
    other = state.owner[c]
    _place(state, k, c)
    if other >= 0:
        _place(state, other, left)
    else:
        state.owner[left] = -1
        state.losses[left] -= state.occupied[0]
        state.losses[c] += state.occupied[0]


@njit(nogil=True)
def _update_deep(ranks, state, count):
    """Bring the list of deep samples up to date with the touched ones, which are unmarked."""
    kept = ranks.leading.shape[1]
    size = 0
    for j in range(state.size[0]):
        i = state.deep[j]
        if not state.marked[i]:
            state.deep[size] = i
            size += 1
    for j in range(count):
        i = state.touched[j]
        state.marked[i] = False
        if state.above_second[i] == kept:
            state.deep[size] = i
            size += 1
    state.size[0] = size


@njit(nogil=True)
def restart_from(ranks, state, chosen):
    """Forget the state's map and tables, and fill them for another map (K,)."""
    state.gains[:] = 0
    state.losses[:] = 0
    state.bases[:] = 0
    state.confusion[:] = 0
    state.owner[:] = -1
    state.size[0] = 0
    for k in range(len(chosen)):
        state.chosen[k] = chosen[k]
        state.owner[chosen[k]] = k
        state.losses[chosen[k]] = state.occupied[0]
    for i in range(len(state.labels)):
        state.touched[i] = i
    _find(ranks, state, len(state.labels))
    _add(ranks, state, len(state.labels), 1)
    _update_deep(ranks, state, len(state.labels))


@njit(nogil=True)
def move(ranks, state, k, c):
    """Move target class k to source class c (not its own), swapping where c is taken; mend all tables."""
    count = _touch(ranks, state, c, _touch(ranks, state, state.chosen[k], 0))
    _add(ranks, state, count, -1)
    _exchange(state, k, c)
    _find(ranks, state, count)
    _add(ranks, state, count, 1)
    _update_deep(ranks, state, count)


@njit(nogil=True)
def fill_gains(ranks, state, k, found):
    """Matches gained by giving target class k each source class, into found (C,), where a taken one means a swap."""
    gains = state.gains[k]
    losses = state.losses
    for c in range(len(found)):
        found[c] = gains[c] - losses[c] + state.bases[k]
    fill_swaps(state, k, found)
