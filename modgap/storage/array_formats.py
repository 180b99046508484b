"""Arrays of safetensors, `.npy` and `.npz` files of users, memory-mapped so that only the parts in use are read.

Each array of a `.npz` file is compared with its CRC-32, whether it is mapped or read.
"""

import functools
import json
import math
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from modgap.errors import InputError
from modgap.storage.damaged_files import convert_read_errors
from modgap.storage.limits import check_memory, check_unpacked_size
from modgap.storage.memory_map import release_pages

NUMPY_DTYPES = {
    "BOOL": "bool", "I8": "int8", "U8": "uint8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
    "I64": "int64", "U64": "uint64", "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip
"""NumPy's name of each type code that NumPy can represent; values are stored in little-endian byte order."""
LENGTH = struct.Struct("<Q")
"""The length of the header in bytes, at the start of the file."""


def check_torch_file(path: Path) -> None:
    """Raise if a file that torch saved takes more memory than there is, or unpacks to more than the limits allow.

    torch stores tensors in an archive without compression, and reads them from a compressed one too.

    Raises:
        InputError: When it does.
    """
    size = path.stat().st_size if path.is_file() else 0
    unpacked = size
    if size and zipfile.is_zipfile(path):
        with convert_read_errors(path, "tensors"), zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        check_unpacked_size(path, size, unpacked)
    check_memory(path, unpacked)


@dataclass(frozen=True)
class StoredArray:
    """An array in a safetensors file.

    Attributes:
        dtype: Type code of the file format, such as F32; see `NUMPY_DTYPES`.
        shape: Size of each axis.
        start: First byte, counted from the end of the header.
        end: Byte after the last one, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_safetensors_header(path: Path) -> tuple[int, dict[str, StoredArray], dict[str, str]]:
    """Read and validate the header of a safetensors file, without reading the arrays.

    Returns:
        The bytes before the first array, which are the header with its 8-byte prefix; the arrays by name; and the
        texts of the metadata by name.

    Raises:
        ValueError: When the header is damaged, or the length of the file does not match it.
        OSError: When the file cannot be read.
    """
    try:
        # The library checks all names, shapes and offsets against the length of the file.
        with safe_open(path, framework="numpy"), path.open("rb") as stream:
            (length,) = LENGTH.unpack(stream.read(LENGTH.size))
            fields = json.loads(stream.read(length))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    metadata = fields.pop("__metadata__", None) or {}
    return LENGTH.size + length, stored_arrays(fields), metadata


def stored_arrays(fields: Mapping[str, Any]) -> dict[str, StoredArray]:
    """Return the arrays that the fields of a header describe, by name."""
    return {
        name: StoredArray(field["dtype"], tuple(field["shape"]), *field["data_offsets"])
        for name, field in fields.items()
    }


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; an empty dictionary when it has none or is damaged."""
    try:
        return read_safetensors_header(path)[2]
    except (OSError, ValueError):
        return {}


def map_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Map the arrays of a safetensors file, read-only.

    Returns:
        The arrays by name, and the metadata of the file.

    Raises:
        InputError: When the file is damaged, or contains a type that NumPy does not have.
    """
    with convert_read_errors(path):
        data_start, arrays, metadata = read_safetensors_header(path)
        if unsupported := sorted({stored.dtype for stored in arrays.values()} - set(NUMPY_DTYPES)):
            raise InputError(f"cannot read arrays from {path}: NumPy has no type for {', '.join(unsupported)}")
        content: np.ndarray = np.memmap(path, np.uint8, "r")
        data = content[data_start:].view(np.ndarray)
        mapped = {}
        for name, stored in arrays.items():
            dtype = np.dtype(NUMPY_DTYPES[stored.dtype]).newbyteorder("<")
            mapped[name] = data[stored.start : stored.end].view(dtype).reshape(stored.shape)
        return mapped, metadata


def map_npy(path: Path) -> np.ndarray:
    """Map the array of a `.npy` file, read-only.

    Raises:
        InputError: When the file is damaged, or contains Python objects.
    """
    with convert_read_errors(path):
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return array.view(np.ndarray)


def read_npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and the type of the array in a `.npy` file, without reading the array.

    Raises:
        InputError: When the file is damaged.
    """
    with convert_read_errors(path), path.open("rb") as stream:
        shape, _, dtype = read_npy_stream_header(stream)
        return shape, dtype


def read_npy_stream_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an array in `.npy` format, and leave the stream at the first value.

    Returns:
        The shape; True when the values are in Fortran order; the type.

    Raises:
        ValueError: When the header is damaged.
        KeyError: When the format version is not 1.0 or 2.0.
    """
    readers: dict[tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype]]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(stream)
    return readers[version](stream)


SUFFIX = ".npy"
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Header before each member of a zip archive: a signature, and the lengths of the name and of the extra field."""
BLOCK = 1 << 24
FILES_REMEMBERED = 64
MIN_AGE_TO_REMEMBER = 2.0
"""Seconds since a file's last change after which its time stamp can be trusted to differ at the next change."""


def map_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a `.npz` file by name.

    Arrays that are not compressed are memory-mapped and read-only; `numpy.savez` never compresses. A process compares
    them with their CRC-32 once, unless the file changes.

    Raises:
        InputError: When the file is damaged, or contains Python objects.
    """
    with convert_read_errors(path), zipfile.ZipFile(path) as archive:
        return {_array_name(member): _map_member(path, archive, member) for member in _members(path, archive)}


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a `.npz` file by name.

    Raises:
        InputError: When the file is damaged, or contains Python objects.
    """
    with convert_read_errors(path), zipfile.ZipFile(path) as archive:
        return {_array_name(member): _read_member(path, archive, member) for member in _members(path, archive)}


def read_npz_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return shape and type of each array of a `.npz` file by name, without reading the arrays.

    Raises:
        InputError: When the file is damaged.
    """
    headers = {}
    with convert_read_errors(path), zipfile.ZipFile(path) as archive:
        for member in _members(path, archive):
            with archive.open(member) as stream:
                shape, _, dtype = read_npy_stream_header(stream)
            headers[_array_name(member)] = (shape, dtype)
    return headers


def _members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the members that are arrays. Their names are different, and the same in both headers of a member."""
    members = archive.infolist()
    check_unpacked_size(path, path.stat().st_size, sum(member.file_size for member in members))
    if len({member.filename for member in members}) < len(members):
        raise InputError(f"cannot read arrays from {path}: it contains two arrays of the same name")
    for member in members:
        _content_position(path, member)
        # A damaged length of a comment makes zipfile take the members that follow for a comment.
        if member.comment:
            raise InputError(f"cannot read arrays from {path}: {member.filename} has a comment, unlike NumPy's")
    return [member for member in members if member.filename.endswith(SUFFIX)]


def _array_name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(SUFFIX)


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        shape, fortran_order, dtype = read_npy_stream_header(stream)
        _check_header(path, member, stream.tell() + math.prod(shape) * dtype.itemsize, dtype)
        check_memory(path, member.file_size)
        # Reading all bytes compares the CRC-32.
        values = np.frombuffer(stream.read(), dtype)
    return values.reshape(shape, order="F" if fortran_order else "C").copy(order="A")


def _check_header(path: Path, member: zipfile.ZipInfo, size: int, dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise InputError(
            f"The array {_array_name(member)} of {path} holds Python objects, which are never unpickled. Save it as "
            f"numbers, or as strings with np.array({_array_name(member)}, dtype=str). Series of different lengths go "
            "into a .ts file or a table in long format."
        )
    if size != member.file_size:
        raise InputError(f"cannot read arrays from {path}: the length of {member.filename} does not match its header")


def _map_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return _read_member(path, archive, member)
    with path.open("rb") as stream:
        start = stream.seek(_content_position(path, member))
        shape, fortran_order, dtype = read_npy_stream_header(stream)
        offset = stream.tell()
        _check_header(path, member, offset - start + math.prod(shape) * dtype.itemsize, dtype)
        status = os.fstat(stream.fileno())
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        compute = _compute_crc if time.time() - status.st_mtime < MIN_AGE_TO_REMEMBER else _remembered_crc
        if compute(path, start, member.file_size, identity) != member.CRC:
            raise InputError(f"cannot read arrays from {path}: Bad CRC-32 for file {member.filename!r}. It is damaged.")
        if math.prod(shape) == 0:
            return np.empty(shape, dtype)
        mapped: np.ndarray = np.memmap(stream, dtype, "r", offset, shape, "F" if fortran_order else "C")
    return mapped.view(np.ndarray)


def _content_position(path: Path, member: zipfile.ZipInfo) -> int:
    """Return the position of a member's first byte, after its own header."""
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        signature, name_length, extra_length = LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))
        name = stream.read(name_length)
        if signature != b"PK\3\4" or name.decode("utf-8", "replace") != member.orig_filename:
            raise InputError(
                f"cannot read arrays from {path}: the archive has no {member.filename} at {member.header_offset}"
            )
        return int(stream.tell() + extra_length)


def _compute_crc(path: Path, start: int, size: int, _identity: tuple[int, ...]) -> int:
    content: np.ndarray = np.memmap(path, np.uint8, "r", start, (size,))
    crc = 0
    for position in range(0, size, BLOCK):
        crc = zlib.crc32(content[position : position + BLOCK].data, crc)
        release_pages(content)
    return crc


_remembered_crc = functools.lru_cache(maxsize=FILES_REMEMBERED)(_compute_crc)
