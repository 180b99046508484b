"""Logits and labels that were computed elsewhere, in the files that users have."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.forward.logits import SourceLogits
from modgap.storage.mmap_arrays import map_npy
from modgap.storage.paths import expand_user
from modgap.targets.data_frames import SUFFIXES as FRAME_SUFFIXES
from modgap.targets.data_frames import drop_index_columns, list_names, named_texts, read_frame
from modgap.targets.file_layout import has_suffix
from modgap.user_arrays import check_lengths, check_source_names, names_of_classes, number_labels, to_numpy
from modgap.version import installed_version
from modgap.written_names import number_names, real_numbers

if TYPE_CHECKING:
    from pandas import Series

__all__ = ["read_logits_file"]

ARRAY_SUFFIXES = (".npz", ".safetensors")
TORCH_SUFFIXES = (".pt", ".pth")
NAMES = ("logits", "labels", "groups", "class_names", "source_class_names")
"""Names of the arrays in a file. The first two must be there."""
GROUP_COLUMNS = ("group", "groups")
LABEL_COLUMNS = ("labels", "label", "class", "target", "y")
Content = dict[str, Any]


def read_logits_file(path: str) -> SourceLogits:
    """Read logits that were computed elsewhere.

    Args:
        path: A `.npz`, `.safetensors` or `.pt` file with `logits` (N, C), `labels` (N,) and, optionally, `groups` (N,)
            and the strings `class_names` (K,) and `source_class_names` (C,); or `logits.npy` with `labels.npy` beside
            it, and the others too if they are there; or a CSV or Parquet file with a column of the labels, optionally
            one named group, and one column for each source class.

    Raises:
        InputError: When the file is missing or damaged, lacks an array, or logits and labels do not fit.
        UsageError: When the file has another suffix.
    """
    from modgap.storage.digests import file_digest

    start = time.perf_counter()
    file = expand_user(path)
    content = _read_content(file, path)
    missing = [name for name in NAMES[:2] if name not in content]
    if missing:
        present = ", ".join(sorted(content)) or "no arrays"
        raise InputError(f"{path} has no array {' and no array '.join(missing)}. It has: {present}.")
    digests = {"logits": file_digest(file)}
    if has_suffix(file, (".npy",)):
        digests["labels"] = file_digest(file.with_name("labels.npy"))
    try:
        return _source_logits(content, {"modgap": installed_version(), **digests}, start)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from error


def _read_content(file: Path, path: str) -> Content:
    """Return the arrays of a file by name."""
    if not has_suffix(file, (*ARRAY_SUFFIXES, *TORCH_SUFFIXES, *FRAME_SUFFIXES, ".npy")):
        raise UsageError(
            f"{path} is not a file of logits that can be read. Expected an .npz, .safetensors, .npy, .pt, .csv, .tsv "
            "or .parquet file."
        )
    if not file.is_file():
        raise InputError(f"The logits file {path} does not exist.")
    if has_suffix(file, FRAME_SUFFIXES):
        return _read_columns(file)
    if has_suffix(file, TORCH_SUFFIXES):
        from modgap.targets.readers.pt import load_dictionary

        return {str(name): value for name, value in load_dictionary(file).items()}
    if has_suffix(file, (".npy",)):
        return _read_npy_files(file)
    from modgap.targets.readers.arrays import load_arrays

    return dict(load_arrays(file))


def _read_npy_files(file: Path) -> Content:
    """Return the logits of a `.npy` file, and the other arrays from the files of their names beside it."""
    labels = file.with_name("labels.npy")
    if file == labels or not labels.is_file():
        raise InputError(f"There are no labels for {file}. Expected them in {labels}, one for each row of the logits.")
    siblings = {name: file.with_name(f"{name}.npy") for name in NAMES[1:]}
    return {"logits": map_npy(file)} | {name: map_npy(path) for name, path in siblings.items() if path.is_file()}


def _read_columns(file: Path) -> Content:
    """Return labels, groups and logits from the columns of a table."""
    frame = read_frame(file, _columns_of_names)
    label = _find_column(frame.columns, LABEL_COLUMNS)
    if label is None:
        raise InputError(
            f"{file} has no column of labels. Expected one named {' or '.join(LABEL_COLUMNS)}. It has: "
            f"{list_names(frame.columns)}."
        )
    group = _find_column(frame.columns, GROUP_COLUMNS)
    used_columns = [label] if group is None else [label, group]
    values = drop_index_columns(frame, used_columns, file).drop(columns=used_columns)
    texts = [name for name in values.columns if values[name].dtype.kind not in "fiu"]
    if texts:
        raise InputError(
            f"{file} has text in {list_names(texts)}. Expected numbers, the logits of one source class, in each column "
            "but those of labels and groups."
        )
    content: Content = {
        "logits": values.to_numpy(dtype=np.float32),
        "labels": _named_values(frame[label], file, "label"),
    }
    names = [str(name) for name in values.columns]
    if names != [str(number) for number in range(len(names))]:
        content["source_class_names"] = names
    return content if group is None else content | {"groups": _named_values(frame[group], file, "group")}


def _columns_of_names(columns: Sequence[str]) -> list[str]:
    names = (_find_column(columns, LABEL_COLUMNS), _find_column(columns, GROUP_COLUMNS))
    return [name for name in names if name is not None]


def _named_values(column: "Series[Any]", file: Path, noun: str) -> np.ndarray:
    """Return labels or groups as numbers if they are written as plain ones, else as they are written."""
    values = named_texts(column, file, noun)
    if values.dtype.kind not in "OT" or values.isna().any():
        return np.asarray(values)
    texts = values.to_numpy(dtype=object)
    if (numbers := real_numbers(texts)) is not None:
        return numbers
    return number_names(texts, noun, "refuse", f"They are in the column {str(column.name)!r} of {file}.").values


def _find_column(columns: Sequence[Any], names: Sequence[str]) -> str | None:
    """Return the column with the first of the names, in upper or lower case."""
    return next((column for name in names for column in columns if str(column).lower() == name), None)


def _source_logits(content: Content, provenance: dict[str, str], start: float) -> SourceLogits:
    logits = to_numpy(content["logits"], "logits")
    labels = content["labels"]
    groups = None if content.get("groups") is None else to_numpy(content["groups"], "groups")
    numbered = number_labels(labels)
    check_lengths(logits, numbered.labels, groups)
    source_names = _names(content, "source_class_names")
    check_source_names(source_names, logits, "source_class_names")
    return SourceLogits(
        logits=logits,
        labels=numbered.labels,
        groups=groups,
        source_classes=source_names,
        target_classes=names_of_classes(_names(content, "class_names"), numbered, labels, "class_names"),
        provenance=provenance,
        seconds=time.perf_counter() - start,
    )


def _names(content: Content, name: str) -> tuple[str, ...]:
    """Return an array or list of strings, or an empty tuple if there is none."""
    if name not in content:
        return ()
    values = np.asarray(content[name])
    if values.ndim != 1 or values.dtype.kind not in "US":
        raise InputError(
            f"{name} has dtype {values.dtype} and shape {values.shape}. Expected one string for each class. Save it as "
            f"np.array(names, dtype=str)."
        )
    return tuple(np.char.decode(values, "utf-8").tolist() if values.dtype.kind == "S" else values.tolist())
