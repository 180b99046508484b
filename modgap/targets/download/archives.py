"""Untrusted tar, zip and gzip files, read entry by entry: no links, no paths outside the folder, no bombs."""

import contextlib
import gzip
import hashlib
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from modgap.errors import InputError, format_bytes
from modgap.storage.limits import ARCHIVE_DEPTH, ARCHIVE_ENTRIES, UNPACK_RATIO
from modgap.storage.paths import format_name, parse_relative_path

__all__ = [
    "DAMAGED_ARCHIVE_ERRORS",
    "ArchiveEntry",
    "ArchiveLimits",
    "RefusedArchiveError",
    "extract",
    "iterate_entries",
    "read_members",
]

CHUNK = 1 << 20
TAR_BLOCK = 512
MAX_TAR_HEADER_BYTES = 4 * CHUNK
"""Largest size of the headers between the contents of two files in a tar file; tarfile reads them into memory."""
MAX_TAR_GLOBAL_CHARACTERS = 1 << 16
MAX_BYTES_AFTER_TAR = 64 * CHUNK
TAR_MAGIC = slice(257, 262)
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ZIP_ENCRYPTED = 0x1
ZIP_LOCAL_HEADER = 30
SPECIAL = "device or other special file"
DAMAGED_ARCHIVE_ERRORS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    gzip.BadGzipFile,
    struct.error,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    NotImplementedError,
    RecursionError,
)
"""Errors that Python's readers raise for files that are not archives, or are damaged by accident or by intent."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class RefusedArchiveError(ValueError):
    """An archive that is refused; the message gives the reason, with the archive as "it"."""


@dataclass(frozen=True)
class ArchiveEntry:
    """A regular file or folder in an archive.

    Attributes:
        name: The path in the archive, not yet checked.
        is_folder: True for a folder.
        size: Size in bytes as the archive claims it; None where it makes no claim, and for folders of a tar file.
        open: Opens the content; to be called before the next entry is requested.
    """

    name: str
    is_folder: bool
    size: int | None
    open: Callable[[], Any]


def iterate_entries(archive: Path, stream: IO[bytes], max_directory_bytes: int) -> Generator[ArchiveEntry, None, None]:
    """Yield the entries of an archive, whose kind is detected from its content.

    Read each entry before you request the next one.

    Args:
        archive: Path of the archive; only its name is used.
        stream: The archive, open at its start.
        max_directory_bytes: Largest size of a zip file's directory.

    Raises:
        RefusedArchiveError: When the file is not an archive of these kinds, or an entry is neither a regular file nor
            a folder.
    """
    head = stream.read(TAR_BLOCK)
    stream.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return _gzip_entries(archive, stream)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _zip_entries(stream, max_directory_bytes)
    if head[TAR_MAGIC] == b"ustar" or _is_old_tar(head):
        return _tar_entries(stream)
    raise RefusedArchiveError("it is not a tar, tar.gz, zip or gzip file")


def _is_old_tar(head: bytes) -> bool:
    # Tar files from before 1988 have no magic number, but a checksum of the header.
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _gzip_entries(archive: Path, stream: IO[bytes]) -> Generator[ArchiveEntry, None, None]:
    unzipped = gzip.GzipFile(fileobj=stream)
    head = unzipped.read(TAR_BLOCK)
    unzipped.seek(0)
    if head[TAR_MAGIC] == b"ustar" or (len(head) == TAR_BLOCK and _is_old_tar(head)):
        yield from _tar_entries(unzipped)
        _read_to_end(unzipped)
    elif archive.suffix != ".gz":
        raise RefusedArchiveError("a gzip file without a tar in it has a name that ends in .gz")
    else:
        yield ArchiveEntry(archive.stem, False, None, lambda: contextlib.nullcontext(unzipped))


def _read_to_end(stream: _Readable) -> None:
    # gzip verifies its checksum at the end of the file, which tarfile does not read.
    remaining = MAX_BYTES_AFTER_TAR
    while chunk := stream.read(CHUNK):
        remaining -= len(chunk)
        if remaining < 0:
            raise RefusedArchiveError(f"it goes on for more than {format_bytes(MAX_BYTES_AFTER_TAR)} after its end")


class _ForwardStream:
    """A stream for tarfile that only moves forward and limits the size of headers.

    tarfile reads as many bytes as a header claims into memory, and follows negative sizes backwards in an endless
    loop. This stream raises in both cases.

    Attributes:
        header_bytes_left: Bytes of headers that may still be read; None while the content of a file is read.
        last_read: The bytes that the last call of `read` returned.
    """

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream
        self._position = 0
        self.header_bytes_left: int | None = MAX_TAR_HEADER_BYTES
        self.last_read = b""

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return False

    def read(self, size: int) -> bytes:
        if self.header_bytes_left is not None:
            self.header_bytes_left -= size
            if size < 0 or self.header_bytes_left < 0:
                raise RefusedArchiveError(
                    f"it has more than {format_bytes(MAX_TAR_HEADER_BYTES)} of headers before a file"
                )
        self.last_read = self._stream.read(size)
        self._position += len(self.last_read)
        return self.last_read

    def seek(self, position: int) -> None:
        if position < self._position:
            raise RefusedArchiveError("a header points backwards")
        while self._position < position:
            skipped = len(self._stream.read(min(position - self._position, CHUNK)))
            self._position += skipped
            if not skipped:
                raise EOFError("it ends within a file")


def _tar_entries(stream: _Readable) -> Generator[ArchiveEntry, None, None]:
    forward = _ForwardStream(stream)
    with tarfile.TarFile(fileobj=forward, errorlevel=2) as tar:  # type: ignore[arg-type]
        while member := tar.next():
            # tarfile keeps all members that it has read, which takes much memory for a million files.
            tar.members.clear()  # type: ignore[attr-defined]
            if sum(len(str(value)) for value in tar.pax_headers.values()) > MAX_TAR_GLOBAL_CHARACTERS:
                raise RefusedArchiveError(f"its global headers have more than {MAX_TAR_GLOBAL_CHARACTERS:,} characters")
            forward.header_bytes_left = None
            yield _tar_entry(tar, member)
            forward.header_bytes_left = MAX_TAR_HEADER_BYTES
        # tarfile takes a damaged header for the end of the archive.
        if forward.last_read.strip(b"\0"):
            raise RefusedArchiveError("a header is broken or cut off")


def _tar_entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> ArchiveEntry:
    if not (member.isreg() or member.isdir()) or member.issparse():
        kinds = (("issym", "symbolic link"), ("islnk", "hard link"), ("issparse", "sparse file"))
        kind = next((kind for test, kind in kinds if getattr(member, test)()), SPECIAL)
        raise RefusedArchiveError(f"{format_name(member.name)} is a {kind}")

    def open_content() -> IO[bytes]:
        if hasattr(tarfile, "data_filter"):
            try:
                tarfile.data_filter(member, os.sep + "unpacked")
            except tarfile.FilterError as error:
                raise RefusedArchiveError(
                    f"{format_name(member.name)} is refused by tarfile ({type(error).__name__})"
                ) from None
        data = tar.extractfile(member)
        assert data is not None
        return data

    return ArchiveEntry(member.name, member.isdir(), member.size if member.isreg() else None, open_content)


class _BoundedStream:
    """A stream for zipfile that limits the size of a single read, and so of the zip file's directory."""

    def __init__(self, stream: IO[bytes], max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self.seek = stream.seek
        self.tell = stream.tell
        self.seekable = stream.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self._max_bytes:
            raise RefusedArchiveError(f"its directory claims {size:,} bytes")
        data = self._stream.read(size if size >= 0 else self._max_bytes + 1)
        if len(data) > self._max_bytes:
            raise RefusedArchiveError(f"its directory has more than {self._max_bytes:,} bytes")
        return data


def _zip_entries(stream: IO[bytes], max_directory_bytes: int) -> Generator[ArchiveEntry, None, None]:
    with zipfile.ZipFile(_BoundedStream(stream, max_directory_bytes)) as zip_file:
        infos = zip_file.infolist()
        _check_overlaps(infos, zip_file.start_dir)
        for info in infos:
            yield _zip_entry(zip_file, info)


def _check_overlaps(infos: list[zipfile.ZipInfo], end: int) -> None:
    # In a zip bomb, many entries share the same compressed bytes.
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        stop = info.header_offset + ZIP_LOCAL_HEADER + info.compress_size
        if info.header_offset < 0 or stop > end:
            raise RefusedArchiveError(f"{format_name(info.filename)} overlaps another file in it, as in a zip bomb")
        end = info.header_offset


def _zip_entry(zip_file: zipfile.ZipFile, info: zipfile.ZipInfo) -> ArchiveEntry:
    name = format_name(info.filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RefusedArchiveError(f"{name} is a {'symbolic link' if kind == stat.S_IFLNK else SPECIAL}")
    if "\0" in info.orig_filename:
        raise RefusedArchiveError(f"{format_name(info.orig_filename)} has control characters in its name")
    if info.flag_bits & ZIP_ENCRYPTED:
        raise RefusedArchiveError(f"{name} is encrypted")
    if info.compress_type not in ZIP_METHODS:
        raise RefusedArchiveError(f"{name} is compressed by method {info.compress_type}, neither stored nor deflated")
    if info.is_dir() and info.file_size:
        raise RefusedArchiveError(f"the folder {name} has content")
    return ArchiveEntry(info.filename, info.is_dir(), info.file_size, lambda: zip_file.open(info))


MAX_ENTRIES = 10_000
MAX_SKIPPED_BYTES = 64 << 20
"""Largest sum of the sizes of all entries, because a tar.gz file is decompressed up to the last one that is read."""
MAX_DIRECTORY_BYTES = 1 << 20


def read_members(
    archive: Path, names: Sequence[str], max_bytes: int, *, content: bytes | None = None
) -> dict[str, bytes]:
    """Return the content of files in an archive of one of the kinds that `iterate_entries` reads.

    Args:
        archive: Path of the archive.
        names: Names of the files, as the archive has them.
        max_bytes: Largest size of each file.
        content: Bytes of an archive that was read from `archive`, to be read instead of the file itself. None reads
            the file.

    Raises:
        InputError: When the archive cannot be read, is damaged or too large, or lacks a file.
    """
    try:
        if content is not None:
            return _read(archive, io.BytesIO(content), names, max_bytes)
        with archive.open("rb") as stream:
            return _read(archive, stream, names, max_bytes)
    except RefusedArchiveError as error:
        raise InputError(f"The archive {archive} cannot be used: {error}.") from error
    except (OSError, *DAMAGED_ARCHIVE_ERRORS) as error:
        raise InputError(f"cannot read the archive {archive}: {error}") from error


def _read(archive: Path, stream: IO[bytes], names: Sequence[str], max_bytes: int) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    total = 0
    for number, entry in enumerate(iterate_entries(archive, stream, MAX_DIRECTORY_BYTES), start=1):
        total += entry.size or 0
        if number > MAX_ENTRIES or total > MAX_SKIPPED_BYTES:
            raise RefusedArchiveError(
                f"it has more than {MAX_ENTRIES:,} files or more than {format_bytes(MAX_SKIPPED_BYTES)} of content"
            )
        if entry.name in names and not entry.is_folder:
            if entry.name in members:
                raise RefusedArchiveError(f"it has two files {entry.name}")
            members[entry.name] = _content(entry, max_bytes)
    missing = [name for name in names if name not in members]
    if missing:
        raise RefusedArchiveError(f"it has no file {missing[0]}")
    return members


def _content(entry: ArchiveEntry, max_bytes: int) -> bytes:
    with entry.open() as data:
        content: bytes = data.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise RefusedArchiveError(f"its file {entry.name} has more than {format_bytes(max_bytes)}")
    return content


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
    archive: Path, folder: Path, limits: ArchiveLimits, advance: Callable[[float], None] | None = None
) -> Iterator[tuple[PurePosixPath, int, str]]:
    """Extract an archive into an empty folder, and yield path, size and SHA-256 of each file.

    Only regular files and folders are extracted, with new permissions, and only to paths within the folder.

    Args:
        archive: A tar, tar.gz, zip or gzip file; its kind is detected from its content.
        folder: The empty folder. The free space of its disk limits what is written.
        limits: Limits of what the archive may contain.
        advance: Called with the fraction of the archive, in [0, 1], read since the last call.

    Raises:
        InputError: When the archive is damaged, or contains something that is refused. Some files may have been
            extracted by then.
        OSError: When the disk is full.
    """
    size = archive.stat().st_size
    budget = _Budget(folder, limits.max_total_bytes(size), limits)
    position = 0
    try:
        with (
            archive.open("rb") as stream,
            contextlib.closing(iterate_entries(archive, stream, limits.max_directory_bytes(size))) as entries,
        ):
            for entry in entries:
                extracted = _extract_entry(entry, folder, budget)
                if advance:
                    advance(max(stream.tell() - position, 0) / max(size, 1))
                    position = max(stream.tell(), position)
                if extracted:
                    yield extracted
    except DAMAGED_ARCHIVE_ERRORS as error:
        reason = " ".join((str(error) or type(error).__name__).split())
        raise InputError(f"cannot unpack {archive}: {reason}. None of its files are used.") from error
    if not budget.files:
        raise InputError(f"cannot unpack {archive}: it contains no files")


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


def _extract_entry(entry: ArchiveEntry, folder: Path, budget: _Budget) -> tuple[PurePosixPath, int, str] | None:
    """Write an entry, and return its path, size and SHA-256; None for a folder."""
    budget.add_entry()
    name = format_name(entry.name)
    try:
        path = parse_relative_path(entry.name, budget.limits.depth)
    except ValueError as error:
        raise RefusedArchiveError(f"{name} {error}") from None
    if entry.size is not None and not 0 <= entry.size <= budget.max_bytes - budget.bytes:
        limit = format_bytes(budget.max_bytes)
        raise RefusedArchiveError(f"{name} claims {entry.size:,} bytes; the limit for all files is {limit}")
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
