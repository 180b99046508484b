"""Count the matches of many maps for 64 samples of one label at a time, which is fast for small K.

The samples' rank codes are stored class by class. A sample matches a map if the class of its label has the largest code
among the K chosen classes. So one trial on one block is a running maximum over K columns, one comparison and a count of
bits.

Codes of one byte halve the work. They distinguish all the leading ranks, which nearly always include the largest of K
columns, and the other ranks only in steps. A lane whose largest bytes tie is decided by its two-byte codes, so that the
counts stay exact.
"""

import numpy as np
from numba import njit, uint64

from modgap.discrepancy.kernels.simd import equal_lanes, highest, load_32, load_64, lower_lanes, popcount

__all__ = [
    "BYTES",
    "LEADING",
    "byte_table",
    "coarsen",
    "count_narrow",
    "count_narrow_bytes",
    "count_wide",
    "count_wide_bytes",
]

BYTES = 255
LEADING = 223


def _counter(load, width):
    @njit(cache=True, nogil=True)
    def count(codes, label, weight, segments, maps, counts):
        """Add the matches of a block under each map (T, K), times weight, to counts (T, parts).

        segments (S, 2), uint64, has the number of each part and the mask of the block's lanes that belong to it.
        """
        trials, chosen = maps.shape
        part, lanes = segments[0]
        for t in range(trials):
            best = load(codes, maps[t, 0] * width)
            for k in range(1, chosen):
                best = highest(best, load(codes, maps[t, k] * width))
            matched = equal_lanes(best, load(codes, maps[t, label] * width))
            counts[t, part] += weight * popcount(matched & lanes)
            for s in range(1, len(segments)):
                counts[t, segments[s, 0]] += weight * popcount(matched & segments[s, 1])

    return count


@njit(nogil=True)
def _decide_ties(codes, width, label, maps, t, ties):
    """Return the tied lanes in which the label's class has the largest two-byte code."""
    matched = uint64(0)
    while ties:
        rest = ties & (ties - uint64(1))
        bit = ties ^ rest
        lane = popcount(bit - uint64(1))
        label_codes = codes[maps[t, label] * width + lane]
        wins = True
        for k in range(maps.shape[1]):
            wins &= codes[maps[t, k] * width + lane] <= label_codes
        if wins:
            matched |= bit
        ties = rest
    return matched


def _byte_counter(load, width):
    @njit(cache=True, nogil=True)
    def count(codes, coarse, label, weight, segments, maps, counts):
        """Count as above with one-byte codes `coarse` (C * width,), and with `codes` to decide ties; K >= 2."""
        trials, chosen = maps.shape
        part, lanes = segments[0]
        used = lanes
        for s in range(1, len(segments)):
            used |= segments[s, 1]
        for t in range(trials):
            label_codes = load(coarse, maps[t, label] * width)
            best = load(coarse, maps[t, chosen - 1 if label != chosen - 1 else 0] * width)
            for k in range(label):
                best = highest(best, load(coarse, maps[t, k] * width))
            for k in range(label + 1, chosen - 1):
                best = highest(best, load(coarse, maps[t, k] * width))
            matched = lower_lanes(best, label_codes)
            ties = equal_lanes(best, label_codes) & used
            if ties:
                matched |= _decide_ties(codes, width, label, maps, t, ties)
            counts[t, part] += weight * popcount(matched & lanes)
            for s in range(1, len(segments)):
                counts[t, segments[s, 0]] += weight * popcount(matched & segments[s, 1])

    return count


@njit(cache=True, nogil=True)
def coarsen(codes, table, coarse):
    """Write the byte of every two-byte code, from the table of bytes (C + 1,), into coarse."""
    for i in range(len(coarse)):
        coarse[i] = table[codes[i]]


def byte_table(n_source_classes: int) -> np.ndarray:
    """Return an increasing byte for each code 0..C: one for each of the leading ranks, and equal steps for the rest."""
    ranks = n_source_classes - np.arange(n_source_classes + 1)
    steps = max(1, n_source_classes - LEADING)
    deep = BYTES - LEADING - (ranks - LEADING) * (BYTES - LEADING - 1) // steps
    return np.where(ranks < LEADING, BYTES - ranks, np.maximum(deep, 0)).astype(np.uint8)


count_wide = _counter(load_64, 64)
count_narrow = _counter(load_32, 32)
count_wide_bytes = _byte_counter(load_64, 64)
count_narrow_bytes = _byte_counter(load_32, 32)
