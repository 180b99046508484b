"""Order of each sample's source classes by logit, with ties to the lowest class.

A least-significant-digit radix sort is stable, so that ties need no special treatment, and its time does not depend on
the distribution of the logits. If only the leading ranks are needed, a threshold from a few values of the row discards
most classes first.
"""

import numpy as np
from numba import njit, uint32, uint64

from modgap.discrepancy.kernels.compilation import inner_kernel, kernel

__all__ = ["code_block", "leading_classes"]

PROBES = 64


@njit(inline="always")
def _descending_key(logit):
    """Return a uint32 that increases as the logit decreases; positive and negative zero are equal."""
    bits = np.float32(logit + np.float32(0)).view(np.uint32)
    return bits if bits >> uint32(31) else uint32(~bits) & uint32(0x7FFFFFFF)


@inner_kernel
def _radix_sort(items, spare, size):
    """Sort uint64 items by their upper 32 bits and return the sorted array, which is items or spare."""
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


@inner_kernel
def _probe_threshold(row, wanted):
    """Return the largest logit number `wanted` among PROBES evenly spaced logits of the row."""
    top = np.empty(wanted, np.float32)
    top[:] = -np.inf
    for p in range(PROBES):
        value = row[p * len(row) // PROBES]
        if value > top[wanted - 1]:
            j = wanted - 1
            while j > 0 and top[j - 1] < value:
                top[j] = top[j - 1]
                j -= 1
            top[j] = value
    return top[wanted - 1]


@inner_kernel
def _collect(row, threshold, items):
    """Write the items (key in the upper bits, class in the lower) of logits from a threshold on; return how many."""
    size = 0
    for c in range(len(row)):
        items[size] = (uint64(_descending_key(row[c])) << uint64(32)) | uint64(c)
        size += row[c] >= threshold
    return size


@kernel
def leading_classes(logits, start, stop, leading):
    """Write the classes of the largest logits of rows start..stop, largest first, into leading (N, R).

    If R exceeds C, the rest of a row is filled with C, which is not the number of a class.
    """
    classes = logits.shape[1]
    depth = min(leading.shape[1], classes)
    items = np.empty(classes + 1, np.uint64)
    spare = np.empty(classes + 1, np.uint64)
    for i in range(start, stop):
        size = 0
        wanted = 2 + 3 * PROBES * depth // (2 * classes)
        while size < depth:
            threshold = np.float32(-np.inf)
            if wanted < PROBES:
                threshold = _probe_threshold(logits[i], wanted)
            size = _collect(logits[i], threshold, items)
            wanted *= 2
        ordered = _radix_sort(items, spare, size)
        for r in range(depth):
            leading[i, r] = ordered[r] & uint64(0xFFFFFFFF)
        leading[i, depth:] = classes


@kernel
def code_block(logits, rows, width, codes):
    """Write the rank codes of one block of samples, class by class, into codes (C * width,).

    codes[c * width + j] is C for the class of the j-th sample's largest logit, and 1 for that of its smallest. Lanes
    without a sample are not changed.
    """
    classes = logits.shape[1]
    items = np.empty(classes + 1, np.uint64)
    spare = np.empty(classes + 1, np.uint64)
    for j in range(len(rows)):
        size = _collect(logits[rows[j]], np.float32(-np.inf), items)
        ordered = _radix_sort(items, spare, size)
        for r in range(size):
            codes[(ordered[r] & uint64(0xFFFFFFFF)) * uint64(width) + uint64(j)] = classes - r
