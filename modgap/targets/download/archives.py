"""Untrusted tar, zip, gzip and .deb files, read entry by entry: no links, no paths outside the folder, no bombs."""

import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from modgap.errors import InputError, format_bytes
from modgap.storage.damaged_files import RawContent
from modgap.storage.paths import format_name

CHUNK = 1 << 20
TAR_BLOCK = 512
MAX_TAR_HEADER_BYTES = 4 * CHUNK
"""Largest size of the headers between the contents of two files in a tar file; tarfile reads them into memory."""
MAX_TAR_GLOBAL_CHARACTERS = 1 << 16
MAX_BYTES_AFTER_TAR = 64 * CHUNK
TAR_MAGIC = slice(257, 262)
AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60
MAX_AR_MEMBERS = 16
MAX_XZ_BYTES = 256 * CHUNK
"""Largest memory for the decompression of an xz file, whose header states what it needs."""
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ZIP_ENCRYPTED = 0x1
ZIP_LOCAL_HEADER = 30
SPECIAL = "device or other special file"
DAMAGED_ARCHIVE_ERRORS = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile, struct.error,
    ValueError, IndexError, KeyError, OverflowError, NotImplementedError, RecursionError,
)  # fmt: skip
"""Errors that Python's readers raise for files that are not archives, or are damaged by accident or by intent."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


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
    open: Callable[[], contextlib.AbstractContextManager[_Readable]]
    special: str = ""

    def check_kind(self) -> None:
        """Raise if the entry is neither a regular file nor a folder.

        Raises:
            RefusedArchiveError: If it is a link, a device or the like.
        """
        if self.special:
            raise RefusedArchiveError(f"{format_name(self.name)} is a {self.special}")


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
    if head.startswith(AR_MAGIC):
        return _deb_entries(stream)
    if head[TAR_MAGIC] == b"ustar" or _is_old_tar(head):
        return _tar_entries(stream)
    raise RefusedArchiveError("it is not a tar, tar.gz, zip, gzip or .deb file")


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
        yield from _tar_entries(unzipped)
        _read_to_end(unzipped)
    elif archive.suffix != ".gz":
        raise RefusedArchiveError("a gzip file without a tar in it has a name that ends in .gz")
    else:
        yield ArchiveEntry(archive.stem, False, None, lambda: contextlib.nullcontext(unzipped))


def _deb_entries(stream: IO[bytes]) -> Generator[ArchiveEntry, None, None]:
    """Yield the entries of data.tar in a .deb, which is an ar archive of debian-binary, control.tar and data.tar."""
    stream.seek(len(AR_MAGIC))
    for number in range(MAX_AR_MEMBERS):
        header = stream.read(AR_HEADER_BYTES)
        if not header:
            break
        name = header[:16].decode("ascii", "replace").rstrip(" ").removesuffix("/")
        size = header[48:58].rstrip(b" ")
        if len(header) < AR_HEADER_BYTES or header[58:] != b"`\n" or not size.isdigit():
            raise RefusedArchiveError("a header of its ar archive is broken or cut off")
        if number == 0 and name != "debian-binary":
            raise RefusedArchiveError("it is an ar archive, but not a .deb")
        if name.startswith("data.tar"):
            content = _decompress_member(name, _part(stream, int(size)))
            yield from _tar_entries(content)
            _read_to_end(content)
            return
        stream.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise RefusedArchiveError("it has no data.tar")


def _decompress_member(name: str, stream: io.BufferedReader) -> _Readable:
    """Return the decompressed content of data.tar, by the end of its name."""
    if name == "data.tar.xz":
        return _unpack_xz(stream)
    if name == "data.tar.gz":
        return gzip.GzipFile(fileobj=stream)
    if name == "data.tar":
        return stream
    if name != "data.tar.zst":
        raise RefusedArchiveError(f"{format_name(name)} is compressed neither by xz, gzip nor zstd")
    try:
        import pyarrow
    except ImportError:
        raise RefusedArchiveError(
            "its data is compressed by zstd, which needs pyarrow. Install it with: pip install 'modgap[parquet]'"
        ) from None
    content: _Readable = pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, mode="r"), "zstd")
    return content


def _part(stream: IO[bytes], size: int) -> io.BufferedReader:
    """Return the next bytes of a stream, of which there have to be enough."""
    bytes_left = size

    def read(most: int) -> bytes:
        nonlocal bytes_left
        data = stream.read(min(most, bytes_left))
        if not data and bytes_left:
            raise EOFError("it ends within data.tar")
        bytes_left -= len(data)
        return data

    return io.BufferedReader(RawContent(read))


def _unpack_xz(stream: io.BufferedReader) -> io.BufferedReader:
    """Return the content of an xz stream, whose decompression may take a limited memory."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_BYTES)

    def read(most: int) -> bytes:
        while not decompressor.eof:
            packed = stream.read(CHUNK) if decompressor.needs_input else b""
            if decompressor.needs_input and not packed:
                raise EOFError("it ends within its xz data")
            if data := decompressor.decompress(packed, most):
                return data
        return b""

    return io.BufferedReader(RawContent(read))


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
        stream: IO[bytes] = archive.open("rb") if content is None else io.BytesIO(content)
        with stream:
            return _read(archive, stream, names, max_bytes)
    except RefusedArchiveError as error:
        raise InputError(f"The archive {archive} cannot be used: {error}.") from error
    except (OSError, *DAMAGED_ARCHIVE_ERRORS) as error:
        raise InputError(f"cannot read the archive {archive}: {error}") from error


def _read(archive: Path, stream: IO[bytes], names: Sequence[str], max_bytes: int) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    total = 0
    for number, entry in enumerate(iterate_entries(archive, stream, MAX_DIRECTORY_BYTES), start=1):
        entry.check_kind()
        total += entry.size or 0
        if number > MAX_ENTRIES or total > MAX_SKIPPED_BYTES:
            raise RefusedArchiveError(
                f"it has more than {MAX_ENTRIES:,} files or more than {format_bytes(MAX_SKIPPED_BYTES)} of content"
            )
        if entry.name in names and not entry.is_folder:
            if entry.name in members:
                raise RefusedArchiveError(f"it has two files {entry.name}")
            with entry.open() as data:
                content = data.read(max_bytes + 1)
            if len(content) > max_bytes:
                raise RefusedArchiveError(f"its file {entry.name} has more than {format_bytes(max_bytes)}")
            members[entry.name] = content
    if missing := [name for name in names if name not in members]:
        raise RefusedArchiveError(f"it has no file {missing[0]}")
    return members
