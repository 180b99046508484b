"""Untrusted tar, zip and gzip files, read entry by entry: no links, no paths outside the folder, no bombs."""

import contextlib
import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from modgap.errors import format_bytes
from modgap.storage.paths import format_name

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
    tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, struct.error,
    ValueError, IndexError, KeyError, OverflowError, NotImplementedError, RecursionError,
)  # fmt: skip
"""Errors that Python's readers raise for files that are not archives, or are damaged by accident or by intent."""


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at its end."""


class RefusedArchiveError(ValueError):
    """An archive that is refused; the message gives the reason, with the archive as "it"."""


@dataclass(frozen=True)
class ArchiveEntry:
    """A file or folder in an archive.

    Attributes:
        name: The path in the archive, not yet checked.
        is_folder: True for a folder.
        size: Size in bytes as the archive claims it; None where it makes no claim, and for folders of a tar file.
        open: Opens the content; to be called before the next entry is requested.
        special: Kind of an entry that is neither a regular file nor a folder, such as `symbolic link`; empty for these.
    """

    name: str
    is_folder: bool
    size: int | None
    open: Callable[[], contextlib.AbstractContextManager[Readable]]
    special: str = ""

    def check_kind(self) -> None:
        """Raise if the entry is neither a regular file nor a folder.

        Raises:
            RefusedArchiveError: If it is a link, a device or the like.
        """
        if self.special:
            raise RefusedArchiveError(f"{format_name(self.name)} is a {self.special}")


ReadEntries = Callable[[Path, IO[bytes], int], Generator[ArchiveEntry, None, None]]
"""Function that yields the entries of an archive, with the arguments of `iterate_entries`."""


def iterate_entries(archive: Path, stream: IO[bytes], max_directory_bytes: int) -> Generator[ArchiveEntry, None, None]:
    """Yield the entries of an archive, whose kind is detected from its content.

    Read each entry before you request the next one.

    Args:
        archive: Path of the archive; only its name is used.
        stream: The archive, open at its start.
        max_directory_bytes: Largest size of a zip file's directory.

    Raises:
        RefusedArchiveError: When the file is not an archive of these kinds, or is damaged.
    """
    head = stream.read(TAR_BLOCK)
    stream.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return _gzip_entries(archive, stream)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _zip_entries(stream, max_directory_bytes)
    if head[TAR_MAGIC] == b"ustar" or _is_old_tar(head):
        return tar_entries(stream)
    raise RefusedArchiveError("it is not a tar, tar.gz, zip or gzip file")


def _is_old_tar(head: bytes) -> bool:
    # Tar files from before 1988 have no magic number, but a checksum of the header.
    with contextlib.suppress(tarfile.HeaderError):
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        return True
    return False


def _gzip_entries(archive: Path, stream: IO[bytes]) -> Generator[ArchiveEntry, None, None]:
    unzipped = gzip.GzipFile(fileobj=stream)
    head = unzipped.read(TAR_BLOCK)
    unzipped.seek(0)
    if head[TAR_MAGIC] == b"ustar" or (len(head) == TAR_BLOCK and _is_old_tar(head)):
        yield from tar_entries(unzipped)
        read_to_end(unzipped)
    elif archive.suffix != ".gz":
        raise RefusedArchiveError("a gzip file without a tar in it has a name that ends in .gz")
    else:
        yield ArchiveEntry(archive.stem, False, None, lambda: contextlib.nullcontext(unzipped))


def read_to_end(stream: Readable) -> None:
    """Read what follows the end of a tar file: gzip verifies its checksum there, which tarfile does not read.

    Raises:
        RefusedArchiveError: When it goes on for too long.
    """
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

    def __init__(self, stream: Readable) -> None:
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


def tar_entries(stream: Readable) -> Generator[ArchiveEntry, None, None]:
    """Yield the entries of a tar file, which is read forward only.

    Raises:
        RefusedArchiveError: When it is damaged, or its headers are too large.
    """
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
    kind = ""
    if not (member.isreg() or member.isdir()) or member.issparse():
        kinds = (("issym", "symbolic link"), ("islnk", "hard link"), ("issparse", "sparse file"))
        kind = next((kind for test, kind in kinds if getattr(member, test)()), SPECIAL)

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

    return ArchiveEntry(member.name, member.isdir(), member.size if member.isreg() else None, open_content, kind)


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
        # In a zip bomb, many entries share the same compressed bytes.
        end = zip_file.start_dir
        for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
            stop = info.header_offset + ZIP_LOCAL_HEADER + info.compress_size
            if info.header_offset < 0 or stop > end:
                raise RefusedArchiveError(f"{format_name(info.filename)} overlaps another file in it, as in a zip bomb")
            end = info.header_offset
        for info in infos:
            yield _zip_entry(zip_file, info)


def _zip_entry(zip_file: zipfile.ZipFile, info: zipfile.ZipInfo) -> ArchiveEntry:
    name = format_name(info.filename)
    if "\0" in info.orig_filename:
        raise RefusedArchiveError(f"{format_name(info.orig_filename)} has control characters in its name")
    if info.flag_bits & ZIP_ENCRYPTED:
        raise RefusedArchiveError(f"{name} is encrypted")
    if info.compress_type not in ZIP_METHODS:
        raise RefusedArchiveError(f"{name} is compressed by method {info.compress_type}, neither stored nor deflated")
    if info.is_dir() and info.file_size:
        raise RefusedArchiveError(f"the folder {name} has content")
    kinds = {0: "", stat.S_IFREG: "", stat.S_IFDIR: "", stat.S_IFLNK: "symbolic link"}
    special = kinds.get(stat.S_IFMT(info.external_attr >> 16), SPECIAL)
    return ArchiveEntry(info.filename, info.is_dir(), info.file_size, lambda: zip_file.open(info), special)
