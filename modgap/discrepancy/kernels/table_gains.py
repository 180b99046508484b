"""Tables of the gain of every single move of a map, updated while the map changes.

The best and the second-best chosen class of each sample are stored. Moving target class k to source class c changes the
prediction of a sample only if c ranks above its best chosen class, or if k is its best; then the second-best takes over
unless c ranks above it. So the matches gained by the move are

    bases[k] + gains[k, c] - losses[c]

where each sample adds to the tables only at the classes ranked above its best and second-best. A move touches the
samples in which the old or the new source class ranks no lower than the second-best, which are listed in an index by
class. Ranks that are not stored are replaced by comparisons of logits.
"""

from typing import NamedTuple

import numpy as np

from modgap.discrepancy.kernels.compilation import inner_kernel
from modgap.discrepancy.kernels.moves import beats, counter_dtype, fill_swaps
from modgap.discrepancy.ranks import Ranking


class Ranks(NamedTuple):
    """Leading classes of samples and their index by class.

    Attributes:
        logits: Source logits, shape (N, C).
        rows: Row of the logits of each sample, shape (E,).
        leading: Leading classes of each sample, shape (E, R).
        firsts: First position of each class in `samples` and `ranks`, shape (C + 1,).
        samples: Samples by class, shape (E R,).
        ranks: Rank of the class in these samples, shape (E R,).
    """

    logits: np.ndarray
    rows: np.ndarray
    leading: np.ndarray
    firsts: np.ndarray
    samples: np.ndarray
    ranks: np.ndarray


