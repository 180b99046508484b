"""The smallest 0-1 discrepancy, proved: depth-first branch and bound over injective maps, for judging the search.

For target class k, source classes c and d, `beats[k, c, d]` holds one bit for each of k's samples: whether
c's logit lies above d's there (ties go to the lower class). A map's matches are the bits left in
the intersection of beats[k, m[k], m[j]] over the other classes j. A class that has no source class yet
can have no more than the best of the free ones leaves it, and one that has its own no more than it has now.
"""

import numpy as np
from numba import njit

__all__ = ["most_matches"]

LARGEST_CLASS = 63


def most_matches(logits: np.ndarray, labels: np.ndarray, n_classes: int, known: int) -> int:
    """The most samples that any injective map gets right, if more than `known`, else `known`.

    Args:
        logits: Source logits, shape (N, C).
        labels: Target class 0..K-1 of each sample, shape (N,); at most 63 samples of a class.
        n_classes: K.
        known: Matches of a map at hand; the better it is, the less is searched.
    """
    if np.bincount(labels).max() > LARGEST_CLASS:
        raise ValueError(f"expected at most {LARGEST_CLASS} samples of a class")
    return int(_descend(_beats(logits, labels, n_classes), known))


def _beats(logits: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    n_source = logits.shape[1]
    place = np.empty(logits.shape, np.int64)
    np.put_along_axis(place, np.argsort(-logits, axis=1, kind="stable"), np.arange(n_source)[None], axis=1)
    beats = np.zeros((n_classes, n_source, n_source), np.int64)
    for k in range(n_classes):
        for bit, own in enumerate(place[labels == k]):
            beats[k] |= (own[:, None] <= own[None, :]).astype(np.int64) << bit
    return beats


@njit(inline="always")
def _bits(x):
    """Number of bits set in a non-negative 63-bit number."""
    x = x - ((x >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((x * 0x0101010101010101) >> 56) & 0xFF


@njit
def _narrow(beats, depth, left, used, chosen):
    """left[depth + 1] from left[depth] and class `depth`'s choice; what all classes can still have together."""
    n_classes, n_source = beats.shape[:2]
    bound, own = 0, chosen[depth]
    for k in range(depth + 1):
        c = chosen[k]
        left[depth + 1, k, c] = left[depth, k, c] & beats[k, c, own]
        bound += _bits(left[depth + 1, k, c])
    for k in range(depth + 1, n_classes):
        most = 0
        for c in range(n_source):
            if not used[c]:
                left[depth + 1, k, c] = left[depth, k, c] & beats[k, c, own]
                most = max(most, _bits(left[depth + 1, k, c]))
        bound += most
    return bound


@njit(cache=True)
def _descend(beats, known):
    n_classes, n_source = beats.shape[:2]
    left = np.empty((n_classes + 1, n_classes, n_source), np.int64)
    for k in range(n_classes):
        for c in range(n_source):
            left[0, k, c] = beats[k, c, c]
    chosen, used, depth = np.full(n_classes, -1), np.zeros(n_source, np.bool_), 0
    while depth >= 0:
        if chosen[depth] >= 0:
            used[chosen[depth]] = False
        chosen[depth] += 1
        while chosen[depth] < n_source and used[chosen[depth]]:
            chosen[depth] += 1
        if chosen[depth] == n_source:
            chosen[depth] = -1
            depth -= 1
            continue
        used[chosen[depth]] = True
        bound = _narrow(beats, depth, left, used, chosen)
        if bound <= known:
            continue
        if depth == n_classes - 1:
            known = bound
        else:
            depth += 1
    return known
