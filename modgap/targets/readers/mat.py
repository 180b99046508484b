"""Fields in MATLAB files, of version 5 (read by SciPy) or 7.3 (HDF5, read by h5py)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import SPLITS, ArraySamples, ConcatenatedSamples, Samples, Table
from modgap.targets.shaping import split_codes
from modgap.targets.splits import hold_out_validation

__all__ = ["read"]

HDF5 = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    x: str,
    y: str,
    every: int = 1,
    first: Mapping[str, int] | None = None,
    validation: float | str | None = None,
    validation_at: str = "end",
) -> Table:
    """Read inputs and targets, both (N, H, W) or (N, length), at every so many points; one channel is put in front.

    Args:
        files: One path under each of the roles `train`, `val` and `test` that there are.
        x: Name of the inputs.
        y: Name of the targets.
        every: Takes each so many points along every axis but the first, from the first point on.
        first: At most so many samples are taken, by split, from the first on.
        validation: Training samples held for validation: a share, a number or `as-test`; None for none.
        validation_at: Whether these are at the `start` or the `end` of the training samples.

    Raises:
        InputError: When a file is broken, is no MATLAB file, lacks a field, or fields differ in shape.
    """
    named = [split for split in SPLITS if split in files]
    if not named:
        raise KeyError(SPLITS[0])
    inputs: list[Samples] = []
    targets: list[Samples] = []
    for split in named:
        (path,) = files[split]
        most = (first or {}).get(split)
        fields = [_field(path, name, every, most) for name in (x, y)]
        if len({field.shape for field in fields}) > 1:
            raise InputError(
                f"expected {x} and {y} of one shape in {path}, got {fields[0].shape} and {fields[1].shape}"
            )
        inputs.append(ArraySamples(fields[0][:, None]))
        targets.append(ArraySamples(fields[1][:, None]))
    splits = split_codes([(split, len(part)) for split, part in zip(named, inputs, strict=True)])
    return Table(
        ConcatenatedSamples(tuple(inputs)),
        splits=hold_out_validation(splits, validation, validation_at),
        targets=ConcatenatedSamples(tuple(targets)),
    )


def _field(path: Path, name: str, every: int, most: int | None) -> np.ndarray:
    """An array of a file, float32 and C-contiguous, with every point that is wanted."""
    with path.open("rb") as stream:
        head = stream.read(USER_BLOCK + len(HDF5))
    newer = HDF5 in (head[: len(HDF5)], head[USER_BLOCK:])
    array = _from_hdf5(path, name, every, most) if newer else _from_version_5(path, name, every, most)
    return np.ascontiguousarray(array, np.float32)


def _from_version_5(path: Path, name: str, every: int, most: int | None) -> np.ndarray:
    from scipy.io import loadmat, whosmat

    try:
        known = [field for field, _, _ in whosmat(path)]
        found = loadmat(path, variable_names=[name]).get(name)
    except Exception as error:
        # SciPy's parser fails on broken files in many ways.
        raise InputError(f"cannot read {path} as a MATLAB file: {error}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu" or found.ndim < 2:
        raise InputError(f"expected an array of numbers {name} in {path}, which has {', '.join(known) or 'nothing'}")
    return found[_points(found.ndim, every, most)]


def _from_hdf5(path: Path, name: str, every: int, most: int | None) -> np.ndarray:
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"reading {path} needs h5py; install it with: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            found = file.get(name)
            if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiu" or found.ndim < 2:
                known = ", ".join(file) or "nothing"
                raise InputError(f"expected an array of numbers {name} in {path}, which has {known}")
            # MATLAB's first axis is HDF5's last.
            return found[_points(found.ndim, every, most)[::-1]].T
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(f"cannot read {path} as a MATLAB file: {error}") from error


def _points(dimensions: int, every: int, most: int | None) -> tuple[slice, ...]:
    return (slice(most), *(slice(None, None, every),) * (dimensions - 1))
