"""Tensors that torch saved, read without unpickling anything else."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modgap.errors import InputError, first_line
from modgap.targets.file_layout import files_by_split
from modgap.targets.samples import ArraySamples, Table

__all__ = ["read"]


def read(files: Mapping[str, Sequence[Path]], *, kind: Literal["image", "series"], x: str = "x", y: str = "y") -> Table:
    """Read tensors x and y of the same length from all files, a mapping of names to tensors each.

    Args:
        files: Files under the roles `train`, `val` and `test`, or under `data` where the data names no splits.
        kind: `image` takes x as (N, H, W) or (N, C, H, W), `series` as (N, length) or (N, C, length).
        x: Name of the samples.
        y: Name of what is predicted: classes (N,) where they are integers, else values of any shape, which
            get one channel where they have the shape of x without channels.

    Raises:
        InputError: When a file is broken or holds more than tensors, or a tensor is missing or of another shape.
    """
    parts = [(None, path) for path in files["data"]] if "data" in files else list(files_by_split(files))
    loaded = [_tensors(path, (x, y)) for _, path in parts]
    dimensions = {"image": 4, "series": 3}[kind]
    samples = _joined([each[x] for each in loaded], x, parts)
    values = _joined([each[y] for each in loaded], y, parts)
    if samples.ndim not in (dimensions - 1, dimensions) or len(samples) != len(values) or values.ndim == 0:
        raise InputError(
            f"expected {kind} data {x} of {dimensions - 1} or {dimensions} axes and as many {y} in {parts[0][1]}, "
            f"got {samples.shape} and {values.shape}"
        )
    if values.shape == samples.shape and samples.ndim < dimensions:
        values = values[:, None]
    samples = samples if samples.ndim == dimensions else samples[:, None]
    codes = None if "data" in files else np.repeat([code for code, _ in parts], [len(each[x]) for each in loaded])
    if values.dtype.kind in "iu" and values.ndim == 1:
        return Table(ArraySamples(samples.astype(np.float32)), values.astype(np.int64), splits=codes)
    targets = ArraySamples(values.astype(np.float32))
    return Table(ArraySamples(samples.astype(np.float32)), splits=codes, targets=targets)


def _tensors(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    import torch

    try:
        held: Any = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise InputError(
            f"expected tensors alone in {path}, got a broken file or other objects, which are never unpickled; "
            "save a dict of tensors with torch.save"
        ) from error
    except Exception as error:
        # On damaged bytes torch raises whatever its parser stumbles over.
        raise InputError(f"cannot read tensors from {path}: {first_line(error)}") from error
    if not isinstance(held, dict) or not all(isinstance(held.get(name), torch.Tensor) for name in names):
        found = ", ".join(map(str, held)) if isinstance(held, dict) else type(held).__name__
        raise InputError(f"expected tensors {' and '.join(names)} in {path}, got: {found}")
    try:
        return {name: held[name].detach().numpy() for name in names}
    except (TypeError, RuntimeError) as error:
        raise InputError(f"cannot read tensors from {path}: {first_line(error)}") from error


def _joined(arrays: Sequence[np.ndarray], name: str, parts: Sequence[tuple[Any, Path]]) -> np.ndarray:
    if len({array.shape[1:] for array in arrays}) > 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise InputError(f"expected {name} of one shape in {', '.join(str(p) for _, p in parts)}, got {shapes}")
    return np.concatenate(arrays)
