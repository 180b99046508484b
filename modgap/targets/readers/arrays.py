"""Arrays by name in one file: `x` and `y`, or the names of a manifest, for each split."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.labels.user_arrays import number_labels
from modgap.storage import array_formats
from modgap.storage.damaged_files import convert_read_errors
from modgap.storage.hdf5_arrays import map_hdf5, read_hdf5_headers
from modgap.storage.paths import has_suffix
from modgap.targets.file_layout import single_file
from modgap.targets.samples import SPLITS, ArraySamples, ConcatenatedSamples, Samples, Table, shape_samples, split_codes
from modgap.targets.splits import hold_out_validation, split_numbers

HDF5_SUFFIXES = (".h5", ".hdf5")
CHANNEL_COUNTS = (1, 3, 4)
"""Numbers of channels of usual images."""
Stored = Sequence[tuple[str, Mapping[str, np.ndarray], Path]]
"""For each split, or for all data, the split, the arrays by name, and their file."""


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    kind: str,
    x: str = "x",
    y: str = "y",
    groups: str = "groups",
    splits: str | None = None,
    axes: Sequence[int] | None = None,
    regression: bool | None = None,
    validation: float | str | None = None,
    validation_position: str = "end",
) -> Table:
    """Read a `.npz`, `.safetensors` or HDF5 file, or a folder of `.npy` files, memory-mapped where possible.

    The array x has samples (N, ...). The array y has classes (N,), 0/1 labels (N, K), or real values (N, ...), which
    numbers of any type with more than two axes are, such as masks. If the names do not depend on the split, these
    arrays are read too where they exist: `groups` (N,), `splits` (N,), and `masks` of the values' shape.

    Args:
        files: One path under the role `data`, or one each under `train`, `val` and `test`. In HDF5 names are paths,
            such as `signal/emg`. If the path of `data` is a `.npy` file, it holds x, and each other array is in the
            `.npy` file under the role of its name.
        kind: `image` for samples (N, H, W) or (N, C, H, W), `series` for samples (N, length) or (N, C, length).
        x: Name of the samples. A `{split}` in it stands for train, val and test, each of which may be missing.
        y: Name of the labels or values; `{split}` likewise.
        groups: Name of the array with the group of each sample.
        splits: Name of the array with the split of each sample: 0 or the text train, 1 or val, 2 or test. None takes
            `splits` if there is one.
        axes: Order of a sample's axes as stored, such as [1, 0] to swap two. None keeps the order.
        regression: True if y has real-valued targets, and False if it has classes, which may be whole numbers of any
            type. None decides by its type and shape.
        validation: Training samples moved to validation, if the data defines splits: a fraction, a number, or
            `size-of-test`. None moves none.
        validation_position: `start` or `end` of the training samples, where these samples are.

    Raises:
        InputError: When the file is broken, holds pickled objects, lacks x or y, or shapes do not fit.
    """
    if "data" in files:
        path = single_file(files, "data")
        if has_suffix(path, (".npy",)) and path.is_file():
            arrays = {x if role == "data" else role: array_formats.map_npy(single_file(files, role)) for role in files}
        else:
            arrays = map_arrays(path)
        by_split = [split for split in SPLITS if x.format(split=split) in arrays] if "{split}" in x else []
        stored = [(split, arrays, path) for split in by_split or SPLITS[:1]]
    else:
        by_split = [split for split in SPLITS if split in files]
        stored = [(split, _arrays_of_split(files, split), single_file(files, split)) for split in by_split]
        if not stored:
            raise KeyError("data")
    pairs = [_pair(arrays, x.format(split=split), y.format(split=split), path) for split, arrays, path in stored]
    samples = [shape_array(part, kind, path, axes) for (part, _), (_, _, path) in zip(pairs, stored, strict=True)]
    labels = [part for _, part in pairs]
    path = stored[0][2]
    if by_split:
        codes = split_codes((SPLITS.index(split), len(part)) for split, part in zip(by_split, labels, strict=True))
    else:
        codes = _stored_splits(stored[0][1], splits, len(labels[0]), path)
    table = Table(_joined(samples), splits=hold_out_validation(codes, validation, validation_position))
    if "data" not in files or not by_split:
        parts = _arrays_in_all(stored, groups)
        grouping = None if parts is None else {groups: np.concatenate([np.asarray(part) for part in parts])}
        table = replace(table, groups=grouping, masks=_masks(stored, labels))
    return _with_labels(table, labels, path, regression)


def _arrays_of_split(files: Mapping[str, Sequence[Path]], split: str) -> dict[str, np.ndarray]:
    """Return the arrays of the file of one split, which must not define splits itself."""
    path = single_file(files, split)
    if has_suffix(path, (".npy",)) and path.is_file():
        raise InputError(
            f"The file {path} of role {split} holds one array. Expected a file or folder with the samples and the "
            "labels of this split, such as an .npz file."
        )
    arrays = map_arrays(path)
    if "splits" in arrays:
        raise InputError(f"{path} has an array splits, but the file is the split {split}. Remove the array.")
    return arrays


def _joined(parts: Sequence[Samples]) -> Samples:
    return parts[0] if len(parts) == 1 else ConcatenatedSamples(tuple(parts))


def map_arrays(path: Path) -> dict[str, Any]:
    """Return arrays by name; for a folder, those of its .npy files."""
    if path.is_dir():
        return {file.stem: array_formats.map_npy(file) for file in sorted(path.glob("*.npy"))}
    with convert_read_errors(path):
        if has_suffix(path, HDF5_SUFFIXES):
            return map_hdf5(path)
        if has_suffix(path, (".safetensors",)):
            return array_formats.map_safetensors(path)[0]
        return array_formats.map_npz(path)


def _pair(arrays: Mapping[str, np.ndarray], x: str, y: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return samples and their labels or values."""
    check_array_names(arrays, (x, y), path)
    samples = arrays[x]
    labels = arrays[y]
    if samples.ndim == 0 or labels.ndim == 0 or len(samples) != len(labels):
        raise InputError(f"expected {y} with one row for each of {x} {samples.shape} in {path}, got {labels.shape}")
    return samples, labels


