"""Largest number of samples of two or three target classes that a map can classify correctly.

wins[k][c, d] counts the samples of target class k whose logit of source class c is above that of d. The optimum of a
pair of target classes follows from two such tables. For a triple they give a bound: among the samples in which c must
win against d and e, at most as many are correct as win against the stronger of the two. Nodes (c, d) are visited from
the highest bound down. If a bound exceeds the best matches so far, the classes e are counted sample by sample.
"""

import numpy as np
from numba import njit

from modgap.discrepancy.kernels.compilation import allocating_kernel, inner_kernel
from modgap.discrepancy.kernels.enumeration import count_above, count_below


@allocating_kernel
def count_wins(ranks, start, stop, wins):
    """Fill the rows start..stop of wins (C, C) and their mirror images, from the ranks (C, E) of one target class."""
    size = ranks.shape[1]
    for c in range(start, stop):
        for d in range(c):
            wins[c, d] = count_below(ranks[c], ranks[d])
            wins[d, c] = size - wins[c, d]


@allocating_kernel
def best_pair(wins, others, size, other_size):
    """Return the most matches of two target classes over all pairs of source classes, from their wins and sizes."""
    highest = -other_size
    lowest = size
    for c in range(len(wins)):
        for d in range(c):
            more = wins[c, d] - others[c, d]
            highest = max(highest, more)
            lowest = min(lowest, more)
    return max(other_size + highest, size - lowest)


@inner_kernel
def _bound(first, second, third, total, c, d, limits):
    """Write bounds on the matches of the triple under (c, d, e), for all e, into limits (C,).

    total is the number of samples of the third target class.
    """
    wins_of_c = first[c, d]
    wins_of_d = second[d, c]
    of_c = first[c]
    of_d = second[d]
    from_c = third[c]
    from_d = third[d]
    for e in range(len(limits)):
        won = min(wins_of_c, of_c[e]) + min(wins_of_d, of_d[e])
        limits[e] = won + total - max(from_c[e], from_d[e])
    limits[c] = limits[d] = 0


@allocating_kernel
def triple_bounds(first, second, third, total, start, stop, bounds):
    """Write the largest bound over e of each node (c, d), for c from start to stop, into bounds (C, C)."""
    limits = np.empty(len(first), np.int32)
    for c in range(start, stop):
        for d in range(len(first)):
            bounds[c, d] = 0
            if c != d:
                _bound(first, second, third, total, c, d, limits)
                most = limits[0]
                for e in range(1, len(limits)):
                    most = max(most, limits[e])
                bounds[c, d] = most


@inner_kernel
def _fill_limits(ranks, cuts, c, d, limits):
    """Write the limit of e's rank in each sample: lower limits for classes one and two, upper ones for class three."""
    never = np.iinfo(limits.dtype).max
    for i in range(limits.size):
        high = ranks[c, i]
        low = ranks[d, i]
        if i < cuts[1]:
            limits[i] = high if high < low else never
        elif i < cuts[2]:
            limits[i] = low if low < high else never
        else:
            limits[i] = min(high, low)


@inner_kernel
def _matches(ranks, cuts, e, limits):
    """Return the matches of the triple whose third source class is e."""
    correct = count_above(ranks[e, : cuts[2]], limits[: cuts[2]])
    return correct + count_below(ranks[e, cuts[2] :], limits[cuts[2] :])


@allocating_kernel
def refine_triple(ranks, cuts, first, second, third, nodes, most):
    """Return the most matches at the given nodes (c C + d), or `most` if that is larger.

    Only classes e with a bound above `most` are counted. ranks (C, E) has the samples of the first target class in the
    columns cuts[0]..cuts[1], those of the second in cuts[1]..cuts[2], and so on.
    """
    sources = len(ranks)
    total = cuts[3] - cuts[2]
    bounds = np.empty(sources, np.int32)
    limits = np.empty(ranks.shape[1], ranks.dtype)
    for node in nodes:
        c = node // sources
        d = node % sources
        _bound(first, second, third, total, c, d, bounds)
        needs_limits = True
        for e in range(sources):
            if bounds[e] > most:
                if needs_limits:
                    _fill_limits(ranks, cuts, c, d, limits)
                    needs_limits = False
                most = max(most, _matches(ranks, cuts, e, limits))
    return most


@njit(inline="always")
def _lowest(members):
    """Return the lowest class of a set given as bits."""
    k = 0
    while not members >> k & 1:
        k += 1
    return k


@inner_kernel
def _fill_partitions(pairs, triples, least, groups):
    """Fill the least total weight of each set of classes, and the group of its lowest class in that partition."""
    classes = len(pairs)
    for members in range(1, len(least)):
        k = _lowest(members)
        for j in range(k + 1, classes):
            if not members >> j & 1:
                continue
            rest = members ^ (1 << k) ^ (1 << j)
            if least[rest] + pairs[k, j] < least[members]:
                least[members] = least[rest] + pairs[k, j]
                groups[members] = 1 << k | 1 << j
            for m in range(j + 1, classes):
                left = rest ^ (1 << m)
                if rest >> m & 1 and least[left] + triples[k, j, m] < least[members]:
                    least[members] = least[left] + triples[k, j, m]
                    groups[members] = 1 << k | 1 << j | 1 << m


@allocating_kernel
def best_partition(pairs, triples):
    """Return the partition of K classes into pairs and triples with the least total weight, each group as bits.

    The weights pairs (K, K) and triples (K, K, K) are read at increasing indices.
    """
    every = (1 << len(pairs)) - 1
    least = np.full(every + 1, np.int64(1) << 60, np.int64)
    groups = np.zeros(every + 1, np.int64)
    least[0] = 0
    _fill_partitions(pairs, triples, least, groups)
    chosen = [np.int64(0) for _ in range(0)]
    members = every
    while members:
        chosen.append(groups[members])
        members ^= groups[members]
    return chosen
