"""The cache: content-addressed safetensors files, written completely or not at all, and verified when read.

Entries are optional. Where one is damaged it is computed again, and where the disk is full the computation continues
without it.
"""

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from modgap.errors import InputError, format_bytes
from modgap.storage.array_file import ArrayWriter, read_array_file
from modgap.storage.atomic_files import TEMPORARY_SUFFIX, atomic_path, temporary_path
from modgap.storage.paths import cache_folder

SUFFIX = ".safetensors"
MAX_BYTES_IN_MEMORY = 4 << 30
"""Bytes of rows up to which they are also kept in memory, so that they survive a disk that fills up meanwhile."""
STRUCTURE_ERRORS = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""Errors of code that expects other arrays, or another record, than an entry has."""
KIND = re.compile(r"[a-z][a-z_]{0,40}")
KEY = re.compile(r"[0-9a-f]{64}")
"""Kinds and keys, which are the names of the folders and files of entries; other files are not merged."""

Content = TypeVar("Content")

log = logging.getLogger("modgap")


class CorruptEntryError(Exception):
    """A cache entry cannot be read, or its content is not what was written for its key."""


@dataclass(frozen=True)
class CacheEntry:
    """The content of a cache entry.

    Attributes:
        arrays: Arrays by name; those that were read from the cache are read-only and memory-mapped.
        metadata: Record of plain values that is stored with them.
    """

    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, Any]


def cache_key(record: Mapping[str, object]) -> str:
    """Compute the SHA-256 of a record's canonical JSON, in hexadecimal.

    Raises:
        ValueError: When the record contains NaN or an infinity.
    """
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()


def entry_path(kind: str, key: str) -> Path:
    """Return the path of the cache entry with this kind and key; the entry need not exist."""
    return cache_folder() / kind / key[:2] / f"{key}{SUFFIX}"


def check_cache_is_writable() -> None:
    """Raise if the cache cannot be written, before jobs are run that pass their results on through it.

    Raises:
        InputError: When the folder of the cache, or a folder of entries in it, cannot be written.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for directory in (folder, *folder.glob("*/"), *folder.glob("*/??/")):
            if not os.access(directory, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        probe = temporary_path(folder / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"The cache {folder} cannot be written ({error.strerror or error}), but jobs pass their results on through "
            "it. Set the environment variable MODGAP_CACHE to a folder that can be written."
        ) from error


def cached(
    kind: str,
    key: str,
    compute: Callable[[], Content],
    encode: Callable[[Content], CacheEntry],
    decode: Callable[[CacheEntry], Content],
) -> Content:
    """Return a result from the cache, or compute and store it.

    Args:
        kind: Kind of the result, such as `features`, which is the name of the folder of such entries.
        key: Key of everything that the result depends on; see `cache_key`.
        compute: Function that computes the result if the cache has none that can be used. Nothing is stored when it
            raises an error.
        encode: Function from a result to its entry. A new result passes through both functions, so that it is the same
            as from the cache.
        decode: Function from an entry to the result. Where the entry has another structure, it may raise any of
            `STRUCTURE_ERRORS`.
    """
    result = find_cached(kind, key, decode)
    if result is not None:
        return result
    entry = encode(compute())
    store(kind, key, entry)
    return decode(entry)


def find_cached(kind: str, key: str, decode: Callable[[CacheEntry], Content]) -> Content | None:
    """Read a cache entry, and return its content.

    An entry that cannot be read, is damaged, was written for another key, or has another structure is logged as a
    warning and counts as absent.

    Args:
        kind: Kind of the entry.
        key: Key of the entry.
        decode: Function that returns the content of an entry.

    Returns:
        The content; None when there is no entry that can be used.
    """
    path = entry_path(kind, key)
    try:
        entry = read_entry(path)
        return None if entry is None else decode(entry)
    except CorruptEntryError as error:
        reason = str(error)
    except STRUCTURE_ERRORS as error:
        reason = f"it has another structure, {type(error).__name__}: {error}"
    log.warning("The cache entry %s is not used (%s). It is computed again.", path, reason)
    return None


def read_entry(path: Path, final_path: Path | None = None) -> CacheEntry | None:
    """Read a cache entry, and compare all of it with its digests, and its kind and key with those of its path.

    Args:
        path: Path of the entry.
        final_path: Path that the entry will have, whose kind and key are compared. None for `path`.

    Returns:
        The entry, with memory-mapped arrays; None when there is no file.

    Raises:
        CorruptEntryError: When the file cannot be opened, is damaged or truncated, or was written for another key.
    """
    try:
        file = read_array_file(path)
        for name, expected in _identification(final_path or path).items():
            stored = str(file.metadata.get(name))
            if stored != expected:
                raise ValueError(f"it was written for the {name} {stored[:16]}, not {expected[:16]}")
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


def store(kind: str, key: str, entry: CacheEntry) -> None:
    """Write a cache entry, complete or not at all; log a warning when the disk does not take it."""
    path = entry_path(kind, key)
    try:
        begin_entry(path, entry).commit()
    except OSError as error:
        log.warning("cannot write to the cache in %s (%s). Continuing without it.", path.parent, error.strerror)


def begin_entry(path: Path, entry: CacheEntry, more_bytes: int = 0) -> ArrayWriter:
    """Open a temporary file for an entry, and write its arrays; the entry appears when the writer commits it.

    Args:
        path: Path of the entry; see `entry_path`.
        entry: The arrays and the record.
        more_bytes: Number of bytes that the caller will write after them, for which the disk must have space too.

    Raises:
        OSError: When the folder cannot be written, or its disk is too small.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(array.nbytes for array in entry.arrays.values()) + more_bytes
    if shutil.disk_usage(path.parent).free < needed:
        message = f"{os.strerror(errno.ENOSPC)}, {format_bytes(needed)} needed"
        raise OSError(errno.ENOSPC, message, str(path.parent))
    writer = ArrayWriter(path, {**_identification(path), "record": dict(entry.metadata)})
    for name, array in entry.arrays.items():
        writer.add_array(name, array)
    return writer


def store_rows(
    kind: str, key: str, entry: CacheEntry, name: str, shape: tuple[int, int], batches: Iterable[np.ndarray]
) -> np.ndarray:
    """Write rows to a cache entry as they are computed, and return all of them.

    Rows of at most `MAX_BYTES_IN_MEMORY` are also kept in memory. If the disk does not take them, they are returned
    without an entry.

    Args:
        kind: Kind of the entry.
        key: Key of the entry.
        entry: Small arrays and the record, which precede the rows.
        name: Name of the array of rows.
        shape: Number of rows and of columns.
        batches: The rows in order, each batch of shape (rows, columns), float32.

    Returns:
        The rows, in memory or memory-mapped.

    Raises:
        InputError: When the disk is full, and the rows do not fit in memory.
    """
    path = entry_path(kind, key)
    size = 4 * math.prod(shape)
    in_memory = np.empty(shape, np.float32) if size <= MAX_BYTES_IN_MEMORY else None
    n_rows = 0
    writer: ArrayWriter | None = None

    @contextlib.contextmanager
    def on_disk() -> Iterator[None]:
        """Stop writing, and continue in memory, if the disk does not take the data of the block."""
        nonlocal writer
        try:
            yield
        except OSError as error:
            writer = None
            problem = f"cannot write to the cache in {path.parent} ({error.strerror})"
            if in_memory is None:
                raise InputError(
                    f"{problem}, and the {name} do not fit in memory. "
                    "Set the environment variable MODGAP_CACHE to a folder on a larger disk."
                ) from error
            log.warning("%s. Continuing without it.", problem)

    with on_disk():
        writer = begin_entry(path, entry, size)
        writer.begin_array(name, np.float32)
    try:
        for batch in batches:
            if in_memory is not None:
                in_memory[n_rows : n_rows + len(batch)] = batch
            n_rows += len(batch)
            if writer is not None:
                with on_disk():
                    writer.append(batch)
        if writer is not None:
            with on_disk():
                writer.end_array(shape)
                writer.commit()
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    if in_memory is not None:
        return in_memory
    stored = read_entry(path)
    assert stored is not None
    return stored.arrays[name]


# All entries of a cache


def entry_paths() -> Iterator[Path]:
    """Yield the paths of all entries in the cache, sorted."""
    yield from sorted(cache_folder().glob(f"*/??/*{SUFFIX}"))


def unfinished_paths() -> Iterator[Path]:
    """Yield the temporary files of runs that were killed, and of runs that are writing now."""
    yield from sorted(cache_folder().glob(f"*/??/.*{TEMPORARY_SUFFIX}"))


def delete_files(paths: Iterable[Path]) -> int:
    """Delete files and return the number of bytes that they had."""
    freed = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # another process deleted it
            freed += path.stat().st_size
            path.unlink()
    return freed


def merge_cache(folder: Path) -> Iterator[tuple[Path, int, str]]:
    """Copy the entries of another cache folder that this one lacks, and yield path, size and fault of each of its own.

    The size is the number of bytes that were copied, 0 if the entry was here before. The fault says why it was not
    copied, and is empty if it was, or if it was here before.

    An entry is copied only if its digests are right and it was written for the key in its name. The digests detect
    damage, but not forgery, so merge only caches of people whom you trust with your results.

    Args:
        folder: The other cache folder. Nothing in it is changed.

    Raises:
        InputError: If it is not a folder, or if this cache cannot be written.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Pass the cache folder of another machine.")
    for path in sorted(folder.glob(f"*/??/*{SUFFIX}")):
        kind, key = path.parents[1].name, path.stem
        if KIND.fullmatch(kind) and KEY.fullmatch(key) and key.startswith(path.parent.name):
            yield path, *_merge(path, entry_path(kind, key))


def _merge(path: Path, final_path: Path) -> tuple[int, str]:
    if final_path.exists():
        return 0, ""
    try:
        if path.is_symlink() or not path.is_file():
            return 0, "it is not a file"
        with atomic_path(final_path) as temporary:
            shutil.copyfile(path, temporary)
            # The copy is checked, and not the original, which may change in between.
            read_entry(temporary, final_path)
    except CorruptEntryError as error:
        return 0, str(error)
    except OSError as error:
        raise InputError(f"Cannot copy {path} to {final_path.parent}: {error.strerror or error}.") from error
    return final_path.stat().st_size, ""
