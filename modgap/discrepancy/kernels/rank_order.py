"""Order of each sample's source classes by logit, with ties to the lowest class.

A least-significant-digit radix sort is stable, so that ties need no special treatment, and its time does not depend on
the distribution of the logits. If only the leading ranks are needed, a threshold from a few values of the row discards
most classes first.
"""

import numpy as np
from numba import njit, uint32, uint64

from modgap.discrepancy.kernels.compilation import inner_kernel, kernel, shared_kernel

PROBES = 64


def new_items(n_source_classes: int) -> tuple[np.ndarray, ...]:
    """Return the working space of `leading_classes` and `code_block` for rows of C logits.

    It is two arrays of items (C + 1,), the first position of each digit (257,), and the largest probes (PROBES,).
    """
    size = n_source_classes + 1
    return np.empty(size, np.uint64), np.empty(size, np.uint64), np.empty(257, np.int64), np.empty(PROBES, np.float32)


@njit(inline="always")
def _descending_key(logit):
    """Return a uint32 that increases as the logit decreases; positive and negative zero are equal."""
    bits = np.float32(logit + np.float32(0)).view(np.uint32)
    return bits if bits >> uint32(31) else uint32(~bits) & uint32(0x7FFFFFFF)


@shared_kernel
def _radix_sort(items, spare, starts, size):
    """Sort uint64 items by their upper 32 bits; return True if the sorted array is spare, and False if it is items."""
    is_spare = False
    for digit in range(4):
        shift = uint64(32 + 8 * digit)
        for b in range(len(starts)):
            starts[b] = 0
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
        is_spare = not is_spare
    return is_spare


@inner_kernel
def _probe_threshold(row, wanted, top):
    """Return the largest logit number `wanted` among PROBES evenly spaced logits of the row; top is working space."""
    for j in range(wanted):
        top[j] = -np.inf
    for p in range(PROBES):
        value = row[p * len(row) // PROBES]
        if value > top[wanted - 1]:
            j = wanted - 1
            while j > 0 and top[j - 1] < value:
                top[j] = top[j - 1]
                j -= 1
            top[j] = value
    return top[wanted - 1]


@shared_kernel
def _collect(row, threshold, items):
    """Write the items (key in the upper bits, class in the lower) of logits from a threshold on; return how many."""
    size = 0
    for c in range(len(row)):
        items[size] = (uint64(_descending_key(row[c])) << uint64(32)) | uint64(c)
        size += row[c] >= threshold
    return size


@kernel
def leading_classes(logits, start, stop, leading, items, spare, starts, top):
    """Write the classes of the largest logits of rows start..stop, largest first, into leading (N, R).

    If R exceeds C, the rest of a row is filled with C, which is not the number of a class. The last four arguments are
    working space; see `new_items`.
    """
    classes = logits.shape[1]
    depth = min(leading.shape[1], classes)
    for i in range(start, stop):
        size = 0
        wanted = 2 + 3 * PROBES * depth // (2 * classes)
        while size < depth:
            threshold = np.float32(-np.inf)
            if wanted < PROBES:
                threshold = _probe_threshold(logits[i], wanted, top)
            size = _collect(logits[i], threshold, items)
            wanted *= 2
        ordered = spare if _radix_sort(items, spare, starts, size) else items
        for r in range(depth):
            leading[i, r] = ordered[r] & uint64(0xFFFFFFFF)
        for r in range(depth, leading.shape[1]):
            leading[i, r] = classes


@kernel
def code_block(logits, rows, width, codes, items, spare, starts):
    """Write the rank codes of one block of samples, class by class, into codes (C * width,).

    codes[c * width + j] is C for the class of the j-th sample's largest logit, and 1 for that of its smallest. Lanes
    without a sample are not changed. The last three arguments are working space; see `new_items`.
    """
    classes = logits.shape[1]
    for j in range(len(rows)):
        size = _collect(logits[rows[j]], np.float32(-np.inf), items)
        ordered = spare if _radix_sort(items, spare, starts, size) else items
        for r in range(size):
            codes[(ordered[r] & uint64(0xFFFFFFFF)) * uint64(width) + uint64(j)] = classes - r
