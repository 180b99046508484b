"""Count the matches of 1,024 maps at a time with one bit for each trial, which is fast for large K.

A table has two bit vectors side by side for each source class: the trials in which the class is chosen at all, and the
trials in which it is the class of the current label. A sample's classes are walked from the largest logit down. A trial
is decided at the first chosen class, and matches if that class is the label's. Only the leading classes of each sample
are stored. Their number is chosen so that they rarely leave a trial undecided; such trials are decided from the
sample's full row of logits.
"""

import numpy as np
from numba import njit, uint64

from modgap.discrepancy.kernels.compilation import inner_kernel, kernel
from modgap.discrepancy.kernels.simd import (
    LANES,
    bit_and,
    bit_and_not,
    bit_or,
    bit_xor,
    is_zero,
    load_16_words,
    no_bits,
    store,
)

N_WORDS = LANES // 64
STRIDE = 2 * N_WORDS
PLANES = 32
STEP = 4


@njit(inline="always")
def _bit(trial):
    """Return the bit of a trial in its word."""
    return uint64(1) << uint64(trial & 63)


@inner_kernel
def _decide_open_trials(row, maps, label, open_words, won_words):
    """Decide the trials that are undecided after the leading classes, from the row's logits."""
    chosen, trials = maps.shape
    for t in range(trials):
        if not open_words[t >> 6] & _bit(t):
            continue
        label_class = maps[label, t]
        wins = True
        for k in range(chosen):
            c = maps[k, t]
            wins &= not (row[c] > row[label_class] or (row[c] == row[label_class] and c < label_class))
        if wins:
            won_words[t >> 6] |= _bit(t)


@njit(inline="always")
def _walk(table, leading, i, undecided):
    """Return the trials that the sample matches, and those undecided after all its leading classes."""
    matched = no_bits()
    for r in range(0, leading.shape[1], STEP):
        for s in range(STEP):
            entry = np.int64(leading[i, r + s]) * STRIDE
            chosen = load_16_words(table, entry)
            label_class = load_16_words(table, entry + N_WORDS)
            matched = bit_or(matched, bit_and(undecided, label_class))
            undecided = bit_and_not(undecided, chosen)
        if is_zero(undecided):
            break
    return matched, undecided


@inner_kernel
def _count_samples(logits, rows, leading, first, last, label, maps, table, planes, scratch):
    """Add the matches of samples of one label to bit-sliced counters, in which plane p weighs 2**p."""
    live = load_16_words(scratch, 0)
    ones = load_16_words(planes, 0)
    twos = load_16_words(planes, N_WORDS)
    open_words = scratch[N_WORDS : 2 * N_WORDS]
    won_words = scratch[2 * N_WORDS :]
    for i in range(first, last):
        matched, undecided = _walk(table, leading, i, live)
        if not is_zero(undecided):
            store(open_words, 0, undecided)
            store(won_words, 0, matched)
            _decide_open_trials(logits[rows[i]], maps, label, open_words, won_words)
            matched = load_16_words(won_words, 0)
        carry = bit_and(ones, matched)
        ones = bit_xor(ones, matched)
        next_carry = bit_and(twos, carry)
        twos = bit_xor(twos, carry)
        carry = next_carry
        plane = 2 * N_WORDS
        while not is_zero(carry):
            plane_bits = load_16_words(planes, plane)
            store(planes, plane, bit_xor(plane_bits, carry))
            carry = bit_and(plane_bits, carry)
            plane += N_WORDS
    store(planes, 0, ones)
    store(planes, N_WORDS, twos)


@njit(inline="always")
def _mark(table, classes, offset):
    """Set the bit of each trial at its class."""
    for t in range(len(classes)):
        table[np.int64(classes[t]) * STRIDE + offset + (t >> 6)] |= _bit(t)


@njit(inline="always")
def _clear(table, classes, offset):
    """Undo `_mark`; the words have no other bits than those it set."""
    for t in range(len(classes)):
        table[np.int64(classes[t]) * STRIDE + offset + (t >> 6)] = 0


@inner_kernel
def _drain(planes, counts, part, weight):
    """Add the bit-sliced counters to the counts and reset them to zero."""
    for p in range(PLANES):
        for t in range(len(counts)):
            bit = (planes[p * N_WORDS + (t >> 6)] >> uint64(t & 63)) & uint64(1)
            counts[t, part] += (np.int64(bit) << p) * weight
    planes[:] = 0


@kernel
def count_batch(logits, rows, leading, groups, maps, table, planes, scratch, counts):
    """Add the matches of at most 1,024 maps (K, trials) to counts (trials, parts).

    rows (E,) are the rows of the entries. leading (E, R) are their leading classes, with R a multiple of STEP, padded
    with the class C, which is never chosen. groups (G, 5), sorted by part and weight, has a label, a part, a weight and
    the range of entries that have these. table ((C + 1) * STRIDE,), planes (PLANES * N_WORDS,) and
    scratch (3 * N_WORDS,) are uint64 working space aligned to cache lines; planes is all zero before and after the
    call.
    """
    table[:] = 0
    scratch[:] = 0
    for t in range(maps.shape[1]):
        scratch[t >> 6] |= _bit(t)
    for k in range(len(maps)):
        _mark(table, maps[k], 0)
    for g in range(len(groups)):
        label = groups[g, 0]
        part = groups[g, 1]
        weight = groups[g, 2]
        _mark(table, maps[label], N_WORDS)
        _count_samples(logits, rows, leading, groups[g, 3], groups[g, 4], label, maps, table, planes, scratch)
        _clear(table, maps[label], N_WORDS)
        if g + 1 == len(groups) or groups[g + 1, 1] != part or groups[g + 1, 2] != weight:
            _drain(planes, counts, part, weight)
