"""Extraction of untrusted archives into a folder, within limits of sizes, counts and free space.

`unpack` extracts an archive of a data directory first into a temporary folder, and then moves the files beside the
archive, with a record of them.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from modgap.errors import InputError, format_bytes
from modgap.storage.limits import ARCHIVE_DEPTH, ARCHIVE_ENTRIES, UNPACK_RATIO
from modgap.storage.locks import locked
from modgap.storage.paths import format_name, parse_relative_path
from modgap.targets.download.archives import (
    DAMAGED_ARCHIVE_ERRORS,
    ArchiveEntry,
    RefusedArchiveError,
    iterate_entries,
)
from modgap.targets.download.data_directory import (
    UnpackedArchive,
    delete_unpacked_archive,
    listing_path,
    write_unpacked_archive,
)

CHUNK = 1 << 20
Advance = Callable[[float], None]
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
    advance: Advance | None = None,
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
        members: Paths of the files, and of folders with all files in them, to extract. Links and devices are skipped,
            unless one of the paths is their own. None extracts all files.

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
    if wanted and (entry.is_folder or not wanted.contain(path) or (entry.special and path not in wanted.paths)):
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


UNPACKING_SUFFIX = ".unpacking"


def unpack(
    data_dir: Path,
    name: str,
    sha256: str,
    *,
    size: int | None,
    reserved: Collection[str],
    advance: Advance | None,
    record: str,
    members: Collection[str] | None,
) -> UnpackedArchive:
    """Unpack an archive into the folder that it lies in.

    The files are extracted into a temporary folder and moved when all of them are there. From the start until all
    are at their final paths, the record says that the archive is not complete, so that the files of an interrupted
    run are not mistaken for all files.

    Args:
        data_dir: The data directory.
        name: Path of the archive relative to it.
        sha256: SHA-256 of the archive, in hexadecimal.
        size: Size of the unpacked files in bytes; None when it is unknown.
        reserved: Paths, relative to the data directory, that no file of the archive may have.
        advance: Called with the fraction of the archive, in [0, 1], read since the last call.
        record: Name of the record of the files, in the folder of the archive.
        members: Files and folders of the archive to unpack; None for all.

    Returns:
        The state of the archive, which is complete.

    Raises:
        InputError: When the archive is damaged or hostile, would overwrite other files, or the disk is full.
    """
    archive = data_dir / name
    try:
        state = UnpackedArchive(sha256=sha256, size=archive.stat().st_size)
        with temporary_folder(archive) as folder:
            write_unpacked_archive(data_dir, record, state)
            files, listing = folder / "files", folder / "listing"
            try:
                files.mkdir()
                extracted = extract(archive, files, ArchiveLimits(total_bytes=size), advance, members=members)
                state = _write_listing(listing, extracted, state)
                _check_existing_files(archive, files, listing, data_dir, reserved)
            except BaseException:
                delete_unpacked_archive(data_dir, record)
                raise
            for path, _ in _read_listing(listing):
                (archive.parent / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(files / path, archive.parent / path)
            os.replace(listing, listing_path(data_dir, record))
            state = state.model_copy(update={"complete": True})
            write_unpacked_archive(data_dir, record, state)
            return state
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot unpack {archive}: {reason}. None of its files are used.") from error


@contextmanager
def temporary_folder(archive: Path) -> Iterator[Path]:
    """Create a folder beside the archive that only this process uses, and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f".{archive.name[:64]}-", suffix=UNPACKING_SUFFIX, dir=archive.parent))
    with locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned_folders(folder: Path) -> None:
    """Remove the temporary folders of processes that were killed while they unpacked into this folder."""
    for temporary in folder.glob(f".*{UNPACKING_SUFFIX}"):
        with locked(temporary) as abandoned:
            if abandoned:
                shutil.rmtree(temporary, ignore_errors=True)


def _write_listing(
    listing: Path, extracted: Iterator[tuple[PurePosixPath, int, str]], state: UnpackedArchive
) -> UnpackedArchive:
    """Write SHA-256 and path of each extracted file, and return the state with their number and size."""
    files = 0
    size = 0
    with listing.open("w", encoding="utf-8", newline="\n") as lines:
        for path, file_size, sha256 in extracted:
            lines.write(f"{sha256}  {path}\n")
            files += 1
            size += file_size
    return state.model_copy(update={"files": files, "bytes": size})


def _read_listing(listing: Path) -> Iterator[tuple[str, str]]:
    """Yield path and SHA-256 of each file in a listing."""
    with listing.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            digest, _, path = line.rstrip("\n").partition("  ")
            yield path, digest


def unpacked_files(data_dir: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Yield path and SHA-256 of each file of an unpacked archive.

    Args:
        data_dir: The data directory.
        name: Path of the archive relative to it.

    Raises:
        InputError: When the record cannot be read.
    """
    listing = listing_path(data_dir, name)
    try:
        for path, digest in _read_listing(listing):
            yield (data_dir / name).parent / path, digest
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {listing} ({error}). Delete it, and run modgap data fetch again.") from error


def _check_existing_files(archive: Path, files: Path, listing: Path, data_dir: Path, reserved: Collection[str]) -> None:
    # Another file at the same path belongs to the user or to another archive. An identical one may be replaced.
    for path, digest in _read_listing(listing):
        existing = archive.parent / path
        if existing.relative_to(data_dir).as_posix() in reserved:
            raise InputError(f"cannot unpack {archive}: it contains {path}, which is the name of another download")
        extracted = files / path
        if existing.is_symlink() or (existing.exists() and not _is_identical(existing, extracted, digest)):
            raise InputError(
                f"cannot unpack {archive}: it would overwrite {existing}, which is a different file. "
                "Move that file away, and run the command again."
            )


def _is_identical(existing: Path, extracted: Path, digest: str) -> bool:
    if not existing.is_file() or existing.stat().st_size != extracted.stat().st_size:
        return False
    with existing.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == digest
