"""Count matches of 1,024 maps at a time, one bit a trial: best where K is large.

For each source class two bit vectors, side by side in one table: in which trials the class is chosen
at all, and in which it is the class of the label in hand. A sample's classes are walked from the
largest logit down. A trial is decided at the first chosen class, and matches if that class is the
label's. Only the leading classes of each sample are kept; what they leave undecided, which is rare by
the choice of how many, is settled from the sample's full row of logits.
"""

import numpy as np
from numba import njit, uint64

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

__all__ = ["LANES", "PLANES", "STEP", "STRIDE", "WORDS", "count_batch"]

WORDS = LANES // 64
STRIDE = 2 * WORDS
PLANES = 32
STEP = 4


@njit(inline="always")
def _bit(trial):
    return uint64(1) << uint64(trial & 63)


@njit(nogil=True)
def _settle(row, maps, label, open_words, won_words):
    """Decide the trials still open after the leading classes from the row's logits."""
    chosen, trials = maps.shape
    for t in range(trials):
        if not open_words[t >> 6] & _bit(t):
            continue
        own = maps[label, t]
        wins = True
        for k in range(chosen):
            c = maps[k, t]
            wins &= not (row[c] > row[own] or (row[c] == row[own] and c < own))
        if wins:
            won_words[t >> 6] |= _bit(t)


@njit(inline="always")
def _walk(table, leading, i, undecided):
    """(trials that the sample matches, trials undecided after all its leading classes)."""
    matched = no_bits()
    for r in range(0, leading.shape[1], STEP):
        for s in range(STEP):
            entry = np.int64(leading[i, r + s]) * STRIDE
            chosen = load_16_words(table, entry)
            own = load_16_words(table, entry + WORDS)
            matched = bit_or(matched, bit_and(undecided, own))
            undecided = bit_and_not(undecided, chosen)
        if is_zero(undecided):
            break
    return matched, undecided


@njit(nogil=True)
def _count_samples(logits, rows, leading, first, last, label, maps, table, planes, scratch):
    """Add the matches of samples of one label to bit-sliced counters (plane p weighs 2**p)."""
    live = load_16_words(scratch, 0)
    ones = load_16_words(planes, 0)
    twos = load_16_words(planes, WORDS)
    open_words = scratch[WORDS : 2 * WORDS]
    won_words = scratch[2 * WORDS :]
    for i in range(first, last):
        matched, undecided = _walk(table, leading, i, live)
        if not is_zero(undecided):
            store(open_words, 0, undecided)
            store(won_words, 0, matched)
            _settle(logits[rows[i]], maps, label, open_words, won_words)
            matched = load_16_words(won_words, 0)
        carry = bit_and(ones, matched)
        ones = bit_xor(ones, matched)
        carry, twos = bit_and(twos, carry), bit_xor(twos, carry)
        plane = 2 * WORDS
        while not is_zero(carry):
            held = load_16_words(planes, plane)
            store(planes, plane, bit_xor(held, carry))
            carry = bit_and(held, carry)
            plane += WORDS
    store(planes, 0, ones)
    store(planes, WORDS, twos)


@njit(inline="always")
def _mark(table, classes, offset):
    """Set each trial's bit at its class."""
    for t in range(len(classes)):
        table[np.int64(classes[t]) * STRIDE + offset + (t >> 6)] |= _bit(t)


@njit(inline="always")
def _clear(table, classes, offset):
    """Undo _mark; the words hold nothing but what it set."""
    for t in range(len(classes)):
        table[np.int64(classes[t]) * STRIDE + offset + (t >> 6)] = 0


@njit(nogil=True)
def _drain(planes, counts, part, weight):
    """Add the bit-sliced counters to the counts and start them again from zero."""
    for p in range(PLANES):
        for t in range(len(counts)):
            held = (planes[p * WORDS + (t >> 6)] >> uint64(t & 63)) & uint64(1)
            counts[t, part] += (np.int64(held) << p) * weight
    planes[:] = 0


@njit(cache=True, nogil=True)
def count_batch(logits, rows, leading, groups, maps, table, planes, scratch, counts):
    """Add the matches of at most 1,024 maps (K, trials) to counts (trials, parts).

    rows (E,) are the entries' samples and leading (E, R) their leading classes, R a multiple of STEP,
    padded with the class C, which is never chosen. groups (G, 5), sorted by part and weight: label,
    part, weight, and the range of entries that have these. table
    ((C + 1) * STRIDE,), planes (PLANES * WORDS,), scratch (3 * WORDS,) are uint64 working space on
    cache lines, planes all zero.
    """
    table[:] = 0
    scratch[:] = 0
    for t in range(maps.shape[1]):
        scratch[t >> 6] |= _bit(t)
    for k in range(len(maps)):
        _mark(table, maps[k], 0)
    for g in range(len(groups)):
        label, part, weight, first, last = groups[g]
        _mark(table, maps[label], WORDS)
        _count_samples(logits, rows, leading, first, last, label, maps, table, planes, scratch)
        _clear(table, maps[label], WORDS)
        if g + 1 == len(groups) or groups[g + 1, 1] != part or groups[g + 1, 2] != weight:
            _drain(planes, counts, part, weight)
