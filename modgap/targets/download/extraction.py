"""Extraction of untrusted archives into a folder, within limits of sizes, counts and free space."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from modgap.errors import InputError, format_bytes
from modgap.storage.limits import ARCHIVE_DEPTH, ARCHIVE_ENTRIES, UNPACK_RATIO
from modgap.storage.paths import format_name, parse_relative_path
from modgap.targets.download.archives import (
    DAMAGED_ARCHIVE_ERRORS,
    ArchiveEntry,
    RefusedArchiveError,
    iterate_entries,
)

__all__ = ["ArchiveLimits", "extract"]

CHUNK = 1 << 20
SPACE_CHECK_INTERVAL = 64 * CHUNK
"""Bytes written between two checks of the free space."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits of what an archive may contain.

    Attributes:
        total_bytes: Largest size of all files in bytes; None allows `ratio` times the size of the archive.
        ratio: Bytes of files per byte of the archive, beyond the first `free_bytes`.
        free_bytes: Size of all files in bytes that any archive may have.
        entries: Largest number of files and folders.
        depth: Largest number of folders within each other.
        directory_bytes: Largest size of a zip file's directory, which is read at once. None allows one fiftieth of
            the archive, at least 16 MiB and at most 256 MiB, because each byte of it costs about fifteen of memory.
    """

    total_bytes: int | None = None
    ratio: int = field(default_factory=lambda: UNPACK_RATIO.value)
    free_bytes: int = 64 << 20
    entries: int = field(default_factory=lambda: ARCHIVE_ENTRIES.value)
    depth: int = field(default_factory=lambda: ARCHIVE_DEPTH.value)
    directory_bytes: int | None = None

    def max_total_bytes(self, archive_size: int) -> int:
        """Return the largest size of all files, in bytes, for an archive of this size."""
        if self.total_bytes is not None:
            return self.total_bytes
        return max(self.free_bytes, self.ratio * archive_size)

    def max_directory_bytes(self, archive_size: int) -> int:
        """Return the largest size of the directory, in bytes, for a zip file of this size."""
        if self.directory_bytes is not None:
            return self.directory_bytes
        return min(max(archive_size // 50, 16 << 20), 256 << 20)


def extract(
    archive: Path,
    folder: Path,
    limits: ArchiveLimits,
    advance: Callable[[float], None] | None = None,
    *,
    members: Collection[str] | None = None,
) -> Iterator[tuple[PurePosixPath, int, str]]:
    """Extract an archive into an empty folder, and yield path, size and SHA-256 of each file.

    Only regular files and folders are extracted, with new permissions, and only to paths within the folder.

    Args:
        archive: A tar, tar.gz, zip, gzip or .deb file; its kind is detected from its content.
        folder: The empty folder. The free space of its disk limits what is written.
        limits: Limits of what the archive may contain.
        advance: Called with the fraction of the archive, in [0, 1], read since the last call.
        members: Paths of the files, and of folders with all files in them, to extract. Links and devices elsewhere in
            the archive are skipped. None extracts all files.

    Raises:
        InputError: When the archive is damaged, lacks a member, or contains something that is refused. Some files may
            have been extracted by then.
        OSError: When the disk is full.
    """
    size = archive.stat().st_size
    budget = _Budget(folder, limits.max_total_bytes(size), limits)
    wanted = None if members is None else _Members(members)
    position = 0
    try:
        with (
            archive.open("rb") as stream,
            contextlib.closing(iterate_entries(archive, stream, limits.max_directory_bytes(size))) as entries,
        ):
            for entry in entries:
                extracted = _extract_entry(entry, folder, budget, wanted)
                if advance:
                    advance(max(stream.tell() - position, 0) / max(size, 1))
                    position = max(stream.tell(), position)
                if extracted:
                    yield extracted
        if wanted and wanted.missing:
            raise RefusedArchiveError(f"it has no file {format_name(min(wanted.missing))}")
    except DAMAGED_ARCHIVE_ERRORS as error:
        reason = " ".join((str(error) or type(error).__name__).split())
        raise InputError(f"cannot unpack {archive}: {reason}. None of its files are used.") from error
    if not budget.files:
        raise InputError(f"cannot unpack {archive}: it contains no files")


class _Members:
    """Files and folders of an archive that are extracted, and those of them that were not there yet."""

    def __init__(self, paths: Collection[str]) -> None:
        self.paths = frozenset(map(PurePosixPath, paths))
        self.missing = {str(path) for path in self.paths}

    def contain(self, path: PurePosixPath) -> bool:
        """Return True if a path is one of the files, or is in one of the folders."""
        found = {member for member in (path, *path.parents) if member in self.paths}
        self.missing -= {str(member) for member in found}
        return bool(found)


class _Budget:
    """Counts what was extracted, and compares it with the limits and the free space."""

    def __init__(self, folder: Path, max_bytes: int, limits: ArchiveLimits) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.limits = limits
        self.entries = 0
        self.files = 0
        self.bytes = 0
        self._bytes_since_check = SPACE_CHECK_INTERVAL

    def add_entry(self) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise RefusedArchiveError(
                f"it contains more than {self.limits.entries:,} files and folders. {ARCHIVE_ENTRIES.way_out()}"
            )

    def add_bytes(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.max_bytes:
            limit = format_bytes(self.max_bytes)
            raise RefusedArchiveError(
                f"its files are larger than {limit}, the most that an archive of its size may hold. "
                f"{UNPACK_RATIO.way_out()}, or state unpacked_size in the manifest"
            )
        self._bytes_since_check += size
        if self._bytes_since_check >= SPACE_CHECK_INTERVAL:
            self._bytes_since_check = 0
            usage = shutil.disk_usage(self.folder)
            # A full disk harms other programs, so a small part of it stays free.
            if usage.free < min(SPACE_CHECK_INTERVAL, usage.total // 50) + size:
                raise RefusedArchiveError(f"only {format_bytes(usage.free)} are free in {self.folder}")


def _extract_entry(
    entry: ArchiveEntry, folder: Path, budget: _Budget, wanted: _Members | None
) -> tuple[PurePosixPath, int, str] | None:
    """Write an entry, and return its path, size and SHA-256; None for a folder, and for one that is not wanted."""
    budget.add_entry()
    name = format_name(entry.name)
    try:
        path = parse_relative_path(entry.name, budget.limits.depth)
    except ValueError as error:
        raise RefusedArchiveError(f"{name} {error}") from None
    if entry.size is not None and not 0 <= entry.size <= budget.max_bytes - budget.bytes:
        limit = format_bytes(budget.max_bytes)
        raise RefusedArchiveError(f"{name} claims {entry.size:,} bytes; the limit for all files is {limit}")
    if wanted and (entry.is_folder or not wanted.contain(path)):
        # Skipped content counts too, because a compressed tar file is decompressed up to its end.
        budget.add_bytes(entry.size or 0)
        return None
    entry.check_kind()
    try:
        if entry.is_folder:
            (folder / path).mkdir(parents=True, exist_ok=True)
            return None
        if not path.parts:
            raise RefusedArchiveError(f"a file has the name {name}")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        return _copy_content(entry, path, folder, budget)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise RefusedArchiveError(f"{name} is in it twice") from None


def _copy_content(
    entry: ArchiveEntry, path: PurePosixPath, folder: Path, budget: _Budget
) -> tuple[PurePosixPath, int, str]:
    digest = hashlib.sha256()
    size = 0
    # Opened exclusively, so that a later entry never overwrites an earlier one or follows a link.
    with open(folder / path, "xb") as out, entry.open() as content:
        while chunk := content.read(CHUNK):
            size += len(chunk)
            budget.add_bytes(len(chunk))
            digest.update(chunk)
            out.write(chunk)
    if entry.size not in (None, size):
        raise RefusedArchiveError(f"{format_name(entry.name)} has {size} bytes, but it claims {entry.size}")
    budget.files += 1
    return path, size, digest.hexdigest()
