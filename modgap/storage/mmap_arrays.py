"""Arrays of NumPy and safetensors files, memory-mapped so that only the parts in use are read."""

from pathlib import Path
from typing import IO, Any

import numpy as np

from modgap.errors import InputError
from modgap.storage.damaged_files import convert_read_errors
from modgap.storage.safetensors_header import NUMPY_DTYPES, StoredArray, read_safetensors_header

__all__ = ["map_npy", "map_safetensors", "read_npy_header", "read_npy_stream_header"]


def map_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Map the arrays of a safetensors file, read-only.

    Returns:
        The arrays by name, and the metadata of the file.

    Raises:
        InputError: When the file is damaged, or contains a type that NumPy does not have.
    """
    with convert_read_errors(path):
        header = read_safetensors_header(path)
        unsupported = sorted({stored.dtype for stored in header.arrays.values()} - set(NUMPY_DTYPES))
        if unsupported:
            raise InputError(f"cannot read arrays from {path}: NumPy has no type for {', '.join(unsupported)}")
        content: np.ndarray = np.memmap(path, np.uint8, "r")
        data = content[header.data_start :]
        return {name: _view(data, stored) for name, stored in header.arrays.items()}, header.metadata


def _view(data: np.ndarray, stored: StoredArray) -> np.ndarray:
    dtype = np.dtype(NUMPY_DTYPES[stored.dtype]).newbyteorder("<")
    return data[stored.start : stored.end].view(np.ndarray).view(dtype).reshape(stored.shape)


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
    readers: dict[tuple[int, int], Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
    shape, fortran_order, dtype = readers[version](stream)
    return shape, fortran_order, dtype
