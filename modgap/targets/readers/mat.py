"""Fields in MATLAB files, of version 5 (read by SciPy) or 7.3 (HDF5, read by h5py)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.damaged_files import one_line_errors
from modgap.storage.hdf5_arrays import check_links, check_packed_size, stored_dataset
from modgap.storage.limits import check_unpacked_size
from modgap.targets.file_layout import files_by_split
from modgap.targets.samples import SPLITS, ArraySamples, ConcatenatedSamples, Table, computing_type, split_codes
from modgap.targets.splits import hold_out_validation

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512
BYTES_PER_VALUE = 8


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    x: str,
    y: str,
    stride: int = 1,
    max_samples: Mapping[str, int] | None = None,
    validation: float | str | None = None,
    validation_position: str = "end",
) -> Table:
    """Read inputs and targets, both (N, H, W) or (N, length), and put one channel in front.

    Args:
        files: One path under each of the roles `train`, `val` and `test` that exist.
        x: Name of the inputs.
        y: Name of the targets.
        stride: Stride along every axis but the first, from the first point on.
        max_samples: Largest number of samples by split, from the first on. None takes all samples.
        validation: Training samples moved to validation: a fraction, a number or `size-of-test`. None moves none.
        validation_position: `start` or `end` of the training samples, where these samples are.

    Raises:
        InputError: When a file is broken, is not a MATLAB file, lacks a field, or fields differ in shape.
    """
    inputs = []
    targets = []
    parts = []
    for code, path in files_by_split(files):
        limit = (max_samples or {}).get(SPLITS[code])
        x_field = _read_field(path, x, stride, limit)
        y_field = _read_field(path, y, stride, limit)
        if x_field.shape != y_field.shape:
            raise InputError(f"expected {x} and {y} of one shape in {path}, got {x_field.shape} and {y_field.shape}")
        inputs.append(ArraySamples(x_field[:, None]))
        targets.append(ArraySamples(y_field[:, None]))
        parts.append((code, len(x_field)))
    return Table(
        ConcatenatedSamples(tuple(inputs)),
        splits=hold_out_validation(split_codes(parts), validation, validation_position),
        targets=ConcatenatedSamples(tuple(targets)),
    )


def _read_field(path: Path, name: str, stride: int, limit: int | None) -> np.ndarray:
    """Return an array of a file, strided and limited, C-contiguous."""
    with path.open("rb") as stream:
        head = stream.read(USER_BLOCK + len(HDF5_SIGNATURE))
    is_hdf5 = HDF5_SIGNATURE in (head[: len(HDF5_SIGNATURE)], head[USER_BLOCK:])
    array = _read_hdf5(path, name, stride, limit) if is_hdf5 else _read_version_5(path, name, stride, limit)
    return np.ascontiguousarray(array, computing_type(array.dtype))


def _read_version_5(path: Path, name: str, stride: int, limit: int | None) -> np.ndarray:
    from scipy.io import loadmat, whosmat

    with one_line_errors(f"cannot read {path} as a MATLAB file"):
        shapes = {field: shape for field, shape, _ in whosmat(path)}
        names = list(shapes)
        check_unpacked_size(path, path.stat().st_size, BYTES_PER_VALUE * math.prod(shapes.get(name, ())))
        array = loadmat(path, variable_names=[name]).get(name)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.ndim < 2:
        raise InputError(f"expected an array of numbers {name} in {path}, which has {', '.join(names) or 'nothing'}")
    return array[_index(array.ndim, stride, limit)]


def _read_hdf5(path: Path, name: str, stride: int, limit: int | None) -> np.ndarray:
    import h5py

    with one_line_errors(f"cannot read {path} as a MATLAB file"), h5py.File(path, "r") as file:
        check_links(path, file)
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu" or dataset.ndim < 2:
            names = ", ".join(file) or "nothing"
            raise InputError(f"expected an array of numbers {name} in {path}, which has {names}")
        dataset = stored_dataset(path, dataset)
        check_packed_size(dataset, dataset.nbytes)
        # MATLAB's first axis is the last axis in HDF5.
        array: np.ndarray = dataset[_index(dataset.ndim, stride, limit)[::-1]]
        return array.T


def _index(n_axes: int, stride: int, limit: int | None) -> tuple[slice, ...]:
    return (slice(limit), *(slice(None, None, stride),) * (n_axes - 1))
