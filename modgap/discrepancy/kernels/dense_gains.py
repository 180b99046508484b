"""The gains of one target class's moves, straight from the rows of logits: no ranks, no index.

Say target class k is to move. For each entry let the rival be the best chosen class of the other target
classes. An entry with label k is right under source class c if c beats the rival; one whose rival is its
own label's class is lost if c does. No other entry matters. So the matches after the move are

    gains[k, c] + bases[k]

where gains[k, c] counts the former less the latter that c beats, and bases[k] all of the latter. Gains
are computed when they are asked for and hold until another target class moves.
"""

from typing import NamedTuple

import numpy as np
from numba import int64, njit

from modgap.discrepancy.kernels.moves import counter_of, fill_swaps

__all__ = ["DenseState", "Rows", "fill_gains", "move", "new_state", "restart_from"]

LOW = (1 << 32) - 1
SIGNLESS = (1 << 31) - 1
NONE = -(1 << 63)

# What it costs to replace an entry's rival, where a count of it afresh costs 1.
CHANGES = 1.5


class Rows(NamedTuple):
    """Entries that are rows (E,) of logits (N, C)."""

    logits: np.ndarray
    rows: np.ndarray


class DenseState(NamedTuple):
    """A map and what follows from it.

    labels (E,) and weights (E,); chosen (K,) is the map and owner (C,) its inverse, -1 for free; keys
    (K, E) stand for the logits of the chosen classes, see `_key`, and the largest and second-largest of
    each entry are first and second (E,); confusion (K, K) counts by label and prediction; gains (K, C)
    and bases (K,) as above, where known (K,) says so; members (K, E) and sizes (K,) are working space.
    """

    labels: np.ndarray
    weights: np.ndarray
    chosen: np.ndarray
    owner: np.ndarray
    keys: np.ndarray
    first: np.ndarray
    second: np.ndarray
    confusion: np.ndarray
    gains: np.ndarray
    bases: np.ndarray
    known: np.ndarray
    rivals: np.ndarray
    counted: np.ndarray
    members: np.ndarray
    sizes: np.ndarray


def new_state(labels: np.ndarray, weights: np.ndarray, n_classes: int, n_source_classes: int) -> DenseState:
    """Room for a map and its gains; `restart_from` fills it."""
    size = len(labels)
    number = counter_of(weights)
    return DenseState(
        labels.astype(np.int32),
        weights.astype(number),
        np.zeros(n_classes, np.int64),
        np.full(n_source_classes, -1, np.int32),
        np.zeros((n_classes, size), np.int64),
        np.zeros(size, np.int64),
        np.zeros(size, np.int64),
        np.zeros((n_classes, n_classes), number),
        np.zeros((n_classes, n_source_classes), number),
        np.zeros(n_classes, number),
        np.zeros(n_classes, np.bool_),
        np.zeros(size, np.int64),
        np.full((n_classes, size), NONE),
        np.zeros((n_classes, size), np.int32),
        np.zeros(n_classes, np.int64),
    )


@njit(inline="always")
def _key(logit, c):
    """An int64 that is the larger the higher class c with this logit ranks; both zeros are one logit."""
    bits = int64(np.float32(logit + np.float32(0)).view(np.int32))
    return ((bits ^ (bits >> 63 & SIGNLESS)) << 32) | (LOW - c)


@njit(inline="always")
def _class_of(key):
    return LOW - (key & LOW)


@njit(inline="always")
def _logit_of(key):
    bits = key >> 32
    return np.int32(bits ^ (bits >> 63 & SIGNLESS)).view(np.float32)


@njit(nogil=True)
def _read_keys(source, c, keys):
    """The keys (E,) of source class c."""
    logits = source.logits
    rows = source.rows
    for i in range(len(rows)):
        keys[i] = _key(logits[rows[i], c], c)


@njit(nogil=True)
def _find_two(keys, first, second):
    """The largest and the second-largest key of each entry, by vector instructions."""
    first[:] = keys[0]
    second[:] = NONE
    for k in range(1, len(keys)):
        own = keys[k]
        for i in range(len(own)):
            second[i] = max(second[i], min(first[i], own[i]))
            first[i] = max(first[i], own[i])


@njit(nogil=True)
def _predict(state):
    """Bring all that follows from the keys up to date."""
    _find_two(state.keys, state.first, state.second)
    labels = state.labels
    weights = state.weights
    owner = state.owner
    first = state.first
    confusion = state.confusion
    confusion[:] = 0
    for i in range(len(first)):
        confusion[labels[i], owner[_class_of(first[i])]] += weights[i]


@njit(nogil=True)
def restart_from(source, state, chosen):
    """Forget the state's map, and take another (K,)."""
    state.owner[:] = -1
    state.known[:] = False
    for k in range(len(chosen)):
        state.chosen[k] = chosen[k]
        state.owner[chosen[k]] = k
        _read_keys(source, chosen[k], state.keys[k])
    _predict(state)


@njit(nogil=True)
def move(source, state, k, c):
    """Move target class k to source class c (not its own), swapping where c is taken."""
    left = state.chosen[k]
    other = state.owner[c]
    state.chosen[k] = c
    state.owner[c] = k
    state.owner[left] = other
    # The gains of a class hold while the others stay.
    alone = other < 0 and state.known[k]
    state.known[:] = False
    state.known[k] = alone
    if other >= 0:
        state.chosen[other] = left
        state.keys[other] = state.keys[k]
    _read_keys(source, c, state.keys[k])
    _predict(state)


