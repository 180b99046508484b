"""The cache: content-addressed safetensors files, written completely or not at all, and verified when read."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap.formatting import format_bytes
from modgap.storage.array_file import ArrayFile, read_array_file
from modgap.storage.array_writer import ArrayWriter
from modgap.storage.atomic_files import TEMPORARY_SUFFIX
from modgap.storage.paths import cache_folder

__all__ = [
    "CacheEntry",
    "CorruptEntryError",
    "EntryWriter",
    "cache_key",
    "delete_files",
    "entry_path",
    "entry_paths",
    "read_entry",
    "unfinished_paths",
]

SUFFIX = ".safetensors"


class CorruptEntryError(Exception):
    """A cache entry cannot be read, or its content is not what was written for its key."""


@dataclass(frozen=True)
class CacheEntry:
    """The content of a cache entry.

    Attributes:
        arrays: Read-only, memory-mapped arrays by name.
        metadata: The record that was stored with them.
    """

    arrays: dict[str, np.ndarray]
    metadata: dict[str, Any]


def cache_key(record: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of a record's canonical JSON, in hexadecimal.

    Raises:
        ValueError: When the record contains NaN or an infinity.
    """
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()


def entry_path(kind: str, key: str) -> Path:
    """Return the path of the cache entry with this kind and key; the entry need not exist."""
    return cache_folder() / kind / key[:2] / f"{key}{SUFFIX}"


def entry_paths() -> Iterator[Path]:
    """Yield the paths of all entries in the cache, sorted."""
    yield from sorted(cache_folder().glob(f"*/??/*{SUFFIX}"))


def unfinished_paths() -> Iterator[Path]:
    """Yield the temporary files of runs that were killed, and of runs that are writing now."""
    yield from sorted(cache_folder().glob(f"*/??/.*{TEMPORARY_SUFFIX}"))


class EntryWriter:
    """Streams one cache entry to a temporary file and renames it when it is complete.

    An entry has any number of small arrays, which are known from the start, and one large float32 array, whose rows
    are appended as they are computed.
    """

    def __init__(
        self,
        path: Path,
        arrays: Mapping[str, np.ndarray],
        rows_name: str,
        rows_shape: Sequence[int],
        metadata: Mapping[str, Any],
    ) -> None:
        """Open a temporary file beside `path` and write the small arrays.

        Args:
            path: Path of the entry; see `entry_path`.
            arrays: The small arrays by name.
            rows_name: Name of the large array.
            rows_shape: Shape of the large array.
            metadata: Record of plain values to store with the arrays.

        Raises:
            OSError: When the folder cannot be written, or its disk is too small.
        """
        self._shape = tuple(rows_shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        needed = sum(array.nbytes for array in arrays.values()) + 4 * int(np.prod(self._shape, dtype=np.int64))
        if shutil.disk_usage(path.parent).free < needed:
            message = f"{os.strerror(errno.ENOSPC)}, {format_bytes(needed)} needed"
            raise OSError(errno.ENOSPC, message, str(path.parent))
        self._writer = ArrayWriter(path, {**_identification(path), "record": dict(metadata)})
        for name, array in arrays.items():
            self._writer.add_array(name, array)
        self._writer.begin_array(rows_name, np.float32)

    def append(self, rows: np.ndarray) -> None:
        """Write the next rows of the large array, in float32.

        Raises:
            OSError: When the disk is full. The unfinished file has been removed.
        """
        self._writer.append(rows)

    def commit(self) -> None:
        """Write the digests and rename the file to its final path.

        Raises:
            OSError: When the disk is full. The unfinished file has been removed.
        """
        self._writer.end_array(self._shape)
        self._writer.commit()

    def discard(self) -> None:
        """Remove the unfinished file."""
        self._writer.discard()


def read_entry(path: Path, final_path: Path | None = None) -> CacheEntry | None:
    """Read a cache entry and compare all of it with its digests, and its key with the one in its name.

    Args:
        path: Path of the entry.
        final_path: Path that it will have, whose kind and key are compared. None for `path`.

    Returns:
        The entry, with memory-mapped arrays; None when there is no file.

    Raises:
        CorruptEntryError: When the file cannot be opened, is damaged or truncated, or was written for another key.
    """
    try:
        file = read_array_file(path)
        _check_identification(file, final_path or path)
        file.verify()
        return CacheEntry({name: file.map_array(name) for name in file.arrays}, file.metadata["record"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CorruptEntryError(f"it cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CorruptEntryError(str(error)) from error


def _identification(path: Path) -> dict[str, str]:
    """Return the kind and the key of the entry that belongs at a path."""
    return {"kind": path.parents[1].name, "key": path.stem}


def _check_identification(file: ArrayFile, path: Path) -> None:
    for name, expected in _identification(path).items():
        stored = str(file.metadata.get(name))
        if stored != expected:
            raise ValueError(f"it was written for the {name} {stored[:16]}, not {expected[:16]}")


def delete_files(paths: Iterable[Path]) -> int:
    """Delete files and return the number of bytes that they had."""
    freed = 0
    for path in paths:
        freed += path.stat().st_size
        path.unlink()
    return freed
