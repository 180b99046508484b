"""Count matches of many maps, 64 samples of one label at a time: best where K is small.

With the samples' rank codes stored class by class, a sample matches a map when its own label's class
holds the largest code among the K chosen. So one trial on one block is a running maximum over K
columns, one comparison and a count of bits.
"""

from numba import njit

from modgap.discrepancy._simd import equal_lanes, highest, load_32, load_64, popcount

__all__ = ["count_narrow", "count_wide"]


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


count_wide, count_narrow = _counter(load_64, 64), _counter(load_32, 32)
