"""Rows of logits that kernels read, and the release of their pages where they are mapped from a file."""

import mmap
from typing import NamedTuple

import numpy as np
from numba import types

from modgap.discrepancy.kernels.compilation import inner_kernel
from modgap.storage.memory_map import mapped_range, release_pages

RELEASED_BYTES = 1 << 25
"""Size of the rows that a thread reads before their pages are released."""
LARGEST_RESIDENT = 1 << 28
"""Size of a mapped array up to which all of its pages stay in memory."""
COPIED_AT_A_TIME = 512
FEW = 4
"""One of how many rows at most are copied."""
DONT_NEED = getattr(mmap, "MADV_DONTNEED", -1)


class Pages(NamedTuple):
    """Pages of a memory-mapped array.

    Attributes:
        address: Address of the first page.
        size: Size of all pages in bytes; 0 if they are never released.
        entries: Number of entries whose rows are read before all pages are released.
    """

    address: np.uint64
    size: np.uint64
    entries: np.int64


class Rows(NamedTuple):
    """Logits (N, C) with the pages that they are mapped from, and the row of each entry (E,)."""

    logits: np.ndarray
    pages: Pages
    rows: np.ndarray


def pages_of(logits: np.ndarray, n_entries: int) -> Pages:
    """Return the pages of logits (N, C), without a size if they are not mapped from a file or stay in memory.

    Args:
        logits: Source logits.
        n_entries: Number of entries in the order of their rows.
    """
    address, size = mapped_range(logits) if logits.nbytes > LARGEST_RESIDENT else (0, 0)
    entries = max(1, n_entries * RELEASED_BYTES // logits.nbytes) if size else n_entries
    return Pages(np.uint64(address), np.uint64(size), np.int64(entries))


def rows_of(logits: np.ndarray, rows: np.ndarray) -> Rows:
    """Return logits (N, C) and the row of each entry (E,) in the form that the kernels take.

    Few rows of a file are copied, because the system maps the pages beside each page: few rows would map all of it.
    """
    pages = pages_of(logits, len(rows))
    if pages.size > 0 and FEW * len(rows) < len(logits):
        copies = np.empty((len(rows), logits.shape[1]), logits.dtype)
        for first in range(0, len(rows), COPIED_AT_A_TIME):
            copies[first : first + COPIED_AT_A_TIME] = logits[rows[first : first + COPIED_AT_A_TIME]]
            release_pages(logits)
        copies.flags.writeable = False
        return Rows(copies, pages_of(copies, len(rows)), np.arange(len(rows)))
    return Rows(logits, pages, rows)


if DONT_NEED >= 0:
    # A symbol of the C library, which Numba can keep in its cache, unlike a function pointer.
    _madvise = types.ExternalFunction("madvise", types.intc(types.uintp, types.uintp, types.intc))

    @inner_kernel
    def release(pages):
        """Let the system take back the pages; the values come from its file cache when they are read again."""
        if pages.size > 0:
            _madvise(pages.address, pages.size, DONT_NEED)

else:

    @inner_kernel
    def release(pages):
        """Do nothing where pages cannot be released."""
