"""Contexts in which computations run in one thread, so that results do not depend on the number of threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

__all__ = ["single_blas_thread", "single_thread"]


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP to one thread: the way they divide work between several threads changes the last bits."""
    with threadpool_limits(1):
        yield


@contextmanager
def single_thread() -> Iterator[None]:
    """Limit BLAS, OpenMP and PyTorch to one thread; PyTorch has its own threads and BLAS, which other limits miss."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with single_blas_thread():
            yield
    finally:
        torch.set_num_threads(before)
