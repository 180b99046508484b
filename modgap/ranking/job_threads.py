"""Number of threads of the jobs of a ranking, which is the same in all processes that work on it."""

import contextlib
from collections.abc import Iterator

from modgap.resources import available_cores

__all__ = ["fix_threads", "threads_kept"]

THREADS = 1
"""Threads of every job. The number is fixed because it changes the last bits of sums."""


def fix_threads() -> None:
    """Set the number of threads of this process to that of every process that works on a ranking."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(THREADS)
    # The limit is not undone here, because a worker process runs nothing but these jobs.
    threadpool_limits(THREADS)


@contextlib.contextmanager
def threads_kept() -> Iterator[None]:
    """Restore the numbers of threads of this process after a block in which a job may change them.

    A library that the job loads gets a thread for each core.
    """
    import torch
    from threadpoolctl import ThreadpoolController

    before = {library.filepath: library.get_num_threads() for library in ThreadpoolController().lib_controllers}
    torch_threads = torch.get_num_threads()
    try:
        yield
    finally:
        for library in ThreadpoolController().lib_controllers:
            library.set_num_threads(before.get(library.filepath, available_cores()))
        torch.set_num_threads(torch_threads)
