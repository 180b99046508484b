"""Partial downloads: files that one process writes, and that the next process resumes."""

import contextlib
import glob
import hashlib
import os
import secrets
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError
from modgap.limits import PARTIAL_DAYS
from modgap.storage.json_records import read_json, write_json
from modgap.storage.locks import locked, try_lock, unlock
from modgap.targets.download.checksums import compute_checksums

__all__ = ["PartialDownload", "Validator", "open_partial_download", "partial_size"]

SUFFIX = ".part"
DAY = 86_400
MAX_NEW_NAMES = 5


@dataclass(frozen=True)
class Validator:
    """Identifies the version of the file at a URL, so that a download is not resumed with another version.

    Attributes:
        url: The URL.
        tag: A strong ETag, or else the Last-Modified date; None where the host gives neither.
    """

    url: str
    tag: str | None


class PartialDownload:
    """The first bytes of a file, and the version of the file that they belong to.

    Attributes:
        path: The partial file.
        size: Its size in bytes.
        resumed: True when its first bytes come from an earlier request.
    """

    def __init__(self, path: Path, lock: int | None) -> None:
        """Open a partial file to append to it.

        Args:
            path: The partial file.
            lock: Its lock, from `try_lock`.
        """
        self.path = path
        self._lock = lock
        self._stream = path.open("r+b")
        self.size = self._stream.seek(0, os.SEEK_END)
        self.resumed = False

    @property
    def _validator_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def validator(self) -> Validator | None:
        """Return the version of the file that the bytes belong to; None when it is unknown."""
        try:
            record = read_json(self._validator_path)
            return Validator(str(record["url"]), str(record["tag"])) if record.get("tag") else None
        except (InputError, KeyError):
            return None

    def restart(self, validator: Validator | None) -> None:
        """Remove all bytes; the next ones are the first bytes of this version of the file.

        Raises:
            OSError: When the disk cannot be written.
        """
        self._stream.seek(0)
        self._stream.truncate()
        self.size = 0
        self.resumed = False
        self._validator_path.unlink(missing_ok=True)
        if validator and validator.tag:
            write_json(self._validator_path, {"url": validator.url, "tag": validator.tag})

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            OSError: When the disk is full.
        """
        self._stream.write(data)
        self.size += len(data)

    def compute_checksums(self, algorithms: Collection[str]) -> dict[str, str]:
        """Compute the checksums of the bytes, read back from the disk.

        Raises:
            OSError: When the disk is full.
            InputError: When the file cannot be read.
        """
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return compute_checksums(self.path, algorithms)

    def flush(self) -> None:
        """Write all bytes to the file, so that the next process can resume after them."""
        self._stream.flush()

    def move_to(self, path: Path) -> None:
        """Move the complete file to its final path.

        Raises:
            OSError: When it cannot be moved.
        """
        self._stream.flush()
        os.replace(self.path, path)
        self._validator_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
        self._validator_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close and unlock the file; it stays on the disk if it can be resumed."""
        # On a full disk the last bytes cannot be written. The bytes that were written can still be resumed.
        with contextlib.suppress(OSError):
            self._stream.close()
        if self.size == 0 or self.validator() is None:
            self.discard()
        unlock(self._lock)


def _name_prefix(path: Path) -> str:
    """Return the start of the names of a file's partial downloads; those of other files start differently."""
    return f".{path.name[:40]}-{hashlib.sha256(path.name.encode()).hexdigest()[:8]}-"


def _partial_paths(path: Path) -> list[Path]:
    """List the partial downloads of a file, the largest first."""
    return sorted(path.parent.glob(f"{glob.escape(_name_prefix(path))}*{SUFFIX}"), key=_size, reverse=True)


@contextlib.contextmanager
def open_partial_download(path: Path) -> Iterator[PartialDownload]:
    """Open the largest partial download of a file that no living process uses, or a new one.

    Smaller ones that no living process uses are removed.

    Args:
        path: The final path of the file.

    Raises:
        OSError: When the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_old_downloads(path.parent)
    resumable: PartialDownload | None = None
    for partial_path in _partial_paths(path):
        lock = try_lock(partial_path)
        if lock is None:
            continue
        partial = PartialDownload(partial_path, lock)
        if resumable is None and partial.validator() is not None:
            resumable = partial
        else:
            partial.discard()
            partial.close()
    for validator_path in path.parent.glob(f"{glob.escape(_name_prefix(path))}*{SUFFIX}.json"):
        if not validator_path.with_suffix("").exists():
            validator_path.unlink(missing_ok=True)
    partial = resumable or _new_partial_download(path)
    try:
        yield partial
    finally:
        partial.close()


def _remove_old_downloads(folder: Path) -> None:
    """Remove the partial downloads of any file in a folder that no process has written for a long time."""
    oldest = time.time() - PARTIAL_DAYS.value * DAY
    for partial_path in folder.glob(f".*-*{SUFFIX}"):
        with contextlib.suppress(OSError), locked(partial_path) as abandoned:
            if abandoned and partial_path.stat().st_mtime < oldest:
                partial_path.unlink()
                partial_path.with_name(f"{partial_path.name}.json").unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def partial_size(path: Path) -> int:
    """Return the size in bytes of the largest partial download of a file; 0 when there is none."""
    return max((_size(partial_path) for partial_path in _partial_paths(path)), default=0)


def _new_partial_download(path: Path) -> PartialDownload:
    for _ in range(MAX_NEW_NAMES):
        partial_path = path.with_name(f"{_name_prefix(path)}{secrets.token_hex(8)}{SUFFIX}")
        partial_path.touch(exist_ok=False)
        lock = try_lock(partial_path)
        if lock is not None:
            break
        # Either another process is removing the empty file as an abandoned one, or locks do not work here. In the
        # second case no process removes partial files.
    return PartialDownload(partial_path, lock)
