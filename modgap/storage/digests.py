"""SHA-256 of files and folders. The digests of large files are noted in the cache folder."""

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from modgap.errors import InputError
from modgap.storage.json_records import read_note, write_note
from modgap.storage.paths import cache_folder

FILES = "files"
"""Key of a record with the SHA-256 of the files beside it."""

MIN_BYTES_FOR_NOTE = 8 << 20
"""Size from which a digest is noted: 8 MB take 6 ms to hash where SHA-256 runs at 1.4 GB/s."""
MIN_AGE_FOR_NOTE = 2.0
"""Seconds since a file's last change after which its time stamp can be trusted to differ at the next change."""


def file_digest(path: Path, *, noted: bool = True) -> str:
    """Compute the SHA-256 of a file's content, in hexadecimal.

    The digest of a large file is noted in the cache folder under its path, size, time of change and inode, so that
    the weights of a model are not hashed again in each run.

    Args:
        path: The file.
        noted: False to read the file in any case, which also finds damage that the disk did to it.

    Raises:
        InputError: When the file cannot be read.
    """
    try:
        status = path.stat()
        if not noted or status.st_size < MIN_BYTES_FOR_NOTE or time.time() - status.st_mtime < MIN_AGE_FOR_NOTE:
            return _hash_file(path)
        return _noted_digest(_file_state(path), lambda: _file_state(path), lambda: _hash_file(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def named_digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Compute the SHA-256 of files in a folder, by their names relative to it, for a record.

    Raises:
        InputError: When a file cannot be read.
    """
    return {path.relative_to(folder).as_posix(): file_digest(path, noted=False) for path in files}


def check_named_file(folder: Path, record: Mapping[str, Any], path: Path) -> Path:
    """Return a file after comparing it with the record beside it, if that has the checksums of files.

    Args:
        folder: Folder of the record.
        record: The record. An unfinished run has no checksums yet.
        path: The file.

    Raises:
        InputError: When the file is missing, or does not fit its checksum.
    """
    digests = record.get(FILES)
    if digests and digests.get(path.relative_to(folder).as_posix()) != file_digest(path, noted=False):
        raise InputError(
            f"{path} does not fit its checksum, so it was damaged, or changed or added after modgap wrote the folder. "
            "Restore it, or run the command that wrote it again."
        )
    return path


def folder_digest(folder: Path, files: Iterable[Path], *, noted: bool = True) -> str:
    """Compute the SHA-256 over the names, relative to the folder, and the contents of its files.

    The digest of many files is noted under the path, size, time of change and inode of all of them. Half a million
    small files are then looked up, but not read, in each run.

    Args:
        folder: The folder.
        files: The files in it, in a fixed order.
        noted: False to read the files in any case, which also finds damage that the disk did to them.

    Raises:
        InputError: When a file cannot be read.
    """
    files = list(files)
    try:
        states, size, last_change = _summarize_states(folder, files)
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error
    if not noted or size < MIN_BYTES_FOR_NOTE or time.time() - last_change < MIN_AGE_FOR_NOTE:
        return _hash_folder(folder, files, noted=noted)
    state = {"path": f"{folder.resolve()}/", "files": states}
    return _noted_digest(
        state, lambda: {**state, "files": _summarize_states(folder, files)[0]}, lambda: _hash_folder(folder, files)
    )


def _summarize_states(folder: Path, files: Iterable[Path]) -> tuple[str, int, float]:
    """Return the SHA-256 over names and states of files, their size in bytes, and the time of the last change."""
    total = hashlib.sha256()
    size = 0
    last_change = 0.0
    for path in files:
        status = path.stat()
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        total.update(f"{path.relative_to(folder).as_posix()}\0{state}\n".encode(errors="surrogateescape"))
        size += status.st_size
        last_change = max(last_change, status.st_mtime)
    return total.hexdigest(), size, last_change


def _hash_folder(folder: Path, files: Iterable[Path], *, noted: bool = True) -> str:
    total = hashlib.sha256()
    for path in files:
        line = f"{path.relative_to(folder).as_posix()}\0{file_digest(path, noted=noted)}\n"
        total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest()


def _hash_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _file_state(path: Path) -> dict[str, object]:
    """Return path, size, times of change and inode of a file, which differ when its content was changed."""
    status = path.stat()
    return {
        "path": str(path.resolve()),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
    }


def _noted_digest(
    state: Mapping[str, object], state_now: Callable[[], Mapping[str, object]], compute: Callable[[], str]
) -> str:
    """Return the digest that is noted for exactly this state of a file or folder, or else compute and note it.

    Args:
        state: Path, and what differs when the content was changed.
        state_now: Returns the state again. The digest of data that changes while it is read belongs to no state of it.
        compute: Computes the digest.
    """
    name = hashlib.sha256(str(state["path"]).encode(errors="surrogateescape")).hexdigest()
    note = cache_folder() / "digests" / f"{name}.json"
    record = read_note(note) or {}
    noted_digest = str(record.pop("sha256", None))
    if record == state and re.fullmatch(r"[0-9a-f]{64}", noted_digest):
        return noted_digest
    digest = compute()
    if state_now() == state:
        write_note(note, {**state, "sha256": digest})
    return digest
