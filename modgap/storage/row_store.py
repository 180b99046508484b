"""Rows of a large array to the cache as they are made, and back: logits and features."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.cache import CorruptEntry, Entry, EntryWriter, read_entry

__all__ = ["RowSink", "keep", "sound_entry"]

IN_MEMORY = 4 << 30
"""Rows up to this many bytes survive a disk that fills up while they are written."""

log = logging.getLogger("modgap")


def sound_entry(path: Path) -> Entry | None:
    """A cache entry, None if there is none; a damaged one counts as none and is said aloud."""
    try:
        return read_entry(path)
    except CorruptEntry as error:
        log.warning("cache entry %s is damaged: %s; computing it again", path, error)
        return None


def keep(path: Path, arrays: Mapping[str, np.ndarray], record: Mapping) -> None:
    """Write an entry of small arrays; a disk that takes none is said aloud, and nothing is lost but time."""
    try:
        EntryWriter(path, arrays, "rows", (0, 0), record).commit()
    except OSError as error:
        log.warning("cannot write to the cache at %s (%s); going on without it", path.parent, error.strerror)


class RowSink:
    """Takes batches of rows to the cache, and keeps them in memory where they fit."""

    def __init__(self, path: Path, arrays: Mapping, name: str, shape: tuple[int, int], record: Mapping):
        """Open the entry at `path`: small arrays, then the rows of the array called `name`, and the record."""
        self._path, self._name, self._filled, self._writer = path, name, 0, None
        self._kept = np.empty(shape, np.float32) if 4 * shape[0] * shape[1] <= IN_MEMORY else None
        try:
            self._writer = EntryWriter(path, arrays, name, shape, record)
        except OSError as error:
            self._without_disk(error)

    def __enter__(self) -> "RowSink":
        """Itself; an error within drops the unfinished entry."""
        return self

    def __exit__(self, *error) -> None:
        """Drop the entry if something went wrong."""
        if error[0] is not None and self._writer:
            self._writer.discard()

    def append(self, batch: np.ndarray) -> None:
        """Take the next rows."""
        if self._kept is not None:
            self._kept[self._filled : self._filled + len(batch)] = batch
        self._filled += len(batch)
        if self._writer:
            try:
                self._writer.append(batch)
            except OSError as error:
                self._without_disk(error)

    def finish(self) -> np.ndarray:
        """Seal the entry; returns all rows, in memory or mapped."""
        if self._writer:
            try:
                self._writer.commit()
            except OSError as error:
                self._without_disk(error)
        if self._kept is not None:
            return self._kept
        entry = read_entry(self._path)
        assert entry is not None
        return entry.arrays[self._name]

    def _without_disk(self, error: OSError) -> None:
        self._writer = None
        reason = f"cannot write to the cache at {self._path.parent} ({error.strerror})"
        if self._kept is None:
            raise InputError(f"{reason}, and the {self._name} do not fit in memory; set MODGAP_CACHE to a larger disk")
        log.warning("%s; going on without it", reason)
