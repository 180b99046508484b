"""Exact optimum by trying every injective map, if there are not too many.

With samples sorted by label and ranks stored class by class, all maps that agree on the first K - 1 classes are counted
together. The predictions of these classes are computed once. Each last class then takes one comparison for each sample,
for 64 samples at a time.
"""

import numpy as np

from modgap.discrepancy.kernels.compilation import allocating_kernel, inner_kernel
from modgap.discrepancy.kernels.simd import load_64, lower_lanes, popcount


@inner_kernel
def count_below(values, limits):
    """Return how often values[i] < limits[i], for contiguous arrays of the same unsigned type."""
    total = np.int64(0)
    full_blocks = len(values) - len(values) % 64
    for i in range(0, full_blocks, 64):
        total += popcount(lower_lanes(load_64(values, i), load_64(limits, i)))
    for i in range(full_blocks, len(values)):
        total += values[i] < limits[i]
    return total


@inner_kernel
def count_above(values, limits):
    """Return how often values[i] > limits[i]."""
    return count_below(limits, values)


@inner_kernel
def _unrank(index, sources, prefix, pool):
    """Write the index-th prefix in lexicographic order into prefix (K - 1,), and the unused classes into pool (C,)."""
    size = len(prefix)
    left = 1
    for j in range(sources):
        pool[j] = j
    for j in range(1, size):
        left *= sources - j
    for j in range(size):
        position = index // left
        index -= position * left
        prefix[j] = pool[position]
        for i in range(position, sources - j - 1):
            pool[i] = pool[i + 1]
        left //= max(1, sources - j - 1)


@inner_kernel
def _set_limits(ranks, bounds, prefix, limits):
    """Write the best rank among the prefix into limits (E,), or a rank that nothing exceeds if the prefix is wrong."""
    for i in range(len(limits)):
        limits[i] = ranks[prefix[0], i]
    for j in range(1, len(prefix)):
        for i in range(len(limits)):
            limits[i] = min(limits[i], ranks[prefix[j], i])
    never = np.iinfo(limits.dtype).max
    for k in range(len(prefix)):
        for i in range(bounds[k], bounds[k + 1]):
            if ranks[prefix[k], i] != limits[i]:
                limits[i] = never


@allocating_kernel
def best_of_prefixes(ranks, bounds, start, stop, best):
    """Return the most matches of the maps with prefixes start..stop; write the first map that has them into best (K,).

    ranks (C, E) has samples sorted by label, with label k in the columns bounds[k]..bounds[k + 1].
    """
    sources = len(ranks)
    last = bounds[-2]
    prefix = np.empty(len(best) - 1, np.int64)
    pool = np.empty(sources, np.int64)
    limits = np.empty(ranks.shape[1], ranks.dtype)
    most = -1
    for index in range(start, stop):
        _unrank(index, sources, prefix, pool)
        _set_limits(ranks, bounds, prefix, limits)
        for j in range(sources - len(prefix)):
            column = ranks[pool[j]]
            matches = count_above(column[:last], limits[:last]) + count_below(column[last:], limits[last:])
            if matches > most:
                most = matches
                best[:-1] = prefix
                best[-1] = pool[j]
    return most
