"""Files of R: .rda files, and the stores of packages (.rdb with its index .rdx), decompressed with limits."""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO, Any

from modgap.errors import InputError, first_line
from modgap.formatting import format_bytes
from modgap.memory import check_memory
from modgap.targets.r_objects import RefusedRDataError, RVector, parse_r_object

__all__ = ["read_rda_object", "read_store_object"]

MAX_FILE_BYTES = 64 << 20
MAX_OBJECT_BYTES = 256 << 20
"""Largest size of a file, and of an object after decompression."""
RDA_HEADERS = (b"RDX2\n", b"RDX3\n")
STORE_HEADER_BYTES = 4
"""A record of a store begins with the size of the decompressed object, and perhaps a letter for the compression."""
STORE_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
DAMAGED_ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


def read_rda_object(path: Path, name: str) -> RVector:
    """Return an object by its name from an .rda file, which may be compressed by gzip, bzip2 or xz.

    Raises:
        InputError: When the file is damaged, too large, has no such object, or has objects that are not data.
    """
    try:
        content = _decompress_file(path)
        if not content.startswith(RDA_HEADERS):
            raise RefusedRDataError("it is not an .rda file in the binary format of R")
        objects = parse_r_object(content[len(RDA_HEADERS[0]) :])
        return _select(objects if isinstance(objects, dict) else {}, name)
    except DAMAGED_ERRORS as error:
        raise InputError(f"cannot read {name} from {path}: {first_line(error)}") from error


def read_store_object(path: Path, index: Path, name: str) -> RVector:
    """Return an object by its name from the store of a package of R.

    Args:
        path: The store, an .rdb file.
        index: Its index, an .rdx file, which has the position and size of each object.
        name: Name of the object.

    Raises:
        InputError: When a file is damaged, too large, has no such object, or has objects that are not data.
    """
    try:
        table = _columns(parse_r_object(_decompress_file(index)))
        position, size = map(int, _select(_columns(table.get("variables")), name).values)
        if not 0 < size <= MAX_FILE_BYTES or position < 0:
            raise RefusedRDataError("its index has an impossible position")
        with path.open("rb") as stream:
            stream.seek(position)
            record = stream.read(size)
        value = parse_r_object(_decompress_record(record))
    except DAMAGED_ERRORS as error:
        raise InputError(f"cannot read {name} from {path}: {first_line(error)}") from error
    if not isinstance(value, RVector):
        raise InputError(f"cannot read {name} from {path}: it is not a vector or a list")
    return value


def _columns(value: Any) -> dict[str, Any]:
    """Return the items of a list of R by their names."""
    if not isinstance(value, RVector) or not isinstance(value.values, list):
        raise RefusedRDataError("it has no list of objects")
    return dict(zip(value.strings("names"), value.values, strict=False))


def _select(objects: dict[str, Any], name: str) -> RVector:
    value = objects.get(name)
    if not isinstance(value, RVector):
        raise RefusedRDataError(f"it has no object {name!r}. Its objects are: {', '.join(sorted(objects)) or 'none'}")
    return value


def _decompress_file(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise RefusedRDataError(f"it has more than {format_bytes(MAX_FILE_BYTES)}")
    check_memory(path, size)
    content = path.read_bytes()
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    for magic, opener in openers.items():
        if content.startswith(magic):
            return _read_limited(opener(io.BytesIO(content)), MAX_OBJECT_BYTES)
    return content


def _read_limited(stream: IO[bytes], max_bytes: int) -> bytes:
    content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise RefusedRDataError(f"it has more than {format_bytes(max_bytes)} after decompression")
    return content


def _decompress_record(record: bytes) -> bytes:
    """Return the bytes of an object in a store, compressed by zlib, bzip2 or LZMA."""
    size = int.from_bytes(record[:STORE_HEADER_BYTES], "big")
    if size > MAX_OBJECT_BYTES:
        raise RefusedRDataError(f"it has more than {format_bytes(MAX_OBJECT_BYTES)} after decompression")
    letter = record[STORE_HEADER_BYTES : STORE_HEADER_BYTES + 1]
    compressed = record[STORE_HEADER_BYTES + 1 :]
    if letter == b"2":
        content = bz2.BZ2Decompressor().decompress(compressed, size + 1)
    elif letter == b"Z":
        content = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=STORE_FILTERS).decompress(compressed, size + 1)
    else:
        content = zlib.decompressobj().decompress(record[STORE_HEADER_BYTES:], size + 1)
    if len(content) != size:
        raise RefusedRDataError(f"an object has {len(content):,} bytes or more where {size:,} are expected")
    return content
