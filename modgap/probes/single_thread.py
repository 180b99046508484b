"""Contexts in which computations run in one thread, so that results do not depend on the number of threads."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP to one thread: the way they divide work between several threads changes the last bits."""
    with _controller(len(sys.modules)).limit(limits=1):
        yield


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:  # noqa: ARG001 - the key of the cache
    """Find the loaded libraries, which takes 10 ms, again only if modules were imported that may have loaded more."""
    return ThreadpoolController()


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
