"""Control of the memory that a memory-mapped file takes in this process."""

import mmap

import numpy as np

__all__ = ["release_pages"]


def release_pages(array: np.ndarray) -> None:
    """Let the operating system take back the pages of an array that is memory-mapped read-only from a file.

    The values stay as they are: pages in use again come from the system's file cache, or are read again. Arrays that
    are not mapped, or are mapped for writing, are left alone. Called during a pass over all logits, this keeps the
    memory of the process from growing to the size of the file.
    """
    base: object = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    # Pages of a mapping for writing may hold changes, which would be lost.
    if isinstance(base, mmap.mmap) and memoryview(base).readonly and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
