"""Reading items ahead of the work on them, in a thread or in worker processes, in their order."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch.multiprocessing.reductions import shared_cache
from torch.utils.data import DataLoader, Dataset

from modgap.errors import InputError
from modgap.process.devices import map_tensors

PREFETCHED = 2
"""Number of items that are read in advance, by the thread or by each worker."""

K = TypeVar("K")
T = TypeVar("T")


class Loader(Generic[K, T]):
    """Function that reads items ahead of their use, in a thread or in worker processes.

    The processes start with the first items, and stay until the end of the `with` statement that has the loader.
    """

    def __init__(self, read: Callable[[K], T], workers: int = 0, *, pin: bool = False) -> None:
        """Prepare to read.

        Args:
            read: Function of an item's key alone, so that the items do not depend on the number of workers. A worker
                gets it at its start, and then only keys.
            workers: Number of worker processes; with 0, a thread of this process reads.
            pin: True to have the tensors in page-locked memory, from which a GPU copies without waiting.
        """
        self._read = read
        self._workers = workers
        self._pin = pin
        self._keys: list[K] = []
        self._loader: DataLoader[T | InputError] | None = None

    def __enter__(self) -> "Loader[K, T]":
        """Return the loader."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End the worker processes."""
        self._loader = None

    def load(self, keys: Sequence[K]) -> Iterator[T]:
        """Yield the items of keys in this order; the next ones are read while the caller works.

        Raises:
            InputError: When the function raises it, also in a worker.
        """
        yield from self._from_workers(keys) if self._workers and len(keys) else self._from_thread(keys)

    def _from_thread(self, keys: Sequence[K]) -> Iterator[T]:
        def read(key: K) -> T:
            item = self._read(key)
            return map_tensors(item, torch.Tensor.pin_memory) if self._pin else item

        waiting: list[Future[T]] = []
        with ThreadPoolExecutor(1) as pool:
            for key in keys:
                waiting.append(pool.submit(read, key))
                if len(waiting) > PREFETCHED:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()

    def _from_workers(self, keys: Sequence[K]) -> Iterator[T]:
        # The workers' loader keeps this list as its sampler, so a later call changes the list in place.
        self._keys[:] = keys
        if self._loader is None:
            self._loader = DataLoader(
                _Items(self._read),
                sampler=self._keys,
                batch_size=None,
                num_workers=self._workers,
                prefetch_factor=PREFETCHED,
                pin_memory=self._pin,
                persistent_workers=True,
                collate_fn=_unchanged,
            )
        with warnings.catch_warnings():
            # PyTorch advises against more workers than cores. The user chose the number.
            warnings.filterwarnings("ignore", "This DataLoader will create")
            items = iter(self._loader)
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
class _Items(Dataset[T | InputError], Generic[K, T]):
    """The items as a data set, with errors in place of items, because a worker would add its traceback to a message."""

    read: Callable[[K], T]

    def __getitem__(self, key: K) -> T | InputError:
        try:
            return self.read(key)
        except InputError as error:
            return error
