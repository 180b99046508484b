"""A user's own arrays: `x` and `y`, and `groups` where samples belong together."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from modgap.errors import InputError
from modgap.targets.layout import one_file
from modgap.targets.samples import ArraySamples, Table

__all__ = ["load_arrays", "peek", "read"]


def read(files: Mapping[str, Sequence[Path]], *, kind: str) -> Table:
    """Read a `.npz` or `.safetensors` file with x (N, ...), y and optionally groups (N,).

    y holds classes (N,), 0/1 labels (N, K), or real values (N, ...).

    Args:
        files: One path under the role `data`.
        kind: `image` takes x as (N, H, W) or (N, C, H, W), `series` as (N, length) or
            (N, C, length).

    Raises:
        InputError: When the file is broken, holds pickled objects, lacks x or y, or shapes do not fit.
    """
    path = one_file(files, "data")
    arrays = load_arrays(path)
    missing = [name for name in ("x", "y") if name not in arrays]
    if missing:
        raise InputError(f"expected arrays x and y in {path}, got {', '.join(sorted(arrays)) or 'none'}")
    x, y = arrays["x"], arrays["y"]
    if y.ndim == 0 or len(x) != len(y) or (y.ndim > 2 and y.dtype.kind != "f"):
        raise InputError(f"expected y of shape ({len(x)},) or ({len(x)}, K) in {path}, got {y.shape}")
    classes: list[str] | None = None
    if y.dtype.kind in "US":
        names, y = np.unique(y.astype(str), return_inverse=True)
        classes = [str(name) for name in names]
    elif y.dtype.kind not in "iubf":
        raise InputError(f"expected integer, text or real labels y in {path}, got {y.dtype}")
    if y.dtype.kind == "f" and y.ndim == 2 and np.isin(y, (0, 1)).all():
        y = y.astype(np.int64)
    groups = {"groups": arrays["groups"]} if "groups" in arrays else None
    samples = ArraySamples(_channels_first(x, kind, path))
    if y.dtype.kind == "f":
        return Table(samples, groups=groups, targets=ArraySamples(y))
    return Table(samples, y.astype(np.int64), classes, groups=groups)


def peek(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and kind (`f`, `i`, `u`, `b`, `U`, ...) of each array in the file, without reading the arrays."""
    with _refusing_broken(path):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as held:
                slices = {name: held.get_slice(name) for name in held.keys()}  # noqa: SIM118
                return {name: (tuple(s.get_shape()), s.get_dtype()[0].lower()) for name, s in slices.items()}
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _npy_header(archive, name) for name in archive.namelist()}


def _npy_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], str]:
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = header[version](stream)
        return shape, dtype.kind


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a `.npz` or `.safetensors` file; nothing is unpickled."""
    with _refusing_broken(path):
        if path.suffix == ".safetensors":
            return load_file(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


@contextmanager
def _refusing_broken(path: Path) -> Iterator[None]:
    broken = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, SafetensorError)
    try:
        yield
    except broken as error:
        raise InputError(f"cannot read arrays from {path}: {error}") from error


def _channels_first(x: np.ndarray, kind: str, path: Path) -> np.ndarray:
    dimensions = {"image": 4, "series": 3}[kind]
    if x.dtype.kind not in "fiub" or x.ndim not in (dimensions - 1, dimensions):
        wanted = "(N, H, W) or (N, C, H, W)" if kind == "image" else "(N, length) or (N, C, length)"
        raise InputError(f"expected numbers x of shape {wanted} for {kind} data in {path}, got {x.dtype} {x.shape}")
    if kind == "image" and x.ndim == 4 and x.shape[-1] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        raise InputError(
            f"expected channels first, x of shape (N, C, H, W) in {path}, got {x.shape}; use x.transpose(0, 3, 1, 2)"
        )
    x = x if x.ndim == dimensions else x[:, None]
    return x if x.dtype == np.uint8 else x.astype(np.float32)
