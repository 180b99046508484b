"""Cache entries that are optional: when the cache is damaged or full, the computation continues without it."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from modgap.errors import InputError
from modgap.storage.cache import CacheEntry, CorruptEntryError, EntryWriter, read_entry
from modgap.storage.paths import shared_path

__all__ = ["RowWriter", "read_valid_entry", "store_arrays"]

MAX_BYTES_IN_MEMORY = 4 << 30
"""Rows up to this size are also kept in memory, so that they survive a disk that fills up while they are written."""

STRUCTURE_ERRORS = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""Errors of code that expects other arrays, or another record, than an entry has."""

Content = TypeVar("Content")

log = logging.getLogger("modgap")


def read_valid_entry(path: Path, parse: Callable[[CacheEntry], Content]) -> Content | None:
    """Read a cache entry, and return its content.

    An entry that cannot be read, is damaged, was written for another key, or has another structure is logged as a
    warning and counts as absent.

    Args:
        path: Path of the entry; see `entry_path`.
        parse: Function that returns the content of an entry.

    Returns:
        The content; None when there is no entry that can be used.
    """
    try:
        entry = read_entry(path) or read_entry(shared_path(path))
        return None if entry is None else parse(entry)
    except CorruptEntryError as error:
        reason = str(error)
    except STRUCTURE_ERRORS as error:
        reason = f"it has another structure, {type(error).__name__}: {error}"
    log.warning("The cache entry %s is not used (%s). It is computed again.", path, reason)
    return None


def store_arrays(path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
    """Write a cache entry of small arrays; log a warning when the disk does not take it.

    Args:
        path: Path of the entry.
        arrays: The arrays by name.
        record: Record of plain values to store with them.
    """
    try:
        EntryWriter(path, arrays, "rows", (0, 0), record).commit()
    except OSError as error:
        log.warning("cannot write to the cache in %s (%s). Continuing without it.", path.parent, error.strerror)


class RowWriter:
    """Writes batches of rows to a cache entry, and keeps them in memory where they fit.

    Use it as a context manager: when the block raises, the unfinished entry is removed.
    """

    def __init__(
        self, path: Path, arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, int], record: Mapping[str, Any]
    ) -> None:
        """Open the entry.

        Args:
            path: Path of the entry.
            arrays: Small arrays that precede the rows, by name.
            name: Name of the array of rows.
            shape: Number of rows and of columns.
            record: Record of plain values to store with the arrays.

        Raises:
            InputError: When neither the disk nor the memory can take the rows.
        """
        self._path = path
        self._name = name
        self._rows_written = 0
        self._rows_in_memory: np.ndarray | None = None
        if 4 * shape[0] * shape[1] <= MAX_BYTES_IN_MEMORY:
            self._rows_in_memory = np.empty(shape, np.float32)
        self._writer: EntryWriter | None = None
        try:
            self._writer = EntryWriter(path, arrays, name, shape, record)
        except OSError as error:
            self._continue_without_disk(error)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the unfinished entry when the block raised an error."""
        if kind is not None and self._writer:
            self._writer.discard()

    def append(self, batch: np.ndarray) -> None:
        """Write the next rows.

        Args:
            batch: (rows, columns), float32.

        Raises:
            InputError: When the disk is full, and the rows do not fit in memory.
        """
        if self._rows_in_memory is not None:
            self._rows_in_memory[self._rows_written : self._rows_written + len(batch)] = batch
        self._rows_written += len(batch)
        if self._writer:
            try:
                self._writer.append(batch)
            except OSError as error:
                self._continue_without_disk(error)

    def finish(self) -> np.ndarray:
        """Complete the entry and return all rows, in memory or memory-mapped.

        Raises:
            InputError: When the disk is full, and the rows do not fit in memory.
        """
        if self._writer:
            try:
                self._writer.commit()
            except OSError as error:
                self._continue_without_disk(error)
        if self._rows_in_memory is not None:
            return self._rows_in_memory
        entry = read_entry(self._path)
        assert entry is not None
        return entry.arrays[self._name]

    def _continue_without_disk(self, error: OSError) -> None:
        self._writer = None
        problem = f"cannot write to the cache in {self._path.parent} ({error.strerror})"
        if self._rows_in_memory is None:
            raise InputError(
                f"{problem}, and the {self._name} do not fit in memory. "
                "Set the environment variable MODGAP_CACHE to a folder on a larger disk."
            )
        log.warning("%s. Continuing without it.", problem)