class State(NamedTuple):
    """A map and the quantities that follow from it.

    Attributes:
        labels: Target class of each sample, shape (E,).
        weights: Weight of each sample, shape (E,).
        occupied: Added to `losses` at chosen source classes, so that no single move goes there; shape (1,).
        chosen: The map, the source class of each target class, shape (K,).
        owner: Its inverse, the target class of each source class, -1 if there is none; shape (C,).
        best: Target class of the best chosen class of each sample, shape (E,).
        second: Target class of the second-best chosen class of each sample, shape (E,).
        above_best: Rank of the best, R if it is not among the leading classes; shape (E,).
        above_second: Rank of the second-best, R if it is not among the leading classes; shape (E,).
        gains: Gains as above, shape (K, C).
        losses: Losses as above, shape (C,).
        bases: Bases as above, shape (K,).
        confusion: Weight of the samples by label and prediction, shape (K, K).
        deep: Samples whose second-best is not among the leading classes, shape (E,).
        size: Number of these samples, shape (1,).
        touched: Working space for samples, shape (E,).
        marked: Working space for a mask of samples, all False between calls; shape (E,).
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
    """Return a ranking of logits (N, C) in the form that the kernels take."""
    return Ranks(logits, ranking.rows, ranking.leading, *ranking.index)


def new_state(labels: np.ndarray, weights: np.ndarray, n_classes: int, n_source_classes: int) -> State:
    """Allocate a state for a map of K classes; `change_map` fills it."""
    size = len(labels)
    total = int(weights.sum())
    counter = counter_dtype(weights)
    return State(
        labels.astype(np.uint32),
        weights.astype(counter),
        np.array([2 * total + 1], counter),
        np.zeros(n_classes, np.int64),
        np.full(n_source_classes, -1, np.int32),
        np.zeros(size, np.int32),
        np.zeros(size, np.int32),
        np.zeros(size, np.int32),
        np.zeros(size, np.int32),
        np.zeros((n_classes, n_source_classes), counter),
        np.zeros(n_source_classes, counter),
        np.zeros(n_classes, counter),
        np.zeros((n_classes, n_classes), counter),
        np.zeros(size, np.uint32),
        np.zeros(1, np.int64),
        np.zeros(size, np.uint32),
        np.zeros(size, np.bool_),
    )


@inner_kernel
def _find_best_two(ranks, state, count):
    """Set the best and the second-best chosen class of the first `count` touched samples."""
    leading = ranks.leading
    owner = state.owner
    chosen = state.chosen
    touched = state.touched
    best = state.best
    second = state.second
    above_best = state.above_best
    above_second = state.above_second
    depth = leading.shape[1]
    for j in range(count):
        i = touched[j]
        high = 0
        while high < depth and owner[leading[i, high]] < 0:
            high += 1
        low = high + 1
        while low < depth and owner[leading[i, low]] < 0:
            low += 1
        above_best[i] = high
        above_second[i] = min(low, depth)
        if low < depth:
            best[i] = owner[leading[i, high]]
            second[i] = owner[leading[i, low]]
        else:
            # The logits decide, because fewer than two chosen classes are among the leading ones.
            row = ranks.logits[ranks.rows[i]]
            top = runner_up = np.int32(-1)
            for k in range(len(chosen)):
                if top < 0 or beats(row, chosen[k], chosen[top]):
                    runner_up = top
                    top = np.int32(k)
                elif runner_up < 0 or beats(row, chosen[k], chosen[runner_up]):
                    runner_up = np.int32(k)
            best[i] = top
            second[i] = runner_up


@inner_kernel
def _add_to_tables(ranks, state, count, sign):
    """Add the first `count` touched samples to all tables, or subtract them if sign is -1."""
    leading = ranks.leading
    touched = state.touched
    gains = state.gains
    losses = state.losses
    chosen = state.chosen
    depth = leading.shape[1]
    for j in range(count):
        i = touched[j]
        weight = sign * state.weights[i]
        y = state.labels[i]
        best = state.best[i]
        second = state.second[i]
        state.confusion[y, best] += weight
        is_match = best == y
        would_match = second == y and not is_match
        if is_match:
            state.bases[y] -= weight
        if would_match:
            state.bases[best] += weight
        row = ranks.logits[ranks.rows[i]]
        high = state.above_best[i]
        end = state.above_second[i] if is_match or would_match else high
        # Classes that rank below the leading ones follow these, if they can rank above the chosen class.
        if end == depth and depth < len(losses):
            end += len(losses)
        for r in range(end):
            if r < depth:
                c = np.int64(leading[i, r])
                above = r < high
            else:
                c = r - depth
                last = leading[i, depth - 1]
                if not beats(row, last, c) or not beats(row, c, chosen[second]):
                    continue
                above = beats(row, c, chosen[best])
            if above:
                gains[y, c] += weight
                if is_match:
                    losses[c] += weight
            if is_match:
                gains[y, c] += weight
            elif would_match:
                gains[best, c] -= weight


@inner_kernel
def _list_touched(ranks, state, c, count):
    """Append the samples in which class c ranks no lower than the second-best chosen class; return their new count."""
    samples = ranks.samples
    ranks_of_c = ranks.ranks
    above_second = state.above_second
    marked = state.marked
    touched = state.touched
    for e in range(ranks.firsts[c], ranks.firsts[c + 1]):
        i = samples[e]
        if ranks_of_c[e] <= above_second[i] and not marked[i]:
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


@inner_kernel
def _update_deep(depth, above_second, deep, size, touched, marked, count):
    """Update the list of deep samples from the touched ones, and unmark these."""
    end = 0
    for j in range(size[0]):
        i = deep[j]
        if not marked[i]:
            deep[end] = i
            end += 1
    for j in range(count):
        i = touched[j]
        marked[i] = False
        if above_second[i] == depth:
            deep[end] = i
            end += 1
    size[0] = end


@inner_kernel
def _clear(start, occupied, chosen, owner, gains, losses, bases, confusion, size, touched):
    """Set a map (K,), clear the tables, and list all samples as touched."""
    gains[:] = 0
    losses[:] = 0
    bases[:] = 0
    confusion[:] = 0
    owner[:] = -1
    size[0] = 0
    for k in range(len(chosen)):
        chosen[k] = start[k]
        owner[start[k]] = k
        losses[start[k]] = occupied[0]
    for i in range(len(touched)):
        touched[i] = i


def change_map(source, state, start, k, c):
    """Move target class k to another source class c and update all tables; if c is taken, the two classes swap.

    If k is negative, set the state and its tables to the map `start` (K,) instead.
    """
    owner = state.owner
    chosen = state.chosen
    losses = state.losses
    # Numba compiles a function again for each literal argument, but not for NumPy's integers.
    count = np.int64(len(state.labels))
    left = c
    sign = np.int64(1)
    if k < 0:
        _clear(
            start, state.occupied, chosen, owner, state.gains, losses, state.bases, state.confusion, state.size,
            state.touched,
        )  # fmt: skip
    else:
        left = chosen[k]
        sign = np.int64(-1)
        count = np.int64(0)
        for side in range(2):
            count = _list_touched(source, state, c if side else left, count)
    # Each call is made in a loop, because the compiler copies the function to every place that calls it.
    while sign < 2:
        if sign > 0:
            if k >= 0:
                other = owner[c]
                chosen[k] = c
                owner[c] = k
                owner[left] = other
                if other >= 0:
                    chosen[other] = left
                else:
                    losses[left] -= state.occupied[0]
                    losses[c] += state.occupied[0]
            _find_best_two(source, state, count)
        _add_to_tables(source, state, count, sign)
        sign += np.int64(2)
    _update_deep(
        source.leading.shape[1], state.above_second, state.deep, state.size, state.touched, state.marked, count
    )


def fill_gains(source, state, k, out):
    """Write the matches gained by moving class k to each source class into out (C,); taken classes mean a swap."""
    gains = state.gains[k]
    losses = state.losses
    for c in range(len(out)):
        out[c] = gains[c] - losses[c] + state.bases[k]
    fill_swaps(state.confusion, state.chosen, k, out)
