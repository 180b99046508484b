"""Count the pairs (label, predicted class) under subsets of the source classes."""

from numba import njit

from modgap.discrepancy.kernels.compilation import kernel


@njit(inline="always")
def _first_of(logits, row, subset):
    """Return the position in the sorted subset of the row's largest logit; ties go to the lowest class."""
    best = 0
    for k in range(1, len(subset)):
        if logits[row, subset[k]] > logits[row, subset[best]]:
            best = k
    return best


@kernel
def count_by_walking(logits, rows, leading, labels, weights, subsets, positions, counts):
    """Count by walking each sample's leading classes (E, R) down to the first chosen one, which is fast for large K.

    The counts of subsets (M, K), each sorted, are written into counts (M or more, K, K). positions (C,) is working
    space, all -1 before and after the call. Samples without a chosen class among the leading ones are decided from
    their logits.
    """
    depth = leading.shape[1]
    for m in range(len(subsets)):
        counts[m] = 0
        for k in range(subsets.shape[1]):
            positions[subsets[m, k]] = k
        for i in range(len(rows)):
            r = 0
            while r < depth and positions[leading[i, r]] < 0:
                r += 1
            k = positions[leading[i, r]] if r < depth else _first_of(logits, rows[i], subsets[m])
            counts[m, labels[i], k] += weights[i]
        for k in range(subsets.shape[1]):
            positions[subsets[m, k]] = -1


@kernel
def count_by_reading(logits, rows, labels, weights, subsets, counts):
    """Count by comparing the logits of the chosen classes, which is fast for small K.

    The arguments are those of `count_by_walking`, but the counts are added to those that are there. The outer loop is
    over samples, so that a row stays in the cache for all subsets.
    """
    for i in range(len(rows)):
        for m in range(len(subsets)):
            counts[m, labels[i], _first_of(logits, rows[i], subsets[m])] += weights[i]
