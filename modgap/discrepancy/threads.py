"""Work that threads share."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["share_work"]

Item = TypeVar("Item")
Result = TypeVar("Result")


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
