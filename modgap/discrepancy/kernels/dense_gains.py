"""Gains of the moves of one target class, counted from the rows of logits without ranks and index.

Suppose that target class k moves. The rival of an entry is the best chosen class of the other target classes. An entry
with label k becomes correct under source class c if c wins against the rival. An entry whose rival is the class of its
label becomes wrong if c wins against the rival. No other entry matters. So the matches after the move are

    gains[k, c] + bases[k]

where gains[k, c] counts the entries of the first kind minus those of the second kind in which c wins, and bases[k] is
the total of the second kind. Gains are computed on demand and stay valid until another target class moves.
"""

from typing import NamedTuple

import numpy as np
from numba import int64, njit

from modgap.discrepancy.kernels.compilation import inner_kernel
from modgap.discrepancy.kernels.mapped_rows import release
from modgap.discrepancy.kernels.moves import counter_dtype, fill_swaps

LOW = (1 << 32) - 1
SIGNLESS = (1 << 31) - 1
NONE = -(1 << 63)

CHANGE_COST = 1.5
"""Cost of replacing an entry's rival in the counts, relative to counting the entry again."""


class DenseState(NamedTuple):
    """A map and the quantities that follow from it.

    Attributes:
        labels: Target class of each entry, shape (E,).
        weights: Weight of each entry, shape (E,).
        chosen: The map, the source class of each target class, shape (K,).
        owner: Its inverse, the target class of each source class, -1 if there is none; shape (C,).
        values: Logits of the chosen classes, shape (K, E).
        first: Largest key of each entry, see `_key`; shape (E,).
        second: Second-largest key of each entry, shape (E,).
        confusion: Weight of the entries by label and prediction, shape (K, K).
        gains: Gains as above, shape (K, C).
        bases: Bases as above, shape (K,).
        is_current: True for target classes whose gains and base are up to date, shape (K,).
        rivals: Working space for the keys of rivals, shape (E,).
        counted: Source classes of the rivals that the gains of each target class count, -1 for none; shape (K, E).
        members: Working space for the entries of a part by rival, shape (K, P) for parts of at most P entries.
        sizes: Working space for numbers of entries by rival, shape (K,).
        limits: Working space for the logits of the rivals of four entries.
        signed: Working space for the weights of four entries, with signs.
    """

    labels: np.ndarray
    weights: np.ndarray
    chosen: np.ndarray
    owner: np.ndarray
    values: np.ndarray
    first: np.ndarray
    second: np.ndarray
    confusion: np.ndarray
    gains: np.ndarray
    bases: np.ndarray
    is_current: np.ndarray
    rivals: np.ndarray
    counted: np.ndarray
    members: np.ndarray
    sizes: np.ndarray
    limits: np.ndarray
    signed: np.ndarray


def new_state(
    labels: np.ndarray, weights: np.ndarray, n_classes: int, n_source_classes: int, part_size: int
) -> DenseState:
    """Allocate a state for a map of K classes; `change_map` fills it.

    Args:
        labels: Target class of each entry, shape (E,).
        weights: Weight of each entry, shape (E,).
        n_classes: Number K of target classes.
        n_source_classes: Number C of source classes.
        part_size: Largest number P of entries whose rows are read before their pages are released.
    """
    size = len(labels)
    counter = counter_dtype(weights)
    return DenseState(
        labels.astype(np.int32),
        weights.astype(counter),
        np.zeros(n_classes, np.int64),
        np.full(n_source_classes, -1, np.int32),
        np.zeros((n_classes, size), np.float32),
        np.zeros(size, np.int64),
        np.zeros(size, np.int64),
        np.zeros((n_classes, n_classes), counter),
        np.zeros((n_classes, n_source_classes), counter),
        np.zeros(n_classes, counter),
        np.zeros(n_classes, np.bool_),
        np.zeros(size, np.int64),
        np.full((n_classes, size), -1, np.int32),
        np.zeros((n_classes, min(size, part_size)), np.int32),
        np.zeros(n_classes, np.int64),
        np.zeros(4, np.float32),
        np.zeros(4, counter),
    )


@njit(inline="always")
def _key(logit, c):
    """Return an int64 that increases with the rank of class c with this logit; positive and negative zero are equal."""
    bits = int64(np.float32(logit + np.float32(0)).view(np.int32))
    return ((bits ^ (bits >> 63 & SIGNLESS)) << 32) | (LOW - c)


@njit(inline="always")
def _class_of(key):
    """Return the class of a key."""
    return LOW - (key & LOW)


