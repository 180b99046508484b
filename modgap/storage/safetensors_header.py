"""The header of a safetensors file: types, shapes and positions of its arrays, and its metadata."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

__all__ = ["NUMPY_DTYPES", "SafetensorsHeader", "StoredArray", "read_safetensors_header", "read_safetensors_metadata"]

NUMPY_DTYPES = {
    "BOOL": "bool",
    "I8": "int8",
    "U8": "uint8",
    "I16": "int16",
    "U16": "uint16",
    "I32": "int32",
    "U32": "uint32",
    "I64": "int64",
    "U64": "uint64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}
"""NumPy's name of each type code that NumPy can represent; values are stored in little-endian byte order."""
LENGTH = struct.Struct("<Q")
"""The length of the header in bytes, at the start of the file."""


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


@dataclass(frozen=True)
class SafetensorsHeader:
    """The header of a safetensors file.

    Attributes:
        data_start: Bytes before the first array: the length of the header with its 8-byte prefix.
        arrays: The arrays by name.
        metadata: Text values by name.
    """

    data_start: int
    arrays: dict[str, StoredArray]
    metadata: dict[str, str]


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Read and validate the header of a safetensors file, without reading the arrays.

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
    arrays = {
        name: StoredArray(field["dtype"], tuple(field["shape"]), *field["data_offsets"])
        for name, field in fields.items()
    }
    return SafetensorsHeader(LENGTH.size + length, arrays, metadata)


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; an empty dictionary when it has none or is damaged."""
    try:
        return read_safetensors_header(path).metadata
    except (OSError, ValueError):
        return {}
