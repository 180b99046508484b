"""Datasets of an HDF5 file as arrays by name: memory-mapped, read at once if they are small, or read row by row."""

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

MAX_HANDLES = 8
"""Largest number of files that are kept open."""
MAX_BYTES_IN_MEMORY = 256 << 20
"""Largest size in bytes of a chunked dataset that is read at once."""


@functools.lru_cache(maxsize=MAX_HANDLES)
def _open(path: Path, _stamp: tuple[int, int], _process: int, _thread: int) -> "h5py.File":
    """Return an open file. The arguments key the cache by content, process and thread; evicted files are closed."""
    import h5py

    return h5py.File(path, "r")


def open_hdf5(path: Path) -> "h5py.File":
    """Return a handle for reading that stays open and belongs to this process and thread."""
    # A handle must not be used by another process after a fork, nor by two threads at once.
    status = path.stat()
    return _open(path, (status.st_size, status.st_mtime_ns), os.getpid(), threading.get_ident())


@dataclass(frozen=True)
class Hdf5Rows:
    """A dataset that is too large for memory, as an array whose rows are read one by one."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one row."""
        return np.asarray(open_hdf5(self.path)[self.name][range(len(self))[index]])


def map_hdf5(path: Path) -> dict[str, Any]:
    """Return all datasets of numbers or text, by their paths in the file.

    Raises:
        InputError: When the file is broken.
    """
    with reraise_hdf5_errors(path):
        return {name: _to_array(path, dataset) for name, dataset in _list_datasets(open_hdf5(path))}


def _list_datasets(file: "h5py.File") -> list[tuple[str, "h5py.Dataset"]]:
    import h5py

    datasets: list[tuple[str, h5py.Dataset]] = []

    def visit(name: str, item: "h5py.Dataset | h5py.Group") -> None:
        if isinstance(item, h5py.Dataset):
            datasets.append((name, item))

    # visititems visits hard links only, so that links to other files are not followed.
    file.visititems(visit)
    return datasets


def _to_array(path: Path, dataset: "h5py.Dataset") -> Any:
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is not None:
        return dataset.asstr()[...].astype(str)
    offset = dataset.id.get_offset()
    if offset is not None and dataset.size and dataset.external is None:
        return np.memmap(path, dataset.dtype, "r", offset, dataset.shape).view(np.ndarray)
    if dataset.nbytes <= MAX_BYTES_IN_MEMORY or dataset.ndim == 0:
        return dataset[...]
    return Hdf5Rows(path, dataset.name, dataset.shape, dataset.dtype)


def read_hdf5_headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and kind (`f`, `i`, `u`, `U`, ...) of each dataset by name, without reading the datasets."""
    import h5py

    with reraise_hdf5_errors(path):
        return {
            name: (dataset.shape, "U" if h5py.check_string_dtype(dataset.dtype) is not None else dataset.dtype.kind)
            for name, dataset in _list_datasets(open_hdf5(path))
        }


@contextmanager
def reraise_hdf5_errors(path: Path) -> Iterator[None]:
    """Raise an InputError instead of the errors that h5py raises on a damaged file."""
    try:
        yield
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        reason = first_line(error).strip("'\"")
        raise InputError(f"cannot read {path} as HDF5: {reason}. If it is truncated, fetch it again.") from error
