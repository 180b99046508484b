"""Content-addressed arrays on disk: safetensors files, written whole or not at all, verified on read."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.array_file import ArrayWriter, data_digest, read_layout
from modgap.storage.paths import cache_folder

__all__ = [
    "CorruptEntry",
    "Entry",
    "EntryWriter",
    "cache_folder",
    "entries",
    "entry_path",
    "key_of",
    "prune",
    "read_entry",
    "unfinished",
]

SUFFIX = ".safetensors"


class CorruptEntry(Exception):  # noqa: N818 - a state of the cache, not a mistake of the caller
    """A cache entry whose content is not what was written."""


@dataclass(frozen=True)
class Entry:
    """What a cache entry holds."""

    arrays: dict[str, np.ndarray]
    metadata: dict


def key_of(record: Mapping) -> str:
    """SHA-256 of a record's canonical JSON."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()


def entry_path(kind: str, key: str) -> Path:
    """Where the entry of a kind and key lies, whether it is there or not."""
    return cache_folder() / kind / key[:2] / f"{key}{SUFFIX}"


def entries() -> Iterator[Path]:
    """All entries in the cache."""
    folder = cache_folder()
    yield from sorted(folder.glob(f"*/??/*{SUFFIX}"))


class EntryWriter:
    """Streams one entry to a file that no one else writes, and renames it when it is complete.

    Small arrays are known from the start; the rows of one large array follow as they are made.
    """

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray], rows_name: str, rows_shape, metadata: Mapping):
        """Open a temporary file beside `path` and write what is known.

        Raises:
            OSError: When the folder cannot be written or lacks the space.
        """
        self._shape = tuple(rows_shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        needed = sum(array.nbytes for array in arrays.values()) + 4 * int(np.prod(self._shape, dtype=np.int64))
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}, {needed / 1e6:.0f} MB needed", str(path.parent))
        self._file = ArrayWriter(path, metadata)
        for name, array in arrays.items():
            self._file.add(name, array)
        self._file.start(rows_name, np.float32)

    def append(self, rows: np.ndarray) -> None:
        """Write the next rows.

        Raises:
            OSError: When the disk is full; the unfinished file is gone by then.
        """
        self._file.append(rows)

    def commit(self) -> None:
        """Seal the entry with its checksum and move it into place."""
        self._file.end(self._shape)
        self._file.commit()

    def discard(self) -> None:
        """Drop the unfinished file."""
        self._file.discard()


def read_entry(path: Path) -> Entry | None:
    """Read an entry and check its content; None when there is none.

    Large arrays are mapped, not loaded.

    Raises:
        CorruptEntry: When the file is damaged or truncated.
        InputError: When it cannot be opened.
    """
    try:
        file = read_layout(path)
        digest = data_digest(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CorruptEntry(str(error)) from error
    except OSError as error:
        raise InputError(f"cannot read cache entry {path}: {error.strerror}") from error
    if digest != file.digest:
        raise CorruptEntry(f"its checksum is {digest[:12]}..., {file.digest[:12]}... was written")
    return Entry({name: file.mapped(name) for name in file.fields}, file.metadata)


def unfinished() -> Iterator[Path]:
    """Files that a run left when it was killed, or that one is writing now."""
    yield from sorted(cache_folder().glob("*/??/.*.part"))


def prune(paths: Iterable[Path]) -> int:
    """Delete entries; returns the bytes freed."""
    freed = 0
    for path in paths:
        freed += path.stat().st_size
        path.unlink()
    return freed
