"""Datasets of an HDF5 file as arrays by name: mapped, read whole where they are small, or row by row."""

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.errors import InputError, first_line

if TYPE_CHECKING:
    import h5py

__all__ = ["Hdf5Rows", "map_hdf5", "open_hdf5", "read_hdf5_headers", "reraise_hdf5_errors"]

HANDLES = 8
IN_MEMORY = 256 << 20
"""Bytes up to which a dataset in chunks is read whole."""


@functools.lru_cache(maxsize=HANDLES)
def _opened(path: Path, stamp: tuple[int, int], process: int, thread: int) -> "h5py.File":
    """The file, opened once for this content, process and thread; closed when it drops out of the cache."""
    import h5py

    return h5py.File(path, "r")


def open_hdf5(path: Path) -> "h5py.File":
    """A handle for reading, kept open; of this process and thread alone."""
    # A handle may be used neither by another process after a fork nor by two threads at once.
    status = path.stat()
    return _opened(path, (status.st_size, status.st_mtime_ns), os.getpid(), threading.get_ident())


@dataclass(frozen=True)
class Hdf5Rows:
    """A dataset too large for memory, as an array whose rows are read one by one."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        """Rows."""
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """One row."""
        return np.asarray(open_hdf5(self.path)[self.name][range(len(self))[index]])


def map_hdf5(path: Path) -> dict[str, Any]:
    """All datasets of numbers or text, by their paths in the file.

    Raises:
        InputError: When the file is broken.
    """
    with reraise_hdf5_errors(path):
        return {name: _array(path, data) for name, data in _datasets(open_hdf5(path))}


def _datasets(file: "h5py.File") -> Iterator[tuple[str, "h5py.Dataset"]]:
    import h5py

    found: list[tuple[str, h5py.Dataset]] = []
    # Links to other files are not followed: visititems passes only hard links.
    file.visititems(lambda name, data: found.append((name, data)) if isinstance(data, h5py.Dataset) else None)
    yield from found


def _array(path: Path, data: "h5py.Dataset") -> Any:
    import h5py

    if h5py.check_string_dtype(data.dtype) is not None:
        return data.asstr()[...].astype(str)
    offset = data.id.get_offset()
    if offset is not None and data.size and data.external is None:
        return np.memmap(path, data.dtype, "r", offset, data.shape).view(np.ndarray)
    if data.nbytes <= IN_MEMORY or data.ndim == 0:
        return data[...]
    return Hdf5Rows(path, data.name, data.shape, data.dtype)


def read_hdf5_headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and kind (`f`, `i`, `u`, `U`, ...) of each dataset, without reading them."""
    import h5py

    with reraise_hdf5_errors(path):
        return {
            name: (data.shape, "U" if h5py.check_string_dtype(data.dtype) is not None else data.dtype.kind)
            for name, data in _datasets(open_hdf5(path))
        }


@contextmanager
def reraise_hdf5_errors(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into an InputError."""
    try:
        yield
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        reason = first_line(error).strip("'\"")
        raise InputError(f"cannot read {path} as HDF5: {reason}; bring the file again if it was cut short") from error
