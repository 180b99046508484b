"""Extraction of untrusted archives into a folder, within limits of sizes, counts and free space."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from modgap.errors import InputError, format_bytes
from modgap.storage.limits import ARCHIVE_DEPTH, ARCHIVE_ENTRIES, UNPACK_RATIO
from modgap.storage.locks import abandoned, try_lock, unlock
from modgap.storage.paths import format_name, parse_relative_path
from modgap.targets.download.archives import (
    DAMAGED_ARCHIVE_ERRORS,
    ArchiveEntry,
    ReadEntries,
    RefusedArchiveError,
    iterate_entries,
)

CHUNK = 1 << 20
SPACE_CHECK_INTERVAL = 64 * CHUNK
"""Bytes written between two checks of the free space."""
LEAST_FREE_SPACE = 64 * CHUNK
"""Bytes that stay free on a disk, or a fiftieth of it if that is less."""
MAX_NEW_FOLDERS = 5
UNPACKED_BYTES_OF_ANY = 64 << 20
"""Size of all files, in bytes, that any archive may have, whatever its ratio."""


def extract(
    archive: Path,
    folder: Path,
    max_bytes: int | None = None,
    advance: Callable[[float], None] | None = None,
    *,
    members: Collection[str] | None = None,
    entries: ReadEntries = iterate_entries,
) -> Iterator[tuple[PurePosixPath, int, str]]:
    """Extract an archive into an empty folder, and yield path, size and SHA-256 of each file.

    Only regular files and folders are extracted, with new permissions, and only to paths within the folder.

    Args:
        archive: The archive.
        folder: The empty folder. The free space of its disk limits what is written.
        max_bytes: Largest size of all files in bytes. None allows 64 MiB, or `UNPACK_RATIO` times the size of the
            archive if that is more.
        advance: Called with the fraction of the archive, in [0, 1], read since the last call.
        members: Paths of the files, and of folders with all files in them, to extract. Links and devices are skipped,
            unless one of the paths is their own. None extracts all files.
        entries: Function that yields the entries of the archive. The default reads a tar, tar.gz, zip or gzip file,
            whose kind it detects from its content.

    Raises:
        InputError: When the archive is damaged, lacks a member, or contains something that is refused. Some files may
            have been extracted by then.
        OSError: When the disk is full.
    """
    size = archive.stat().st_size
    if max_bytes is None:
        max_bytes = max(UNPACKED_BYTES_OF_ANY, UNPACK_RATIO.value * size)
    # Each byte of a zip file's directory, which is read at once, costs about fifteen of memory.
    max_directory_bytes = min(max(size // 50, 16 << 20), 256 << 20)
    extraction = _Extraction(folder, max_bytes, members)
    position = 0
    try:
        with (
            archive.open("rb") as stream,
            contextlib.closing(entries(archive, stream, max_directory_bytes)) as found,
        ):
            for entry in found:
                extracted = extraction.write(entry)
                if advance:
                    advance(max(stream.tell() - position, 0) / max(size, 1))
                    position = max(stream.tell(), position)
                if extracted:
                    yield extracted
        if extraction.missing:
            raise RefusedArchiveError(f"it has no file {format_name(min(map(str, extraction.missing)))}")
    except DAMAGED_ARCHIVE_ERRORS as error:
        reason = " ".join((str(error) or type(error).__name__).split())
        raise InputError(f"cannot unpack {archive}: {reason}. None of its files are used.") from error
    if not extraction.files:
        raise InputError(f"cannot unpack {archive}: it contains no files")


class _Extraction:
    """An archive while it is extracted: what has been written, and the limits and the free space for the rest.

    Attributes:
        files: Number of files that were written.
        missing: Paths of `members` that no entry had so far.
    """

    def __init__(self, folder: Path, max_bytes: int, members: Collection[str] | None) -> None:
        """Start an extraction; the arguments are those of `extract`."""
        self.files = 0
        self.missing = set(map(PurePosixPath, members or ()))
        self._members = None if members is None else frozenset(self.missing)
        self._folder = folder
        self._entries = 0
        self._max_entries = ARCHIVE_ENTRIES.value
        self._max_depth = ARCHIVE_DEPTH.value
        self._bytes = 0
        self._max_bytes = max_bytes
        self._bytes_since_check = SPACE_CHECK_INTERVAL  # so that the first bytes are checked

    def write(self, entry: ArchiveEntry) -> tuple[PurePosixPath, int, str] | None:
        """Write an entry, and return its path, size and SHA-256; None for a folder, and for one that is not wanted."""
        self._entries += 1
        if self._entries > self._max_entries:
            raise RefusedArchiveError(
                f"it contains more than {self._max_entries:,} files and folders. {ARCHIVE_ENTRIES.way_out()}"
            )
        name = format_name(entry.name)
        try:
            path = parse_relative_path(entry.name, self._max_depth)
        except ValueError as error:
            raise RefusedArchiveError(f"{name} {error}") from None
        if entry.size is not None and not 0 <= entry.size <= self._max_bytes - self._bytes:
            limit = format_bytes(self._max_bytes)
            raise RefusedArchiveError(f"{name} claims {entry.size:,} bytes; the limit for all files is {limit}")
        if not self._is_wanted(entry, path):
            # Skipped content counts too, because a compressed tar file is decompressed up to its end.
            self._add_bytes(entry.size or 0)
            return None
        entry.check_kind()
        digest = hashlib.sha256()
        size = 0
        try:
            if entry.is_folder:
                (self._folder / path).mkdir(parents=True, exist_ok=True)
                return None
            if not path.parts:
                raise RefusedArchiveError(f"a file has the name {name}")
            (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
            # Opened exclusively, so that a later entry never overwrites an earlier one or follows a link.
            with open(self._folder / path, "xb") as out, entry.open() as content:
                while chunk := content.read(CHUNK):
                    size += len(chunk)
                    self._add_bytes(len(chunk))
                    digest.update(chunk)
                    out.write(chunk)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise RefusedArchiveError(f"{name} is in it twice") from None
        if entry.size not in (None, size):
            raise RefusedArchiveError(f"{name} has {size} bytes, but it claims {entry.size}")
        self.files += 1
        return path, size, digest.hexdigest()

    def _is_wanted(self, entry: ArchiveEntry, path: PurePosixPath) -> bool:
        """Return True if all files are extracted, or a file is one of the members or in one of their folders."""
        if self._members is None:
            return True
        if entry.is_folder:
            return False
        found = self._members.intersection((path, *path.parents))
        self.missing -= found
        return bool(found) and not (entry.special and path not in self._members)

    def _add_bytes(self, size: int) -> None:
        """Count bytes that were read, and compare them with the limit and the free space."""
        self._bytes += size
        if self._bytes > self._max_bytes:
            limit = format_bytes(self._max_bytes)
            raise RefusedArchiveError(
                f"its files are larger than {limit}, the most that an archive of its size may hold. "
                f"{UNPACK_RATIO.way_out()}, or state unpacked_size in the manifest"
            )
        self._bytes_since_check += size
        if self._bytes_since_check >= SPACE_CHECK_INTERVAL:
            self._bytes_since_check = 0
            usage = shutil.disk_usage(self._folder)
            # A full disk harms other programs, so a small part of it stays free.
            if usage.free < min(LEAST_FREE_SPACE, usage.total // 50) + size:
                raise RefusedArchiveError(f"only {format_bytes(usage.free)} are free in {self._folder}")


UNPACKING_SUFFIX = ".unpacking"


@contextmanager
def temporary_folder(archive: Path) -> Iterator[Path]:
    """Create a folder beside the archive that only this process uses, and remove it at the end."""
    for _ in range(MAX_NEW_FOLDERS):
        folder = Path(tempfile.mkdtemp(prefix=f".{archive.name[:64]}-", suffix=UNPACKING_SUFFIX, dir=archive.parent))
        lock = try_lock(folder)
        if lock is not None:
            break
        # Either another process took the new folder for an abandoned one and removes it, or locks do not work here.
        # In the second case no process removes folders of others.
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unlock(lock)


def remove_abandoned_folders(folder: Path) -> None:
    """Remove the temporary folders of processes that were killed while they unpacked into this folder."""
    for temporary in abandoned(folder.glob(f".*{UNPACKING_SUFFIX}")):
        shutil.rmtree(temporary, ignore_errors=True)