@njit(inline="always")
def _logit_of(key):
    """Return the logit of a key."""
    bits = key >> 32
    return np.int32(bits ^ (bits >> 63 & SIGNLESS)).view(np.float32)


@njit(inline="always")
def _class_or_none(key):
    return int64(-1) if key == NONE else _class_of(key)


@inner_kernel
def _read_values(source, c, values):
    """Write the logits of source class c into values (E,)."""
    logits = source.logits
    rows = source.rows
    size = source.pages.entries
    for first in range(0, len(rows), size):
        for i in range(first, min(first + size, len(rows))):
            values[i] = logits[rows[i], c]
        release(source.pages)


@inner_kernel
def _predict(labels, weights, owner, chosen, values, first, second, confusion):
    """Update the two largest keys of each entry, and the counts of the predictions, after a change of the values."""
    for i in range(len(first)):
        first[i] = _key(values[0, i], chosen[0])
        second[i] = NONE
    # The inner loop compiles to vector instructions.
    for k in range(1, len(values)):
        class_values = values[k]
        c = chosen[k]
        for i in range(len(class_values)):
            key = _key(class_values[i], c)
            second[i] = max(second[i], min(first[i], key))
            first[i] = max(first[i], key)
    confusion[:] = 0
    for i in range(len(first)):
        confusion[labels[i], owner[_class_of(first[i])]] += weights[i]


def change_map(source, state, start, k, c):
    """Move target class k to another source class c; if c is taken, the two target classes swap.

    If k is negative, set the state to the map `start` (K,) instead.
    """
    owner = state.owner
    chosen = state.chosen
    is_current = state.is_current
    if k < 0:
        owner[:] = -1
        is_current[:] = False
        for j in range(len(chosen)):
            chosen[j] = start[j]
            owner[start[j]] = j
            _read_values(source, start[j], state.values[j])
    else:
        left = chosen[k]
        other = owner[c]
        chosen[k] = c
        owner[c] = k
        owner[left] = other
        # The gains of a class stay valid while the other classes do not move.
        stays_current = other < 0 and is_current[k]
        is_current[:] = False
        is_current[k] = stays_current
        if other >= 0:
            chosen[other] = left
            for i in range(len(state.labels)):
                state.values[other, i] = state.values[k, i]
        _read_values(source, c, state.values[k])
    _predict(state.labels, state.weights, owner, chosen, state.values, state.first, state.second, state.confusion)


@inner_kernel
def _find_rivals(labels, weights, owner, k, c, class_values, first, second, counted, rivals):
    """Write the rivals' keys of the entries that matter for target class k, and NONE for the others, into rivals (E,).

    Returns the weight of the entries that are correct without k, the number of entries that matter, and the number of
    rivals that differ from those counted last.
    """
    correct = 0
    n_relevant = 0
    n_changed = 0
    for i in range(len(labels)):
        rival = second[i] if first[i] == _key(class_values[i], c) else first[i]
        correct_without_k = owner[_class_of(rival)] == labels[i]
        correct += weights[i] if correct_without_k else 0
        rivals[i] = rival if correct_without_k or labels[i] == k else NONE
        n_relevant += rivals[i] != NONE
        n_changed += _class_or_none(rivals[i]) != counted[i]
    return correct, n_relevant, n_changed


@inner_kernel
def _count_changes(logits, rows, labels, weights, rivals, counted, k, counts):
    """Update the gains (C,) of target class k for the entries with a changed rival.

    The classes that win against the old rival lose the entry's weight, those that win against the new one get it.
    """
    for i in range(len(rivals)):
        if _class_or_none(rivals[i]) == counted[i]:
            continue
        # A missing rival is replaced by class 0 with an infinite logit, against which no class wins.
        low_class = int64(0) if counted[i] < 0 else int64(counted[i])
        low_limit = np.float32(np.inf) if counted[i] < 0 else logits[rows[i], low_class]
        high_class = 0 if rivals[i] == NONE else _class_of(rivals[i])
        high_limit = np.float32(np.inf) if rivals[i] == NONE else _logit_of(rivals[i])
        high_weight = weights[i] if labels[i] == k else -weights[i]
        low_weight = -high_weight
        if high_class < low_class:
            low_class, high_class = high_class, low_class
            low_limit, high_limit = high_limit, low_limit
            low_weight, high_weight = high_weight, low_weight
        values = logits[rows[i], :low_class]
        part = counts[:low_class]
        for c in range(len(values)):
            part[c] += (low_weight if values[c] >= low_limit else 0) + (high_weight if values[c] >= high_limit else 0)
        values = logits[rows[i], low_class:high_class]
        part = counts[low_class:high_class]
        for c in range(len(values)):
            part[c] += (low_weight if values[c] > low_limit else 0) + (high_weight if values[c] >= high_limit else 0)
        values = logits[rows[i], high_class:]
        part = counts[high_class:]
        for c in range(len(values)):
            part[c] += (low_weight if values[c] > low_limit else 0) + (high_weight if values[c] > high_limit else 0)


