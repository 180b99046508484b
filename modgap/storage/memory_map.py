"""Control of the memory that a memory-mapped file takes in this process."""

import mmap

import numpy as np

from modgap.process.resources import release_free_memory

TRIMMED_BYTES = 1 << 27
"""Size of a mapped array from which on freed memory is given back with its pages."""


def release_pages(array: np.ndarray) -> None:
    """Let the operating system take back the pages of an array that is memory-mapped read-only from a file.

    The values stay as they are: pages in use again come from the system's file cache, or are read again. Arrays that
    are not mapped, or are mapped for writing, are left alone. Called during a pass over all logits, this keeps the
    memory of the process from growing to the size of the file. Memory that temporary arrays of the pass have freed is
    given back with the pages of large files.
    """
    mapping = _read_only_mapping(array)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
        if array.nbytes >= TRIMMED_BYTES:
            release_free_memory()


def mapped_range(array: np.ndarray) -> tuple[int, int]:
    """Return the address and the size in bytes of the pages of an array, or two zeros if `release_pages` leaves it."""
    mapping = _read_only_mapping(array)
    if mapping is None:
        return 0, 0
    pages = np.frombuffer(mapping, np.uint8)
    return pages.ctypes.data, pages.nbytes


def _read_only_mapping(array: np.ndarray) -> mmap.mmap | None:
    """Return what an array is mapped from; None if it is not mapped, or mapped for writing."""
    base: object = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    # Pages of a mapping for writing may hold changes, which would be lost.
    return base if isinstance(base, mmap.mmap) and memoryview(base).readonly else None
