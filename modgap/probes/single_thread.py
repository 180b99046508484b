"""A context in which linear algebra runs in one thread, so that results do not depend on the number of threads."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

__all__ = ["single_blas_thread"]


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP to one thread: the way they divide work between several threads changes the last bits."""
    with _controller(len(sys.modules)).limit(limits=1):
        yield


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:  # noqa: ARG001 - the key of the cache
    """Find the loaded libraries, which takes 10 ms, again only if modules were imported that may have loaded more."""
    return ThreadpoolController()
