"""Arrays in files as views of one memory map a file, so that only what is used is read."""

import json
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from modgap.errors import InputError

__all__ = ["map_npy", "map_npz", "map_safetensors", "npy_header", "refusing_broken", "safetensors_metadata"]

DTYPES = {
    "BOOL": "?", "I8": "i1", "U8": "u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8",
    "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, then the lengths of the name and of the extra field, in front of a zip archive's member."""


@contextmanager
def refusing_broken(path: Path) -> Iterator[None]:
    """Turn what libraries raise on a damaged file into an InputError."""
    broken = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, struct.error, SafetensorError)
    try:
        yield
    except InputError:
        raise
    except broken as error:
        raise InputError(f"cannot read arrays from {path}: {error}") from error


def map_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays of a safetensors file, read-only and mapped, and its metadata.

    Raises:
        InputError: When the file is broken or holds a type that NumPy has not.
    """
    with refusing_broken(path):
        fields = _safetensors_header(path)
        metadata = fields.pop("__metadata__", {})
        names = sorted({field["dtype"] for field in fields.values()} - set(DTYPES))
        if names:
            raise InputError(f"expected arrays of types that NumPy has in {path}, got {', '.join(names)}")
        start = path.stat().st_size - max([field["data_offsets"][1] for field in fields.values()], default=0)
        content = np.memmap(path, np.uint8, "r")
        return {name: _part(content, start, field) for name, field in fields.items()}, metadata


def _part(content: np.ndarray, start: int, field: dict) -> np.ndarray:
    first, last = (start + offset for offset in field["data_offsets"])
    return content[first:last].view(np.ndarray).view(DTYPES[field["dtype"]]).reshape(field["shape"])


def safetensors_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file; empty when it has none or is broken."""
    try:
        with safe_open(path, framework="numpy") as held:
            return dict(held.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def _safetensors_header(path: Path) -> dict:
    # The library checks all names, shapes and offsets; only then are they taken at their word.
    with safe_open(path, framework="numpy"), path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return json.loads(stream.read(length))


def map_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file, read-only and mapped.

    Raises:
        InputError: When the file is broken or holds objects.
    """
    with refusing_broken(path):
        return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a `.npy` file's array, which is not read.

    Raises:
        InputError: When the file is broken.
    """
    with refusing_broken(path), path.open("rb") as stream:
        shape, _, dtype = _npy_header(stream)
        return shape, dtype


def _npy_header(stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return readers[version](stream)


def map_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a `.npz` file by name; mapped where they are not compressed, which `numpy.savez` never does.

    Raises:
        InputError: When the file is broken or holds objects.
    """
    with refusing_broken(path), zipfile.ZipFile(path) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist() if m.filename.endswith(".npy")}
        return {name: _member(path, archive, member) for name, member in members.items()}


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        with archive.open(member) as packed:
            return np.lib.format.read_array(packed, allow_pickle=False)
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        signature, *lengths = LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))
        if signature != b"PK\3\4":
            raise InputError(f"cannot read arrays from {path}: the archive has no member at {member.header_offset}")
        start = stream.seek(sum(lengths), 1)
        shape, fortran, dtype = _npy_header(stream)
        offset = stream.tell()
    if dtype.hasobject:
        raise InputError(f"cannot read arrays from {path}: {member.filename} holds pickled objects")
    if offset - start + math.prod(shape) * dtype.itemsize != member.file_size:
        raise InputError(f"cannot read arrays from {path}: {member.filename} is not as long as its header says")
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C").view(np.ndarray)
