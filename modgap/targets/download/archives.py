"""Unpack tar, zip and gzip files that came from strangers: no links, no way out, no bombs."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modgap.errors import InputError
from modgap.formatting import format_bytes
from modgap.targets.download.archive_entries import BROKEN, Entry, RefusalError, entries
from modgap.targets.download.relative_paths import checked_path, shown

__all__ = ["Caps", "Extracted", "extract"]

CHUNK = 1 << 20
SPACE_CHECKED_EVERY = 64 * CHUNK


@dataclass(frozen=True)
class Caps:
    """What an archive may cost at most.

    Attributes:
        total: Bytes of all files; None allows `ratio` times the archive.
        ratio: Bytes out for each byte in, beyond the first `floor` bytes out.
        floor: Bytes out that any archive may have.
        count: Files and folders.
        depth: Folders within each other.
        directory: Bytes of a zip's directory, which is read at once; None allows a fiftieth of the archive,
            at least 16 MiB and at most 256 MiB, since each byte of it costs about fifteen of memory.
    """

    total: int | None = None
    ratio: int = 100
    floor: int = 64 << 20
    count: int = 2_000_000
    depth: int = 32
    directory: int | None = None

    def bytes_out(self, size: int) -> int:
        """Bytes that an archive of this size may unpack to."""
        return self.total if self.total is not None else max(self.floor, self.ratio * size)

    def directory_bytes(self, size: int) -> int:
        """Bytes that the directory of a zip file of this size may have."""
        return self.directory if self.directory is not None else min(max(size // 50, 16 << 20), 256 << 20)


@dataclass(frozen=True)
class Extracted:
    """A file that came out of an archive: its path within it, its bytes and SHA-256."""

    path: PurePosixPath
    size: int
    sha256: str


def extract(
    archive: Path, folder: Path, caps: Caps, advance: Callable[[float], None] | None = None
) -> Iterator[Extracted]:
    """Unpack an archive into a folder that holds nothing else, file by file.

    Only regular files and folders come out, with new permissions, under paths within the folder.

    Args:
        archive: tar, tar.gz, zip or gzip, told by its content.
        folder: Where to; its free space bounds what is written.
        caps: What the archive may cost.
        advance: Called with the share of the archive read since the last call.

    Raises:
        InputError: When the archive is broken, or holds what is refused; some files may be out by then.
        OSError: When the disk is full.
    """
    size = archive.stat().st_size
    budget = _Budget(folder, caps.bytes_out(size), caps)
    most, read = caps.directory_bytes(size), 0
    try:
        with archive.open("rb") as stream, contextlib.closing(entries(archive, stream, most)) as held:
            for entry in held:
                done = _written(entry, folder, budget)
                if advance:
                    here = stream.tell()
                    advance(max(here - read, 0) / max(size, 1))
                    read = max(here, read)
                if done:
                    yield done
    except BROKEN as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"refused to unpack {archive}: {' '.join(reason.split())}; nothing of it is used") from error
    if not budget.files:
        raise InputError(f"refused to unpack {archive}: it holds no files")


class _Budget:
    """Counts what was written against the caps and the free space."""

    def __init__(self, folder: Path, limit: int, caps: Caps):
        self.folder, self.limit, self.caps = folder, limit, caps
        self.entries = self.files = self.bytes = 0
        self._unchecked = SPACE_CHECKED_EVERY

    def entry(self) -> None:
        self.entries += 1
        if self.entries > self.caps.count:
            raise RefusalError(f"it holds more than {self.caps.count:,} files and folders")

    def take(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.limit:
            raise RefusalError(
                f"its files are larger than {format_bytes(self.limit)}, the most that an archive of its size may hold"
            )
        self._unchecked += size
        if self._unchecked >= SPACE_CHECKED_EVERY:
            self._unchecked = 0
            usage = shutil.disk_usage(self.folder)
            # A full disk harms others too, so the last bit of it stays free.
            if usage.free < min(SPACE_CHECKED_EVERY, usage.total // 50) + size:
                raise RefusalError(f"only {format_bytes(usage.free)} are free in {self.folder}")


def _written(entry: Entry, folder: Path, budget: _Budget) -> Extracted | None:
    budget.entry()
    try:
        path = checked_path(entry.name, budget.caps.depth)
    except ValueError as error:
        raise RefusalError(f"{shown(entry.name)} {error}") from None
    if entry.size is not None and not 0 <= entry.size <= budget.limit - budget.bytes:
        raise RefusalError(
            f"{shown(entry.name)} claims {entry.size:,} bytes; the limit for all files is {format_bytes(budget.limit)}"
        )
    try:
        if entry.folder:
            (folder / path).mkdir(parents=True, exist_ok=True)
            return None
        if not path.parts:
            raise RefusalError(f"a file has the name {shown(entry.name)}")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        return _copied(entry, path, folder, budget)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise RefusalError(f"{shown(entry.name)} is in it twice") from None


def _copied(entry: Entry, path: PurePosixPath, folder: Path, budget: _Budget) -> Extracted:
    digest, size = hashlib.sha256(), 0
    # Exclusive, so that a later entry never overwrites an earlier one, nor writes through anything there.
    with open(folder / path, "xb") as out, entry.open() as data:
        while chunk := data.read(CHUNK):
            size += len(chunk)
            budget.take(len(chunk))
            digest.update(chunk)
            out.write(chunk)
    if entry.size not in (None, size):
        raise RefusalError(f"{shown(entry.name)} has {size} bytes, it claims {entry.size}")
    budget.files += 1
    return Extracted(path, size, digest.hexdigest())
