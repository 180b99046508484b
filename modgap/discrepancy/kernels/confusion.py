"""Count (label, predicted class) for subsets of the source classes."""

from numba import njit

__all__ = ["count_by_reading", "count_by_walking"]


@njit(inline="always")
def _first_of(logits, row, subset):
    """Place in the sorted subset of the row's largest logit; ties to the lowest class."""
    best = 0
    for k in range(1, len(subset)):
        if logits[row, subset[k]] > logits[row, subset[best]]:
            best = k
    return best


@njit(cache=True, nogil=True)
def count_by_walking(logits, rows, leading, labels, weights, subsets, place, counts):
    """Walk each sample's leading classes (E, R) down to the first chosen one: best where K is large.

    subsets (M, K), each sorted, into counts (M or more, K, K); place (C,) is working space, all -1. What
    the leading classes leave undecided is read from the logits.
    """
    kept = leading.shape[1]
    for m in range(len(subsets)):
        counts[m] = 0
        for k in range(subsets.shape[1]):
            place[subsets[m, k]] = k
        for i in range(len(rows)):
            r = 0
            while r < kept and place[leading[i, r]] < 0:
                r += 1
            k = place[leading[i, r]] if r < kept else _first_of(logits, rows[i], subsets[m])
            counts[m, labels[i], k] += weights[i]
        for k in range(subsets.shape[1]):
            place[subsets[m, k]] = -1


@njit(cache=True, nogil=True)
def count_by_reading(logits, rows, labels, weights, subsets, counts):
    """Compare the logits of the chosen classes: best where K is small. Arguments as above.

    Samples go outside, so that a row is in the cache for all subsets.
    """
    counts[: len(subsets)] = 0
    for i in range(len(rows)):
        for m in range(len(subsets)):
            counts[m, labels[i], _first_of(logits, rows[i], subsets[m])] += weights[i]