def check_array_names(names: Collection[str], expected: Sequence[str], path: Path, hint: str = "") -> None:
    """Raise if there is no array of an expected name.

    Args:
        names: Names of the arrays that exist.
        expected: Names of those that are needed.
        path: The file or folder, for the message.
        hint: The way out, as the last sentence of the message.

    Raises:
        InputError: If a name is missing. The message lists the names that exist.
    """
    if missing := [name for name in expected if name not in names]:
        message = f"{path} has no array {' and no array '.join(missing)}."
        raise InputError(f"{message} It has: {', '.join(sorted(names)) or 'no arrays'}. {hint}".rstrip())


def _stored_splits(arrays: Mapping[str, np.ndarray], name: str | None, n_samples: int, path: Path) -> np.ndarray | None:
    """Return the index into SPLITS of each sample, from the array of this name."""
    if name is None and "splits" not in arrays:
        return None
    name = name or "splits"
    check_array_names(arrays, (name,), path)
    codes = np.asarray(arrays[name])
    fits = codes.shape == (n_samples,)
    if fits and codes.dtype.kind in "USOT":
        texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in codes]
        return split_numbers(texts, f"The array {name} of {path}")
    if not fits or codes.dtype.kind not in "iu" or not np.isin(codes, range(3)).all():
        raise InputError(
            f"expected {name} 0 (train), 1 (val) or 2 (test) in {path}, one for each of {n_samples} samples, got "
            f"{codes.dtype} {codes.shape}"
        )
    return codes.astype(np.int64)


def _masks(stored: Stored, labels: Sequence[np.ndarray]) -> Samples | None:
    parts = _arrays_in_all(stored, "masks")
    if parts is None:
        return None
    for part, values, (_, _, path) in zip(parts, labels, stored, strict=True):
        if len(part) != len(values):
            raise InputError(f"expected {len(values)} masks in {path}, got {len(part)}")
    return _joined([ArraySamples(part) for part in parts])


def _arrays_in_all(stored: Stored, name: str) -> list[np.ndarray] | None:
    """Return an array of each file; None if no file has it."""
    having = [path for _, arrays, path in stored if name in arrays]
    if having and len(having) < len(stored):
        lacking = next(path for _, arrays, path in stored if name not in arrays)
        raise InputError(
            f"{having[0]} has an array {name}, but {lacking} has none. Add it, or remove it from the other."
        )
    return [arrays[name] for _, arrays, _ in stored] if having else None


