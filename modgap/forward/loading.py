"""Reading of batches ahead of the model, by a thread or by worker processes, in one order."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch.multiprocessing.reductions import shared_cache
from torch.utils.data import DataLoader, Dataset

from modgap.errors import InputError

__all__ = ["PREFETCHED", "load_ahead"]

PREFETCHED = 2
"""Number of items that are read in advance, by the thread or by each worker."""

T = TypeVar("T")


def load_ahead(read: Callable[[int], T], n: int, workers: int = 0, *, pin: bool = False) -> Iterator[T]:
    """Yield read(0), ..., read(n - 1) in this order; the next ones are read while the caller works.

    Args:
        read: Function of the number of an item alone, so that the items do not depend on the number of workers.
        n: Number of items.
        workers: Number of worker processes; with 0, a thread of this process reads.
        pin: True to have the workers' tensors in page-locked memory, from which a GPU copies without waiting.

    Raises:
        InputError: When `read` raises it, also in a worker.
    """
    yield from _from_workers(read, n, workers, pin) if workers and n else _from_thread(read, n)


def _from_thread(read: Callable[[int], T], n: int) -> Iterator[T]:
    waiting: list[Future[T]] = []
    with ThreadPoolExecutor(1) as pool:
        for number in range(n):
            waiting.append(pool.submit(read, number))
            if len(waiting) > PREFETCHED:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _from_workers(read: Callable[[int], T], n: int, workers: int, pin: bool) -> Iterator[T]:
    with warnings.catch_warnings():
        # PyTorch advises against more workers than cores. The user chose the number.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader: DataLoader[T | InputError] = DataLoader(
            _Items(read, n),
            batch_size=None,
            num_workers=min(workers, n),
            prefetch_factor=PREFETCHED,
            pin_memory=pin,
            collate_fn=_unchanged,
        )
        items = iter(loader)
    try:
        for item in items:
            if isinstance(item, InputError):
                raise item
            yield item
    finally:
        # PyTorch's references to shared memory print errors if they are still there when the interpreter ends.
        shared_cache.clear()


def _unchanged(item: T) -> T:
    return item


@dataclass(frozen=True)
class _Items(Dataset[T | InputError], Generic[T]):
    """The items as a data set, with errors in place of items, because a worker would add its traceback to a message."""

    read: Callable[[int], T]
    n: int

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: int) -> T | InputError:
        try:
            return self.read(number)
        except InputError as error:
            return error
