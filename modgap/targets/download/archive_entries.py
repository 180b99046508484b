"""The entries of tar, tar.gz, zip and gzip files, one by one, whatever their headers claim."""

import contextlib
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from modgap.formatting import format_bytes
from modgap.targets.download.relative_paths import shown

__all__ = ["BROKEN", "Entry", "RefusalError", "entries"]

CHUNK = 1 << 20
TAR_BLOCK = 512
TAR_HEADERS = 4 * CHUNK
"""Bytes of headers in a tar file between two files' contents; tarfile keeps them in memory."""
TAR_GLOBALS = 1 << 16
TAR_END = 64 * CHUNK
TAR_MAGIC = slice(257, 262)
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ZIP_ENCRYPTED = 0x1
ZIP_LOCAL_HEADER = 30
SPECIAL = "device or other special file"
BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile, struct.error,
    ValueError, IndexError, KeyError, OverflowError, NotImplementedError, RecursionError,
)  # fmt: skip
"""What Python's readers raise on archives that are none, or are broken by accident or by intent."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class RefusalError(ValueError):
    """Why an archive is not unpacked."""


@dataclass(frozen=True)
class Entry:
    """A regular file or folder in an archive.

    Attributes:
        name: As the archive gives it, to be checked.
        folder: Whether it is a folder.
        size: Bytes that the archive claims; None where it says nothing.
        open: Gives its content; before the next entry is asked for.
    """

    name: str
    folder: bool
    size: int | None
    open: Callable[[], Any]


def entries(archive: Path, stream: IO[bytes], most_directory: int) -> Generator[Entry, None, None]:
    """The entries of whatever kind of archive this is, told by its content.

    Each must be read before the next is asked for.

    Args:
        archive: The file, for its name.
        stream: The same, open at its start.
        most_directory: Bytes that a zip's directory may have.

    Raises:
        RefusalError: When it is no such archive, or an entry is neither a regular file nor a folder.
    """
    head = stream.read(TAR_BLOCK)
    stream.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return _gzip_entries(archive, stream)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _zip_entries(stream, most_directory)
    if head[TAR_MAGIC] == b"ustar" or _old_tar(head):
        return _tar_entries(stream)
    raise RefusalError("it is not a tar, tar.gz, zip or gzip file")


def _old_tar(head: bytes) -> bool:
    """Tar files from before 1988 have no mark, but a checksum of the header."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _gzip_entries(archive: Path, stream: IO[bytes]) -> Generator[Entry, None, None]:
    unzipped = gzip.GzipFile(fileobj=stream)
    head = unzipped.read(TAR_BLOCK)
    unzipped.seek(0)
    if head[TAR_MAGIC] == b"ustar" or (len(head) == TAR_BLOCK and _old_tar(head)):
        yield from _tar_entries(unzipped)
        _read_to_the_end(unzipped)
    elif archive.suffix != ".gz":
        raise RefusalError("a gzip file without a tar in it has a name that ends in .gz")
    else:
        yield Entry(archive.stem, False, None, lambda: contextlib.nullcontext(unzipped))


def _read_to_the_end(stream: _Readable) -> None:
    """Gzip's checksum lies behind tar's last block, where tar does not read."""
    left = TAR_END
    while chunk := stream.read(CHUNK):
        left -= len(chunk)
        if left < 0:
            raise RefusalError(f"it goes on for more than {format_bytes(TAR_END)} after its end")


class _Forward:
    """A stream as tarfile wants it, which goes forward only and bounds what headers cost.

    tarfile reads whatever a header claims to be long into memory, and follows negative sizes backwards
    for ever; neither gets past this.
    """

    def __init__(self, stream: _Readable):
        self._stream, self._at = stream, 0
        self.headers_left: int | None = TAR_HEADERS
        self.last = b""

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return False

    def read(self, size: int) -> bytes:
        if self.headers_left is not None:
            self.headers_left -= size
            if size < 0 or self.headers_left < 0:
                raise RefusalError(f"it has more than {format_bytes(TAR_HEADERS)} of headers before a file")
        self.last = self._stream.read(size)
        self._at += len(self.last)
        return self.last

    def seek(self, position: int) -> None:
        if position < self._at:
            raise RefusalError("a header points backwards")
        while self._at < position:
            skipped = len(self._stream.read(min(position - self._at, CHUNK)))
            self._at += skipped
            if not skipped:
                raise EOFError("it ends within a file")


