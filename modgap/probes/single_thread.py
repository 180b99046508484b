"""A context in which linear algebra runs in one thread, so that results do not depend on the number of threads."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["single_blas_thread"]


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP to one thread: the way they divide work between several threads changes the last bits."""
    with threadpool_limits(1):
        yield