@njit(nogil=True)
def _find_rivals(state, k):
    """The rivals' keys of entries that matter for target class k, NONE elsewhere, into rivals (E,).

    Returns the weight of the entries that are right without k, how many matter, and how many rivals are
    other ones than those that were counted last.
    """
    labels = state.labels
    weights = state.weights
    owner = state.owner
    rivals = state.rivals
    counted = state.counted[k]
    own = state.keys[k]
    first = state.first
    second = state.second
    right = 0
    many = 0
    changed = 0
    for i in range(len(labels)):
        rival = second[i] if first[i] == own[i] else first[i]
        without = owner[_class_of(rival)] == labels[i]
        right += weights[i] if without else 0
        rivals[i] = rival if without or labels[i] == k else NONE
        many += rivals[i] != NONE
        changed += rivals[i] != counted[i]
    return right, many, changed


@njit(nogil=True)
def _add_change(row, old, new, weight, counts):
    """Replace an entry's rival, given by keys, in counts (C,)."""
    low_own, low, low_weight = (
        (0, np.float32(np.inf), -weight) if old == NONE else (_class_of(old), _logit_of(old), -weight)
    )
    own, limit = (0, np.float32(np.inf)) if new == NONE else (_class_of(new), _logit_of(new))
    if own < low_own:
        low_own, low, low_weight, own, limit, weight = own, limit, weight, low_own, low, -weight
    a = row[:low_own]
    some = counts[:low_own]
    for c in range(len(a)):
        some[c] += (low_weight if a[c] >= low else 0) + (weight if a[c] >= limit else 0)
    a = row[low_own:own]
    some = counts[low_own:own]
    for c in range(len(a)):
        some[c] += (low_weight if a[c] > low else 0) + (weight if a[c] >= limit else 0)
    a = row[own:]
    some = counts[own:]
    for c in range(len(a)):
        some[c] += (low_weight if a[c] > low else 0) + (weight if a[c] > limit else 0)


@njit(nogil=True)
def _count_changes(source, state, k):
    """Bring the gains of target class k up to date entry by entry."""
    rivals = state.rivals
    counted = state.counted[k]
    labels = state.labels
    weights = state.weights
    for i in range(len(rivals)):
        if rivals[i] != counted[i]:
            weight = weights[i] if labels[i] == k else -weights[i]
            _add_change(source.logits[source.rows[i]], counted[i], rivals[i], weight, state.gains[k])


@njit(inline="always")
def _count_four(logits, places, limits, weights, own, counts):
    """Add each of four weights to counts (C,) at the classes of a row that beat class `own`, whose logit is its limit.

    Loops without a branch over contiguous arrays of one length: so LLVM makes vector instructions of
    them. Four rows at a time take half as long as one by one. Ties go to the lower class.
    """
    la = limits[0]
    lb = limits[1]
    lc = limits[2]
    ld = limits[3]
    wa = weights[0]
    wb = weights[1]
    wc = weights[2]
    wd = weights[3]
    a = logits[places[0], :own]
    b = logits[places[1], :own]
    c = logits[places[2], :own]
    d = logits[places[3], :own]
    some = counts[:own]
    for x in range(len(some)):
        one = (wa if a[x] >= la else 0) + (wb if b[x] >= lb else 0)
        some[x] += one + (wc if c[x] >= lc else 0) + (wd if d[x] >= ld else 0)
    a = logits[places[0], own:]
    b = logits[places[1], own:]
    c = logits[places[2], own:]
    d = logits[places[3], own:]
    some = counts[own:]
    for x in range(len(some)):
        one = (wa if a[x] > la else 0) + (wb if b[x] > lb else 0)
        some[x] += one + (wc if c[x] > lc else 0) + (wd if d[x] > ld else 0)


@njit(nogil=True)
def _count_all(source, state, k):
    """Fill the gains of target class k from the entries that matter, sorted by their rival."""
    rivals = state.rivals
    labels = state.labels
    counts = state.gains[k]
    members = state.members
    sizes = state.sizes
    places = np.zeros(4, np.int64)
    limits = np.zeros(4, np.float32)
    weights = np.zeros(4, state.weights.dtype)
    counts[:] = 0
    sizes[:] = 0
    for i in range(len(rivals)):
        if rivals[i] != NONE:
            j = state.owner[_class_of(rivals[i])]
            members[j, sizes[j]] = i
            sizes[j] += 1
    for j in range(len(sizes)):
        for start in range(0, sizes[j], 4):
            for m in range(4):
                # The last entry comes again with no weight, to make up four.
                i = members[j, min(start + m, sizes[j] - 1)]
                places[m] = source.rows[i]
                limits[m] = _logit_of(rivals[i])
                weights[m] = 0 if start + m >= sizes[j] else state.weights[i] if labels[i] == k else -state.weights[i]
            _count_four(source.logits, places, limits, weights, state.chosen[j], counts)


@njit(nogil=True)
def _count(source, state, k):
    """Bring the gains and the base of target class k up to date."""
    state.bases[k], many, changed = _find_rivals(state, k)
    if CHANGES * changed < many:
        _count_changes(source, state, k)
    else:
        _count_all(source, state, k)
    state.counted[k] = state.rivals
    state.known[k] = True


@njit(nogil=True)
def fill_gains(source, state, k, found):
    """Matches gained by giving k each source class, into found (C,), where a taken one means a swap."""
    if not state.known[k]:
        _count(source, state, k)
    less = state.bases[k]
    for j in range(len(state.chosen)):
        less -= state.confusion[j, j]
    for c in range(len(found)):
        found[c] = state.gains[k, c] + less
    fill_swaps(state, k, found)
