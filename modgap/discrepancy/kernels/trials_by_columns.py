"""Count the matches of many maps for 64 samples of one label at a time, which is fast for small K.

The samples' rank codes are stored class by class. A sample matches a map if the class of its label has the largest code
among the K chosen classes. So one trial on one block is a running maximum over K columns, one comparison and a count of
bits.
"""

from numba import njit

from modgap.discrepancy.kernels.compilation import kernel
from modgap.discrepancy.kernels.simd import equal_lanes, highest, load_32, load_64, popcount


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
