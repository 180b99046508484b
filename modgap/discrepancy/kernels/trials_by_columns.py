"""Count matches of many maps, 64 samples of one label at a time: best where K is small.

With the samples' rank codes stored class by class, a sample matches a map when its own label's class
holds the largest code among the K chosen. So one trial on one block is a running maximum over K
columns, one comparison and a count of bits.

Codes of one byte halve the work. They tell the leading ranks apart one by one, among which the largest
of K columns nearly always is, and the rest in steps; a lane whose largest bytes tie is settled by its
two-byte codes, so the counts stay exact.
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
        """Add a block's matches under each map (T, K), each counting `weight`, to counts (T, parts).

        segments (S, 2), uint64: a part's number and the mask of the block's lanes that belong to it.
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
def _settle(codes, width, label, maps, t, ties):
    """Those of the tied lanes in which the label's class holds the largest two-byte code."""
    matched = uint64(0)
    while ties:
        rest = ties & (ties - uint64(1))
        bit = ties ^ rest
        lane = popcount(bit - uint64(1))
        own = codes[maps[t, label] * width + lane]
        wins = True
        for k in range(maps.shape[1]):
            wins &= codes[maps[t, k] * width + lane] <= own
        if wins:
            matched |= bit
        ties = rest
    return matched


def _byte_counter(load, width):
    @njit(cache=True, nogil=True)
    def count(codes, coarse, label, weight, segments, maps, counts):
        """As above, by one-byte codes `coarse` (C * width,) with `codes` to settle ties; K >= 2."""
        trials, chosen = maps.shape
        part, lanes = segments[0]
        used = lanes
        for s in range(1, len(segments)):
            used |= segments[s, 1]
        for t in range(trials):
            own = load(coarse, maps[t, label] * width)
            best = load(coarse, maps[t, chosen - 1 if label != chosen - 1 else 0] * width)
            for k in range(label):
                best = highest(best, load(coarse, maps[t, k] * width))
            for k in range(label + 1, chosen - 1):
                best = highest(best, load(coarse, maps[t, k] * width))
            matched = lower_lanes(best, own)
            ties = equal_lanes(best, own) & used
            if ties:
                matched |= _settle(codes, width, label, maps, t, ties)
            counts[t, part] += weight * popcount(matched & lanes)
            for s in range(1, len(segments)):
                counts[t, segments[s, 0]] += weight * popcount(matched & segments[s, 1])

    return count


@njit(cache=True, nogil=True)
def coarsen(codes, table, coarse):
    """Look every two-byte code up in the table of bytes (C + 1,)."""
    for i in range(len(coarse)):
        coarse[i] = table[codes[i]]


def byte_table(n_source_classes: int) -> np.ndarray:
    """A byte for each code 0..C, rising: one for each of the leading ranks, the rest in equal steps."""
    ranks = n_source_classes - np.arange(n_source_classes + 1)
    steps = max(1, n_source_classes - LEADING)
    deep = BYTES - LEADING - (ranks - LEADING) * (BYTES - LEADING - 1) // steps
    return np.where(ranks < LEADING, BYTES - ranks, np.maximum(deep, 0)).astype(np.uint8)


count_wide = _counter(load_64, 64)
count_narrow = _counter(load_32, 32)
count_wide_bytes = _byte_counter(load_64, 64)
count_narrow_bytes = _byte_counter(load_32, 32)