@inner_kernel
def _sort_by_rival(rivals, owner, members, sizes):
    """Write the entries that matter into members (K, P), by the target class of their rival, and their numbers."""
    sizes[:] = 0
    for i in range(len(rivals)):
        if rivals[i] != NONE:
            j = owner[_class_of(rivals[i])]
            members[j, sizes[j]] = i
            sizes[j] += 1


@inner_kernel
def _count_members(logits, rows, labels, weights, rivals, members, rival_class, k, counts, limits, signed):
    """Add the entries (M,) that have the same rival class to the gains (C,) of target class k.

    Each weight is added at the classes of its row that win against the rival class; ties go to the lower class. The
    loops over classes have no branch and run over contiguous arrays of the same length, so that LLVM compiles them to
    vector instructions. Four rows at a time take half as long as one by one. limits (4,) and signed (4,) are working
    space.
    """
    low = counts[:rival_class]
    high = counts[rival_class:]
    last = len(members) - 1
    for start in range(0, len(members), 4):
        for m in range(4):
            # The last entry is repeated with zero weight to complete a block of four.
            i = members[min(start + m, last)]
            limits[m] = _logit_of(rivals[i])
            signed[m] = 0 if start + m > last else weights[i] if labels[i] == k else -weights[i]
        la = limits[0]
        lb = limits[1]
        lc = limits[2]
        ld = limits[3]
        wa = signed[0]
        wb = signed[1]
        wc = signed[2]
        wd = signed[3]
        row_a = logits[rows[members[start]]]
        row_b = logits[rows[members[min(start + 1, last)]]]
        row_c = logits[rows[members[min(start + 2, last)]]]
        row_d = logits[rows[members[min(start + 3, last)]]]
        for x in range(len(low)):
            one = (wa if row_a[x] >= la else 0) + (wb if row_b[x] >= lb else 0)
            low[x] += one + (wc if row_c[x] >= lc else 0) + (wd if row_d[x] >= ld else 0)
        a = row_a[rival_class:]
        b = row_b[rival_class:]
        c = row_c[rival_class:]
        d = row_d[rival_class:]
        for x in range(len(high)):
            one = (wa if a[x] > la else 0) + (wb if b[x] > lb else 0)
            high[x] += one + (wc if c[x] > lc else 0) + (wd if d[x] > ld else 0)


def fill_gains(source, state, k, out):
    """Write the matches gained by moving class k to each source class into out (C,); taken classes mean a swap."""
    logits = source.logits
    rows = source.rows
    labels = state.labels
    weights = state.weights
    rivals = state.rivals
    counted = state.counted[k]
    gains = state.gains[k]
    if not state.is_current[k]:
        state.bases[k], n_relevant, n_changed = _find_rivals(
            labels, weights, state.owner, k, state.chosen[k], state.values[k], state.first, state.second, counted,
            rivals,
        )  # fmt: skip
        only_changes = CHANGE_COST * n_changed < n_relevant
        if not only_changes:
            gains[:] = 0
        for first in range(0, len(rows), source.pages.entries):
            part = slice(first, min(first + source.pages.entries, len(rows)))
            if only_changes:
                _count_changes(logits, rows[part], labels[part], weights[part], rivals[part], counted[part], k, gains)
            else:
                _sort_by_rival(rivals[part], state.owner, state.members, state.sizes)
                for j in range(len(state.chosen)):
                    members = state.members[j, : state.sizes[j]]
                    _count_members(
                        logits, rows[part], labels[part], weights[part], rivals[part], members, state.chosen[j], k,
                        gains, state.limits, state.signed,
                    )  # fmt: skip
            release(source.pages)
        for i in range(len(rivals)):
            counted[i] = _class_or_none(rivals[i])
        state.is_current[k] = True
    base = state.bases[k]
    for j in range(len(state.chosen)):
        base -= state.confusion[j, j]
    for c in range(len(out)):
        out[c] = gains[c] + base
    fill_swaps(state.confusion, state.chosen, k, out)
