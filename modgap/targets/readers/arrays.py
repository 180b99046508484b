"""Arrays by name in one file: a user's own `x` and `y`, or what a manifest names, split by split."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from modgap.errors import InputError
from modgap.storage.mmap_arrays import (
    convert_read_errors,
    map_npy,
    map_npz,
    map_safetensors,
    read_npy_header,
    read_npy_stream_header,
)
from modgap.storage.safetensors_header import read_safetensors_header
from modgap.targets.file_layout import single_file
from modgap.targets.hdf5_arrays import Hdf5Rows, map_hdf5, read_hdf5_headers
from modgap.targets.samples import SPLITS, ArraySamples, ConcatenatedSamples, Samples, Table
from modgap.targets.shaping import shape_samples, split_codes
from modgap.targets.splits import hold_out_validation

__all__ = ["load_arrays", "read", "read_array_headers"]

HDF5 = (".h5", ".hdf5")


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    kind: str,
    x: str = "x",
    y: str = "y",
    groups: str = "groups",
    axes: Sequence[int] | None = None,
    validation: float | str | None = None,
    validation_at: str = "end",
) -> Table:
    """Read a `.npz`, `.safetensors` or HDF5 file, or a folder of `.npy` files; mapped from disk where that can be.

    Under x lie samples (N, ...), under y classes (N,), 0/1 labels (N, K), or real values (N, ...). Where these names
    are the same for all splits, `groups` (N,), `splits` (N,) with 0 for train, 1 for val and 2 for test, and `masks`
    of the values' shape are taken too if they are there.

    Args:
        files: One path under the role `data`. In HDF5 names are paths, such as `signal/emg`.
        kind: `image` takes samples as (N, H, W) or (N, C, H, W), `series` as (N, length) or
            (N, C, length).
        x: Name of the samples; `{split}` in it stands for train, val and test, each of which may be missing.
        y: Name of the labels or values, likewise.
        groups: Name of what tells which samples belong together.
        axes: Order of a sample's axes as stored, such as [1, 0] to swap two.
        validation: Training samples held for validation, where splits are named: a share, a number or `as-test`.
        validation_at: Whether these are at the `start` or the `end` of the training samples.

    Raises:
        InputError: When the file is broken, holds pickled objects, lacks x or y, or shapes do not fit.
    """
    path = single_file(files, "data")
    arrays = _mapped(path)
    named = [split for split in SPLITS if x.format(split=split) in arrays] if "{split}" in x else []
    pairs = [_pair(arrays, x.format(split=split), y.format(split=split), path) for split in named or SPLITS[:1]]
    parts = tuple(_channels_first(samples, kind, path, axes) for samples, _ in pairs)
    table = Table(
        parts[0] if len(parts) == 1 else ConcatenatedSamples(parts), splits=_splits(arrays, named, pairs, path)
    )
    if table.splits is not None:
        table = replace(table, splits=hold_out_validation(table.splits, validation, validation_at))
    if not named:
        table = replace(table, groups=_groups(arrays, groups), masks=_masks(arrays, len(table), path))
    return _with_labels(table, [labels for _, labels in pairs], path)


def _mapped(path: Path) -> dict[str, Any]:
    """Arrays by name; of a folder, its .npy files."""
    if path.is_dir():
        return {file.stem: map_npy(file) for file in sorted(path.glob("*.npy"))}
    with convert_read_errors(path):
        if path.suffix in HDF5:
            return map_hdf5(path)
        return map_safetensors(path)[0] if path.suffix == ".safetensors" else map_npz(path)


def _pair(arrays: Mapping[str, np.ndarray], x: str, y: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Samples and what is known of each."""
    if x not in arrays or y not in arrays:
        raise InputError(f"expected arrays {x} and {y} in {path}, got {', '.join(sorted(arrays)) or 'none'}")
    samples, labels = arrays[x], arrays[y]
    if samples.ndim == 0 or labels.ndim == 0 or len(samples) != len(labels):
        raise InputError(f"expected {y} with one row for each of {x} {samples.shape} in {path}, got {labels.shape}")
    return samples, labels


