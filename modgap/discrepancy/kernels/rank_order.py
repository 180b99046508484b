"""Order each sample's source classes by logit, ties to the lowest class.

A least-significant-digit radix sort is stable, so ties need no mending, and its time does not depend
on how the logits are spread. Where only the leading ranks are wanted, a threshold taken from a few
of the row's values first throws most classes away.
"""

import numpy as np
from numba import njit, uint32, uint64

__all__ = ["code_block", "leading_classes"]

PROBES = 64


@njit(inline="always")
def _descending_key(logit):
    """A uint32 that grows as the logit falls; both zeros get the same one."""
    bits = np.float32(logit + np.float32(0)).view(np.uint32)
    return bits if bits >> uint32(31) else uint32(~bits) & uint32(0x7FFFFFFF)


@njit(nogil=True)
def _radix_sort(items, spare, size):
    """Sort the uint64 items (key above, class below) by their upper 32 bits; returns the sorted array."""
    for digit in range(4):
        shift = uint64(32 + 8 * digit)
        starts = np.zeros(257, np.int64)
        for i in range(size):
            starts[((items[i] >> shift) & uint64(255)) + 1] += 1
        if starts[((items[0] >> shift) & uint64(255)) + 1] == size:
            continue
        for b in range(256):
            starts[b + 1] += starts[b]
        for i in range(size):
            b = (items[i] >> shift) & uint64(255)
            spare[starts[b]] = items[i]
            starts[b] += 1
        items, spare = spare, items
    return items


@njit(nogil=True)
def _probe_threshold(row, wanted):
    """The `wanted`-th largest of PROBES evenly spaced logits of the row."""
    top = np.full(wanted, -np.inf, np.float32)
    for p in range(PROBES):
        value = row[p * len(row) // PROBES]
        if value > top[wanted - 1]:
            j = wanted - 1
            while j > 0 and top[j - 1] < value:
                top[j] = top[j - 1]
                j -= 1
            top[j] = value
    return top[wanted - 1]


@njit(nogil=True)
def _collect(row, threshold, items):
    size = 0
    for c in range(len(row)):
        items[size] = (uint64(_descending_key(row[c])) << uint64(32)) | uint64(c)
        size += row[c] >= threshold
    return size


@njit(cache=True, nogil=True)
def leading_classes(logits, start, stop, leading):
    """Classes of the largest logits of rows start..stop, largest first, into leading (N, R).

    Where R exceeds C, the rest of a row holds C, the number of no class.
    """
    classes = logits.shape[1]
    kept = min(leading.shape[1], classes)
    items = np.empty(classes + 1, np.uint64)
    spare = np.empty(classes + 1, np.uint64)
    for i in range(start, stop):
        size = 0
        wanted = 2 + 3 * PROBES * kept // (2 * classes)
        while size < kept:
            threshold = np.float32(-np.inf)
            if wanted < PROBES:
                threshold = _probe_threshold(logits[i], wanted)
            size = _collect(logits[i], threshold, items)
            wanted *= 2
        ordered = _radix_sort(items, spare, size)
        for r in range(kept):
            leading[i, r] = ordered[r] & uint64(0xFFFFFFFF)
        leading[i, kept:] = classes


@njit(cache=True, nogil=True)
def code_block(logits, rows, width, codes):
    """Rank codes of one block of samples, class by class, into codes (C * width,).

    codes[c * width + j] is C for the class of the j-th sample's largest logit, 1 for its smallest;
    lanes without a sample stay as they are.
    """
    classes = logits.shape[1]
    items = np.empty(classes + 1, np.uint64)
    spare = np.empty(classes + 1, np.uint64)
    for j in range(len(rows)):
        size = _collect(logits[rows[j]], np.float32(-np.inf), items)
        ordered = _radix_sort(items, spare, size)
        for r in range(size):
            codes[(ordered[r] & uint64(0xFFFFFFFF)) * uint64(width) + uint64(j)] = classes - r
