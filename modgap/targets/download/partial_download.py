"""A file on its way: under a name of its own, held by one process, found again after a kill."""

import contextlib
import glob
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError
from modgap.storage.json_records import read_json, write_json
from modgap.storage.locks import try_lock, unlock

__all__ = ["Partial", "Validator", "open_partial", "partial_bytes"]

SUFFIX = ".part"
NEW_NAMES = 5


@dataclass(frozen=True)
class Validator:
    """What tells whether the bytes at a URL are still those of before.

    Attributes:
        url: Whence they come.
        tag: A strong ETag, or else the Last-Modified date; None where the host gives neither.
    """

    url: str
    tag: str | None


class Partial:
    """The bytes that have come so far, and what they are the beginning of."""

    def __init__(self, path: Path, held: int | None):
        """Go on with the file at `path`, which this process holds by the descriptor `held`."""
        self.path, self._held = path, held
        self._stream = path.open("r+b")
        self.size = self._stream.seek(0, os.SEEK_END)
        self.resumed = False

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def validator(self) -> Validator | None:
        """What the bytes are the beginning of; None where that is not known."""
        try:
            note = read_json(self._note)
            return Validator(str(note["url"]), str(note["tag"])) if note.get("tag") else None
        except (InputError, KeyError):
            return None

    def restart(self, validator: Validator | None) -> None:
        """Drop all bytes; what comes now is the beginning of this.

        Raises:
            OSError: When it cannot be written.
        """
        self._stream.seek(0)
        self._stream.truncate()
        self.size, self.resumed = 0, False
        self._note.unlink(missing_ok=True)
        if validator and validator.tag:
            write_json(self._note, {"url": validator.url, "tag": validator.tag})

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            OSError: When the disk is full.
        """
        self._stream.write(data)
        self.size += len(data)

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Checksums of what is on the disk, read back from there.

        Raises:
            OSError: When it cannot be written or read.
        """
        self._stream.flush()
        os.fsync(self._stream.fileno())
        sums = {name: hashlib.new(name, usedforsecurity=False) for name in names}
        with self.path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                for each in sums.values():
                    each.update(chunk)
        return {name: each.hexdigest() for name, each in sums.items()}

    def flush(self) -> None:
        """Hand all bytes to the disk, so that the next process finds them."""
        self._stream.flush()

    def publish(self, path: Path) -> None:
        """Move the finished file into place.

        Raises:
            OSError: When it cannot be moved.
        """
        self._stream.flush()
        os.replace(self.path, path)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file; what has come stays for the next attempt, unless there is nothing."""
        with contextlib.suppress(OSError):
            # On a full disk the last bytes cannot be flushed; those that are there are a beginning too.
            self._stream.close()
        if self.size == 0 or self.validator() is None:
            self.discard()
        unlock(self._held)


def _prefix(path: Path) -> str:
    """The start of the names of a file's partial ones; no other file's start so."""
    return f".{path.name[:40]}-{hashlib.sha256(path.name.encode()).hexdigest()[:8]}-"


def _all_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{glob.escape(_prefix(path))}*{SUFFIX}"), key=_size, reverse=True)


@contextlib.contextmanager
def open_partial(path: Path) -> Iterator[Partial]:
    """The longest beginning of this file that a dead process left, or a new one; others' are left alone.

    Raises:
        OSError: When the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = None
    for found in _all_of(path):
        held = try_lock(found)
        if held is None:
            continue
        other = Partial(found, held)
        if partial is None and other.validator() is not None:
            partial = other
        else:
            other.discard()
            other.close()
    for note in path.parent.glob(f"{glob.escape(_prefix(path))}*{SUFFIX}.json"):
        if not note.with_suffix("").exists():
            note.unlink(missing_ok=True)
    partial = partial or _new(path)
    try:
        yield partial
    finally:
        partial.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def partial_bytes(path: Path) -> int:
    """Bytes of this file that came before and may be gone on with."""
    return max((_size(found) for found in _all_of(path)), default=0)


def _new(path: Path) -> Partial:
    for _ in range(NEW_NAMES):
        new = path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}{SUFFIX}")
        new.touch(exist_ok=False)
        held = try_lock(new)
        if held is not None:
            break
        # Another process may be about to clear the empty file away as one that was left behind; or locks
        # do not work here, and then no process clears anything away.
    return Partial(new, held)
