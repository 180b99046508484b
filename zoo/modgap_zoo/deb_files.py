"""The files in a .deb package of Debian, which is not trusted, read entry by entry."""

import gzip
import io
import lzma
import os
from collections.abc import Generator
from pathlib import Path
from typing import IO

from modgap.storage.damaged_files import RawContent
from modgap.storage.paths import format_name
from modgap.targets.download.archives import ArchiveEntry, Readable, RefusedArchiveError, read_to_end, tar_entries

CHUNK = 1 << 20
AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60
MAX_AR_MEMBERS = 16
MAX_XZ_BYTES = 256 * CHUNK
"""Largest memory for the decompression of an xz file, whose header states what it needs."""


def deb_entries(_archive: Path, stream: IO[bytes], _max_directory_bytes: int) -> Generator[ArchiveEntry, None, None]:
    """Yield the entries of data.tar in a .deb, which is an ar archive of debian-binary, control.tar and data.tar.

    The arguments are those of `modgap.targets.download.archives.iterate_entries`; only the stream is used.

    Raises:
        RefusedArchiveError: When the file is no .deb, or is damaged.
    """
    if stream.read(len(AR_MAGIC)) != AR_MAGIC:
        raise RefusedArchiveError("it is not a .deb file")
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
            yield from tar_entries(content)
            read_to_end(content)
            return
        stream.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise RefusedArchiveError("it has no data.tar")


def _decompress_member(name: str, stream: io.BufferedReader) -> Readable:
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
    content: Readable = pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, mode="r"), "zstd")
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
            try:
                data = decompressor.decompress(packed, most)
            except lzma.LZMAError as error:
                raise RefusedArchiveError(str(error)) from error
            if data:
                return data
        return b""

    return io.BufferedReader(RawContent(read))