def _with_labels(table: Table, labels: Sequence[np.ndarray], path: Path, regression: bool | None) -> Table:
    """Add real values as targets, and everything else as classes."""
    kinds = {array.dtype.kind for array in labels}
    if regression is False and kinds == {"f"} and all(array.ndim == 1 or array.shape[1:] == (1,) for array in labels):
        labels, kinds = [_whole_labels(np.asarray(array), path) for array in labels], {"i"}
    if regression and kinds <= set("iubf"):
        return _with_values(table, labels)
    if not kinds & {"f"}:
        # A column of class labels is read as a row, whereas real values keep their shape.
        labels = [array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for array in labels]
    if (kinds <= {"U", "S"} or kinds == {"b"}) and all(array.ndim == 1 for array in labels):
        numbered = number_labels(
            np.concatenate(labels if len(kinds) == 1 else [array.astype(object) for array in labels])
        )
        return replace(table, labels=numbered.numbers, classes=list(numbered.names))
    # Whole fields of numbers, such as masks, are real values, whatever their type is.
    is_dense = kinds <= set("iubf") and any(array.ndim > 2 for array in labels)
    is_multi_label = all(array.ndim == 2 and array.shape[1] > 1 and np.isin(array, (0, 1)).all() for array in labels)
    if is_dense or ("f" in kinds and not is_multi_label):
        return _with_values(table, labels)
    if any(array.ndim > 1 for array in labels) and kinds <= set("iub") and not is_multi_label:
        raise InputError(
            f"The labels of {path} have shape {labels[0].shape} and are not all 0 or 1. Expected class labels of shape "
            "(N,), or 0/1 labels of shape (N, K)."
        )
    if not kinds <= set("iubf"):
        raise InputError(
            f"expected integer, text or real labels (N,) or (N, K) in {path}, got {labels[0].dtype} {labels[0].shape}"
        )
    return replace(table, labels=np.concatenate([array.astype(np.int64) for array in labels]))


def _with_values(table: Table, values: Sequence[np.ndarray]) -> Table:
    return replace(table, targets=_joined([ArraySamples(array) for array in values]))


def _whole_labels(labels: np.ndarray, path: Path) -> np.ndarray:
    """Return floats as whole numbers, or raise if some are not."""
    is_whole = np.isfinite(labels) & (labels == np.floor(labels))
    if not is_whole.all():
        raise InputError(
            f"The label {labels[~is_whole][0]} in {path} is not a whole number. Classes are whole numbers or texts. If "
            'the labels are values, pass `custom_data={"task": "regression"}`.'
        )
    return labels.astype(np.int64)


def read_array_headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and kind (`f`, `i`, `u`, `b`, `U`, ...) of each array in a file, without reading the arrays."""
    if path.is_dir():
        headers = {file.stem: array_formats.read_npy_header(file) for file in sorted(path.glob("*.npy"))}
        return {name: (shape, dtype.kind) for name, (shape, dtype) in headers.items()}
    if has_suffix(path, HDF5_SUFFIXES):
        return read_hdf5_headers(path)
    with convert_read_errors(path):
        if has_suffix(path, (".safetensors",)):
            _, arrays, _ = array_formats.read_safetensors_header(path)
            return {name: (array.shape, array.dtype[0].lower()) for name, array in arrays.items()}
        return {name: (shape, dtype.kind) for name, (shape, dtype) in array_formats.read_npz_headers(path).items()}


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a `.npz` or `.safetensors` file by name. Nothing is unpickled.

    Raises:
        InputError: When the file is broken or contains pickled objects.
    """
    if has_suffix(path, (".safetensors",)):
        return {name: np.array(array) for name, array in array_formats.map_safetensors(path)[0].items()}
    return array_formats.read_npz(path)


def shape_array(x: np.ndarray, kind: str, path: Path, axes: Sequence[int] | None = None) -> Samples:
    """Return an array as samples with an axis of channels first.

    Args:
        x: Array (N, ...).
        kind: `image` or `series`.
        path: File of the array, for messages.
        axes: Order of a sample's axes as stored; None keeps the order.

    Raises:
        InputError: When these are not numbers of a shape that samples of this kind have.
    """
    n_axes = {"image": 4, "series": 3}[kind]
    if x.dtype.kind not in "fiub" or x.ndim not in (n_axes - 1, n_axes):
        expected = "(N, H, W) or (N, C, H, W)" if kind == "image" else "(N, length) or (N, C, length)"
        raise InputError(f"expected numbers x of shape {expected} for {kind} data in {path}, got {x.dtype} {x.shape}")
    looks_channels_last = x.shape[-1] in CHANNEL_COUNTS and x.shape[1] not in CHANNEL_COUNTS
    if axes is None and kind == "image" and x.ndim == 4 and looks_channels_last:
        raise InputError(
            f"expected channels first, x of shape (N, C, H, W) in {path}, got {x.shape}. "
            "Save x.transpose(0, 3, 1, 2) instead."
        )
    if x.ndim == n_axes:
        return shape_samples(x, str(path), axes)
    # The axis of channels comes before those that are stored.
    stored = x.shape[1:]
    shape = (1, *(stored if axes is None else (stored[axis] for axis in axes)))
    return shape_samples(x, str(path), axes, shape)
