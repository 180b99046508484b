"""Memory that a mapped file takes in this process."""

import mmap

import numpy as np

__all__ = ["forget_pages"]


def forget_pages(array: np.ndarray) -> None:
    """Let the system drop what it read of an array that is mapped from a file for reading alone.

    Values stay as they are: what is used again is taken from the system's own copy of the file, or read. Of
    other arrays nothing is dropped. After a pass over all logits this keeps the process from counting as large
    as the file.
    """
    base: object = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    # A mapping that may be written to would lose what was changed in it.
    if isinstance(base, memoryview):
        base = base.obj
    if isinstance(base, mmap.mmap) and memoryview(base).readonly and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
