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

from modgap.discrepancy.kernels.compilation import inner_kernel, kernel
from modgap.discrepancy.kernels.simd import equal_lanes, highest, load_32, load_64, lower_lanes, popcount

BYTES = 255
LEADING = 223


@njit(inline="always")
def _matched_in_64(codes, label, maps, t):
    """Return the lanes in which the label's class has the largest code among the classes of map t."""
    best = load_64(codes, maps[t, 0] * 64)
    for k in range(1, maps.shape[1]):
        best = highest(best, load_64(codes, maps[t, k] * 64))
    return equal_lanes(best, load_64(codes, maps[t, label] * 64))


@njit(inline="always")
def _matched_in_32(codes, label, maps, t):
    best = load_32(codes, maps[t, 0] * 32)
    for k in range(1, maps.shape[1]):
        best = highest(best, load_32(codes, maps[t, k] * 32))
    return equal_lanes(best, load_32(codes, maps[t, label] * 32))


@kernel
def count_codes(codes, width, label, weight, segments, maps, counts):
    """Add the matches of a block under each map (T, K), times weight, to counts (T, parts).

    The block has 64 or 32 lanes (width). segments (S, 2), uint64, has the number of each part and the mask of the
    block's lanes that belong to it.
    """
    part = segments[0, 0]
    lanes = segments[0, 1]
    for t in range(len(maps)):
        matched = _matched_in_64(codes, label, maps, t) if width == 64 else _matched_in_32(codes, label, maps, t)
        counts[t, part] += weight * popcount(matched & lanes)
        for s in range(1, len(segments)):
            counts[t, segments[s, 0]] += weight * popcount(matched & segments[s, 1])


@inner_kernel
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


@njit(inline="always")
def _compare_in_64(coarse, label, maps, t):
    """Return the lanes in which the label's class has the only largest byte, and those in which its byte ties."""
    last = maps.shape[1] - 1
    label_codes = load_64(coarse, maps[t, label] * 64)
    best = load_64(coarse, maps[t, last if label != last else 0] * 64)
    for k in range(label):
        best = highest(best, load_64(coarse, maps[t, k] * 64))
    for k in range(label + 1, last):
        best = highest(best, load_64(coarse, maps[t, k] * 64))
    return lower_lanes(best, label_codes), equal_lanes(best, label_codes)


@njit(inline="always")
def _compare_in_32(coarse, label, maps, t):
    last = maps.shape[1] - 1
    label_codes = load_32(coarse, maps[t, label] * 32)
    best = load_32(coarse, maps[t, last if label != last else 0] * 32)
    for k in range(label):
        best = highest(best, load_32(coarse, maps[t, k] * 32))
    for k in range(label + 1, last):
        best = highest(best, load_32(coarse, maps[t, k] * 32))
    return lower_lanes(best, label_codes), equal_lanes(best, label_codes)


@kernel
def count_bytes(codes, coarse, width, label, weight, segments, maps, counts):
    """Count as above with one-byte codes `coarse` (C * width,), and with `codes` to decide ties; K >= 2."""
    part = segments[0, 0]
    lanes = segments[0, 1]
    used = lanes
    for s in range(1, len(segments)):
        used |= segments[s, 1]
    for t in range(len(maps)):
        if width == 64:
            matched, ties = _compare_in_64(coarse, label, maps, t)
        else:
            matched, ties = _compare_in_32(coarse, label, maps, t)
        if ties & used:
            matched |= _decide_ties(codes, width, label, maps, t, ties & used)
        counts[t, part] += weight * popcount(matched & lanes)
        for s in range(1, len(segments)):
            counts[t, segments[s, 0]] += weight * popcount(matched & segments[s, 1])


@kernel
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