def _splits(arrays: Mapping[str, np.ndarray], named: Sequence[str], pairs: Sequence, path: Path) -> np.ndarray | None:
    if named:
        return split_codes([(split, len(labels)) for split, (_, labels) in zip(named, pairs, strict=True)])
    if "splits" not in arrays:
        return None
    splits = np.asarray(arrays["splits"])
    if splits.shape != (len(pairs[0][1]),) or splits.dtype.kind not in "iu" or not np.isin(splits, range(3)).all():
        raise InputError(f"expected splits 0 (train), 1 (val) or 2 (test) in {path}, got {splits.dtype} {splits.shape}")
    return splits.astype(np.int64)


def _groups(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray] | None:
    return {name: np.asarray(arrays[name])} if name in arrays else None


def _masks(arrays: Mapping[str, np.ndarray], size: int, path: Path) -> Samples | None:
    if "masks" not in arrays:
        return None
    if len(arrays["masks"]) != size:
        raise InputError(f"expected {size} masks in {path}, got {len(arrays['masks'])}")
    return ArraySamples(arrays["masks"])


def _with_labels(table: Table, labels: Sequence[np.ndarray], path: Path) -> Table:
    """Real values as targets, all else as classes."""
    kinds = {array.dtype.kind for array in labels}
    if kinds <= {"U", "S"}:
        names, numbers = np.unique(np.concatenate([array.astype(str) for array in labels]), return_inverse=True)
        return replace(table, labels=numbers.astype(np.int64), classes=[str(name) for name in names])
    several = all(array.ndim == 2 and np.isin(array, (0, 1)).all() for array in labels)
    if "f" in kinds and not several:
        values = [ArraySamples(array) for array in labels]
        return replace(table, targets=values[0] if len(values) == 1 else ConcatenatedSamples(tuple(values)))
    if any(array.ndim > 2 for array in labels) or not kinds <= set("iubf"):
        found = f"{labels[0].dtype} {labels[0].shape}"
        raise InputError(f"expected integer, text or real labels (N,) or (N, K) in {path}, got {found}")
    return replace(table, labels=np.concatenate([array.astype(np.int64) for array in labels]))


def read_array_headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and kind (`f`, `i`, `u`, `b`, `U`, ...) of each array in the file, without reading the arrays."""
    if path.is_dir():
        headers = {file.stem: read_npy_header(file) for file in sorted(path.glob("*.npy"))}
        return {name: (shape, dtype.kind) for name, (shape, dtype) in headers.items()}
    if path.suffix in HDF5:
        return read_hdf5_headers(path)
    with convert_read_errors(path):
        if path.suffix == ".safetensors":
            arrays = read_safetensors_header(path).arrays
            return {name: (stored.shape, stored.dtype[0].lower()) for name, stored in arrays.items()}
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _npy_header(archive, name) for name in archive.namelist()}


def _npy_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], str]:
    with archive.open(name) as stream:
        shape, _, dtype = read_npy_stream_header(stream)
        return shape, dtype.kind


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a `.npz` or `.safetensors` file; nothing is unpickled."""
    with convert_read_errors(path):
        if path.suffix == ".safetensors":
            return load_file(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def _channels_first(x: np.ndarray, kind: str, path: Path, axes: Sequence[int] | None) -> Samples:
    dimensions = {"image": 4, "series": 3}[kind]
    if x.dtype.kind not in "fiub" or x.ndim not in (dimensions - 1, dimensions):
        wanted = "(N, H, W) or (N, C, H, W)" if kind == "image" else "(N, length) or (N, C, length)"
        raise InputError(f"expected numbers x of shape {wanted} for {kind} data in {path}, got {x.dtype} {x.shape}")
    last = x.shape[-1] if axes is None else 0
    if kind == "image" and x.ndim == 4 and last in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        raise InputError(
            f"expected channels first, x of shape (N, C, H, W) in {path}, got {x.shape}; use x.transpose(0, 3, 1, 2)"
        )
    if isinstance(x, Hdf5Rows):
        return shape_samples(x, str(path), axes, None if x.ndim == dimensions else (1, *x.shape[1:]))
    samples = x if x.ndim == dimensions else x[:, None]
    return shape_samples(samples, str(path), axes)
