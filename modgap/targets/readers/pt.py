"""Tensors that torch saved, read without unpickling anything else."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modgap.errors import InputError, first_line
from modgap.storage.array_formats import check_torch_file
from modgap.storage.damaged_files import convert_read_errors
from modgap.targets.file_layout import data_files
from modgap.targets.samples import ArraySamples, Table, computing_type, split_codes


def read(files: Mapping[str, Sequence[Path]], *, kind: Literal["image", "series"], x: str = "x", y: str = "y") -> Table:
    """Read tensors x and y of the same length from all files. Each file is a dictionary of tensors by name.

    Args:
        files: Files under the roles `train`, `val` and `test`, or under `data` if the data defines no splits.
        kind: `image` for x of shape (N, H, W) or (N, C, H, W), `series` for (N, length) or (N, C, length).
        x: Name of the samples.
        y: Name of the prediction target: classes (N,) if they are integers, else values of any shape. Values with
            the shape of an x without channels get one channel too.

    Raises:
        InputError: When a file is broken or has other objects than tensors, or a tensor is missing or of another shape.
    """
    parts = data_files(files)
    paths = [path for _, path in parts]
    tensors = [_load_tensors(path, (x, y)) for path in paths]
    n_axes = {"image": 4, "series": 3}[kind]
    samples = _concatenate([part[x] for part in tensors], x, paths)
    values = _concatenate([part[y] for part in tensors], y, paths)
    if samples.ndim not in (n_axes - 1, n_axes) or len(samples) != len(values) or values.ndim == 0:
        raise InputError(
            f"expected {kind} data {x} of {n_axes - 1} or {n_axes} axes and as many {y} in {paths[0]}, "
            f"got {samples.shape} and {values.shape}"
        )
    if values.shape == samples.shape and samples.ndim < n_axes:
        values = values[:, None]
    samples = (samples if samples.ndim == n_axes else samples[:, None]).astype(computing_type(samples.dtype))
    codes = split_codes((code, len(part[x])) for (code, _), part in zip(parts, tensors, strict=True))
    if values.dtype.kind in "iu" and values.ndim == 1:
        return Table(ArraySamples(samples), values.astype(np.int64), splits=codes)
    targets = ArraySamples(values.astype(computing_type(values.dtype)))
    return Table(ArraySamples(samples), splits=codes, targets=targets)


def load_dictionary(path: Path) -> dict[object, Any]:
    """Return the dictionary that a file contains. Tensors and plain values are read, nothing else is unpickled.

    Raises:
        InputError: When the file is broken, has other objects, or is no dictionary.
    """
    import torch

    check_torch_file(path)
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is broken or has other objects than tensors, which are never unpickled. "
            "Expected tensors only. Save a dict of tensors with torch.save."
        ) from error
    except Exception as error:
        # torch raises many kinds of exceptions on damaged bytes.
        raise InputError(f"cannot read tensors from {path}: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"expected a dictionary of tensors in {path}, got: {type(content).__name__}")
    return content


def _load_tensors(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    import torch

    content = load_dictionary(path)
    if not all(isinstance(content.get(name), torch.Tensor) for name in names):
        raise InputError(f"expected tensors {' and '.join(names)} in {path}, got: {', '.join(map(str, content))}")
    with convert_read_errors(path, "tensors"):
        return {name: content[name].detach().numpy() for name in names}


def _concatenate(arrays: Sequence[np.ndarray], name: str, paths: Sequence[Path]) -> np.ndarray:
    if len({array.shape[1:] for array in arrays}) > 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise InputError(f"expected {name} of one shape in {', '.join(map(str, paths))}, got {shapes}")
    return np.concatenate(arrays)