def _tar_entries(stream: _Readable) -> Generator[Entry, None, None]:
    forward = _Forward(stream)
    with tarfile.TarFile(fileobj=forward, errorlevel=2) as tar:  # type: ignore[arg-type]
        while member := tar.next():
            # tarfile keeps all it has seen, which a million files make large.
            tar.members.clear()  # type: ignore[attr-defined]
            if sum(len(str(value)) for value in tar.pax_headers.values()) > TAR_GLOBALS:
                raise RefusalError(f"its global headers have more than {TAR_GLOBALS:,} characters")
            forward.headers_left = None
            yield _tar_entry(tar, member)
            forward.headers_left = TAR_HEADERS
        # tarfile takes a broken header for the end.
        if forward.last.strip(b"\0"):
            raise RefusalError("a header is broken or cut off")


def _tar_entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    if not (member.isreg() or member.isdir()) or member.issparse():
        kinds = (("issym", "symbolic link"), ("islnk", "hard link"), ("issparse", "sparse file"))
        kind = next((kind for test, kind in kinds if getattr(member, test)()), SPECIAL)
        raise RefusalError(f"{shown(member.name)} is a {kind}")

    def opened() -> IO[bytes]:
        if hasattr(tarfile, "data_filter"):
            try:
                tarfile.data_filter(member, os.sep + "unpacked")
            except tarfile.FilterError as error:
                raise RefusalError(f"{shown(member.name)} is refused by tarfile ({type(error).__name__})") from None
        data = tar.extractfile(member)
        assert data is not None
        return data

    return Entry(member.name, member.isdir(), member.size if member.isreg() else None, opened)


class _Bounded:
    """A file that reads no more than so much at once, but by copying chunks."""

    def __init__(self, stream: IO[bytes], most: int):
        self._stream, self._most = stream, most
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self._most:
            raise RefusalError(f"its directory claims {size:,} bytes")
        data = self._stream.read(size if size >= 0 else self._most + 1)
        if len(data) > self._most:
            raise RefusalError(f"its directory has more than {self._most:,} bytes")
        return data


def _zip_entries(stream: IO[bytes], most: int) -> Generator[Entry, None, None]:
    with zipfile.ZipFile(_Bounded(stream, most)) as packed:  # type: ignore[arg-type]
        infos = packed.infolist()
        _refuse_overlaps(infos, packed.start_dir)
        for info in infos:
            yield _zip_entry(packed, info)


def _refuse_overlaps(infos: list[zipfile.ZipInfo], end: int) -> None:
    """Entries that share their compressed bytes are how a small zip becomes an endless one."""
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        stop = info.header_offset + ZIP_LOCAL_HEADER + info.compress_size
        if info.header_offset < 0 or stop > end:
            raise RefusalError(f"{shown(info.filename)} overlaps another file in it, as in a zip bomb")
        end = info.header_offset


def _zip_entry(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    name = shown(info.filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RefusalError(f"{name} is a {'symbolic link' if kind == stat.S_IFLNK else SPECIAL}")
    if "\0" in info.orig_filename:
        raise RefusalError(f"{shown(info.orig_filename)} has control characters in its name")
    if info.flag_bits & ZIP_ENCRYPTED:
        raise RefusalError(f"{name} is encrypted")
    if info.compress_type not in ZIP_METHODS:
        raise RefusalError(f"{name} is compressed by method {info.compress_type}, neither stored nor deflated")
    if info.is_dir() and info.file_size:
        raise RefusalError(f"the folder {name} has content")
    return Entry(info.filename, info.is_dir(), info.file_size, lambda: packed.open(info))
