"""Work that threads share."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from modgap.storage.memory_map import release_pages

Item = TypeVar("Item")
Result = TypeVar("Result")

RESIDENT_BYTES = 1 << 26
"""Largest size of the part of a memory-mapped array that is kept in memory during a pass over it."""


def share_work(items: Iterable[Item], threads: int, worker: Callable[[Iterator[Item]], Result]) -> list[Result]:
    """Run `worker` once on each thread; all threads take their items from one shared iterator.

    Args:
        items: Items of work, in the order in which they are handed out.
        threads: Number of threads; with one, `worker` runs in the calling thread.
        worker: Called with the shared iterator, which it consumes until no item is left.

    Returns:
        The result of `worker` on each thread.
    """
    # A list's iterator is safe to share between threads; a generator is not.
    queue = iter(list(items))
    if threads == 1:
        return [worker(queue)]
    with ThreadPoolExecutor(threads) as pool:
        tasks = [pool.submit(worker, queue) for _ in range(threads)]
        return [task.result() for task in tasks]


def share_pass(
    array: np.ndarray, items: Sequence[Item], threads: int, worker: Callable[[Iterator[Item]], Result]
) -> list[Result]:
    """Share work that reads all rows of an array in order, without keeping a memory-mapped array in memory.

    Args:
        array: Array that is read; each item stands for an equal part of its rows.
        items: Items of work, in the order of the rows.
        threads: Number of threads.
        worker: Called on each thread, once for each part of the array, with a shared iterator over items.

    Returns:
        All results of `worker`.
    """
    n_parts = max(1, -(-array.nbytes // RESIDENT_BYTES))
    size = max(1, -(-len(items) // n_parts))
    results = []
    for first in range(0, len(items), size):
        results += share_work(items[first : first + size], threads, worker)
        release_pages(array)
    return results


def even_ranges(size: int, parts: int) -> list[tuple[int, int]]:
    """Return the first number of each of so many parts of the numbers below a size, and the first one after it."""
    return list(itertools.pairwise(np.linspace(0, size, parts + 1).astype(int).tolist()))
