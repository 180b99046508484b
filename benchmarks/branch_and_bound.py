"""Prove the smallest 0-1 discrepancy by a depth-first branch and bound over injective maps, to check the search.

For target class k and source classes c and d, `beats[k, c, d]` has one bit for each sample of k. The bit is set if
the logit of c is above the logit of d (the lower class wins a tie). The matches of a map are the bits that are left in
the intersection of beats[k, m[k], m[j]] over all other classes j. A class without a source class can match at most as
many samples as the best free source class. A class with a source class can match at most as many as it matches now.
"""

import numpy as np
from numba import njit

LARGEST_CLASS = 63


def most_matches(logits: np.ndarray, labels: np.ndarray, n_classes: int, best_known: int) -> int:
    """Return the largest number of samples that an injective map matches, or `best_known` if that is larger.

    Args:
        logits: Source logits, shape (N, C).
        labels: Target class 0..K-1 of each sample, shape (N,), with at most 63 samples of a class.
        n_classes: The number of target classes K.
        best_known: Matches of a map that is already known. The better that map, the shorter the proof.
    """
    if np.bincount(labels).max() > LARGEST_CLASS:
        raise ValueError(f"expected at most {LARGEST_CLASS} samples of a class")
    return int(_descend(_beats(logits, labels, n_classes), best_known))


def _beats(logits: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    n_source = logits.shape[1]
    ranks = np.empty(logits.shape, np.int64)
    np.put_along_axis(ranks, np.argsort(-logits, axis=1, kind="stable"), np.arange(n_source)[None], axis=1)
    beats = np.zeros((n_classes, n_source, n_source), np.int64)
    for k in range(n_classes):
        for bit, sample_ranks in enumerate(ranks[labels == k]):
            beats[k] |= (sample_ranks[:, None] <= sample_ranks[None, :]).astype(np.int64) << bit
    return beats


@njit(inline="always")
def _bits(x):
    """Return the number of set bits of a non-negative 63-bit number."""
    x = x - ((x >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((x * 0x0101010101010101) >> 56) & 0xFF


@njit
def _narrow(beats, depth, left, used, chosen):
    """Fill left[depth + 1] from left[depth] and the choice for class `depth`; return the bound on all matches."""
    n_classes, n_source = beats.shape[:2]
    bound = 0
    newest = chosen[depth]
    for k in range(depth + 1):
        c = chosen[k]
        left[depth + 1, k, c] = left[depth, k, c] & beats[k, c, newest]
        bound += _bits(left[depth + 1, k, c])
    for k in range(depth + 1, n_classes):
        most = 0
        for c in range(n_source):
            if not used[c]:
                left[depth + 1, k, c] = left[depth, k, c] & beats[k, c, newest]
                most = max(most, _bits(left[depth + 1, k, c]))
        bound += most
    return bound


@njit(cache=True)
def _descend(beats, best_known):
    n_classes, n_source = beats.shape[:2]
    left = np.empty((n_classes + 1, n_classes, n_source), np.int64)
    for k in range(n_classes):
        for c in range(n_source):
            left[0, k, c] = beats[k, c, c]
    chosen = np.full(n_classes, -1)
    used = np.zeros(n_source, np.bool_)
    depth = 0
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
        if bound <= best_known:
            continue
        if depth == n_classes - 1:
            best_known = bound
        else:
            depth += 1
    return best_known
