"""Datasets of an HDF5 file as arrays by name: memory-mapped, read at once if they are small, or read row by row."""

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.errors import InputError, first_line
from modgap.storage.limits import HDF5_SECONDS, check_unpacked_size

if TYPE_CHECKING:
    import h5py

MAX_HANDLES = 8
"""Largest number of files that are kept open."""
MAX_BYTES_IN_MEMORY = 256 << 20
"""Largest size in bytes of a chunked dataset that is read at once."""


@functools.lru_cache(maxsize=MAX_HANDLES)
def _open(path: Path, _stamp: tuple[int, int], _process: int, _thread: int) -> "h5py.File":
    """Return an open file. The arguments key the cache by content, process and thread; evicted files are closed."""
    return _opened(path)


def _opened(path: Path) -> "h5py.File":
    """Return an open file without links to others."""
    import h5py

    file = h5py.File(path, "r")
    try:
        check_links(path, file)
    except BaseException:
        file.close()
        raise
    return file


def check_links(path: Path, file: "h5py.File") -> None:
    """Raise if a file has a link to another file, which could be any file of this machine.

    Args:
        path: The file, for the message.
        file: The open file.

    Raises:
        InputError: If there is such a link. It has not been followed.
    """
    from h5py import h5l

    def name_of_other_file(name: bytes, info: Any) -> bytes | None:
        return None if info.type in (h5l.TYPE_HARD, h5l.TYPE_SOFT) else name

    # The library ends its visit at the first value that is not None. An exception in a visit is not passed on.
    name = file.id.links.visit(name_of_other_file, info=True)
    if name is not None:
        raise InputError(
            f"{path} has a link to another file at {name.decode('utf-8', 'replace')}. Only data in the file itself is "
            "read. Copy the data into one file."
        )


def stored_dataset(path: Path, dataset: "h5py.Dataset") -> "h5py.Dataset":
    """Return a dataset if its values are in the file itself, and raise otherwise.

    Args:
        path: The file, for the message.
        dataset: The dataset.

    Raises:
        InputError: If its values are in other files.
    """
    if dataset.is_virtual or dataset.external:
        kind = "is virtual" if dataset.is_virtual else "has external storage"
        raise InputError(
            f"The dataset {dataset.name} of {path} {kind}, so its values are in other files. Only data in the file "
            "itself is read. Copy the data into one file."
        )
    return dataset


def check_packed_size(dataset: "h5py.Dataset", n_bytes: int) -> None:
    """Raise if values that are read from a dataset unpack to more bytes than the limits allow.

    Args:
        dataset: The dataset.
        n_bytes: Size of the values in bytes, before any conversion.

    Raises:
        InputError: When the values are larger.
    """
    # Without an offset the values are compressed, in chunks, or were never written.
    if dataset.id.get_offset() is None:
        name = f"The dataset {dataset.name} of {dataset.file.filename}"
        check_unpacked_size(name, dataset.id.get_storage_size(), n_bytes)


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
    """Return all datasets of numbers or text, by their paths in the file: arrays, or `Hdf5Rows` for large ones.

    Raises:
        InputError: When the file is broken.
    """
    with reraise_hdf5_errors(path), _opened(path) as file:
        return {name: _to_array(path, dataset) for name, dataset in _list_datasets(path, file)}


def _list_datasets(path: Path, file: "h5py.File") -> list[tuple[str, "h5py.Dataset"]]:
    import h5py

    names: list[str] = []
    # visit follows hard links only, and not those to other files.
    file.visit(names.append)
    items = [(name, file[name]) for name in names]
    return [(name, stored_dataset(path, item)) for name, item in items if isinstance(item, h5py.Dataset)]


def _to_array(path: Path, dataset: "h5py.Dataset") -> Any:
    import h5py

    string_type = h5py.check_string_dtype(dataset.dtype)
    if string_type is not None and string_type.length is None:
        return _read_text(path, dataset)
    if dataset.dtype.hasobject:
        raise InputError(
            f"The dataset {dataset.name} of {path} has values of different lengths. Expected numbers or text."
        )
    offset = dataset.id.get_offset()
    check_packed_size(dataset, dataset.nbytes)
    if string_type is not None:
        return dataset.asstr()[...].astype(str)
    if offset is not None and dataset.size:
        return np.memmap(path, dataset.dtype, "r", offset, dataset.shape).view(np.ndarray)
    if dataset.nbytes <= MAX_BYTES_IN_MEMORY or dataset.ndim == 0:
        return dataset[...]
    return Hdf5Rows(path, dataset.name, dataset.shape, dataset.dtype)


def _read_text(path: Path, dataset: "h5py.Dataset") -> np.ndarray:
    """Read text of variable length in a child process, because the library may never end in a damaged file."""
    command = [sys.executable, "-P", "-B", "-m", "modgap.storage.hdf5_text", str(path.absolute()), dataset.name]
    seconds = HDF5_SECONDS.value
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"cannot read the text {dataset.name} of {path}: it takes longer than {seconds} s, so the file is probably "
            f"damaged. {HDF5_SECONDS.way_out()}"
        ) from None
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"the process that reads it ended with {done.returncode}"]
        raise OSError(f"the text {dataset.name} cannot be read: {reason[0]}")
    return np.array(json.loads(done.stdout), dtype=str).reshape(dataset.shape)


def read_hdf5_headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and kind (`f`, `i`, `u`, `U`, ...) of each dataset by name, without reading the datasets."""
    import h5py

    with reraise_hdf5_errors(path), _opened(path) as file:
        return {
            name: (dataset.shape, "U" if h5py.check_string_dtype(dataset.dtype) is not None else dataset.dtype.kind)
            for name, dataset in _list_datasets(path, file)
        }


@contextmanager
def reraise_hdf5_errors(path: Path) -> Iterator[None]:
    """Raise an InputError instead of the errors that h5py raises on a damaged file."""
    try:
        yield
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        reason = first_line(error).strip("'\"")
        raise InputError(f"cannot read {path} as HDF5: {reason}. If it is truncated, fetch it again.") from error
