"""Data frames and lists of R: .rda files, and the stores of data in packages (.rdb with .rdx). No code of R runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import single_file
from modgap.targets.r_files import read_rda_object, read_store_object
from modgap.targets.r_objects import MISSING_INTEGER, RVector
from modgap.targets.samples import SPLITS, ArraySamples, Table, TextSamples

__all__ = ["read"]


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    object_name: str,
    label: str,
    drop: Sequence[str] = (),
    split: str | None = None,
    regression: bool = False,
    text: bool = False,
) -> Table:
    """Read a data frame, or a list with a matrix of values and a vector of labels.

    Args:
        files: One path under the role `data`, of an .rda or .rdb file; the index of an .rdb file under `index`.
        object_name: Name of the object in the file.
        label: Column of the labels: a factor, or numbers.
        drop: Columns that are not read.
        split: Column that is a factor with the names of splits, train and test in upper or lower case. None if the
            data defines no splits.
        regression: True if the labels are real-valued targets.
        text: True to write the levels of all factors in a row one after the other, as the letters of DNA. False to read
            the columns of numbers and the matrices as features (1, D).

    Raises:
        InputError: When a file is damaged, a column is missing or has another kind of values, or a value is missing.
    """
    path = single_file(files, "data")
    if "index" in files:
        value = read_store_object(path, single_file(files, "index"), object_name)
    else:
        value = read_rda_object(path, object_name)
    columns = _vectors(value)
    location = f"{object_name} in {path}"
    for name in (label, *drop, *([split] if split else [])):
        if name not in columns:
            available = ", ".join(list(columns)[:8]) or "none"
            raise InputError(f"There is no column {name!r} in {location}. The first columns are: {available}.")
    labels = columns[label]
    codes = None if split is None else _split_codes(columns[split], f"column {split!r} of {location}")
    features = {name: vector for name, vector in columns.items() if name not in (label, split, *drop)}
    n_samples = len(labels.values)
    samples = _texts(features, n_samples, location) if text else _numbers(features, n_samples, location)
    if regression:
        targets = _matrix(labels, n_samples, f"column {label!r} of {location}")
        return Table(samples, splits=codes, targets=ArraySamples(targets))
    if "levels" in labels.attributes:
        return Table(samples, _level_numbers(labels, n_samples, location), labels.strings("levels"), codes)
    values, numbers = np.unique(_matrix(labels, n_samples, location), return_inverse=True)
    names = [f"{value:.0f}" if value % 1 == 0 else repr(float(value)) for value in values]
    return Table(samples, numbers.ravel().astype(np.int64), names, codes)


def _vectors(value: RVector) -> dict[str, RVector]:
    """Return the vectors of a list by their names."""
    items: list[Any] = value.values if isinstance(value.values, list) else []
    pairs = zip(value.strings("names"), items, strict=False)
    return {name: vector for name, vector in pairs if isinstance(vector, RVector)}


def _level_numbers(factor: RVector, n_samples: int, location: str) -> np.ndarray:
    """Return the number of each value's level, from 0."""
    levels = factor.strings("levels")
    numbers = np.asarray(factor.values)
    if not levels or numbers.dtype.kind != "i" or numbers.shape != (n_samples,):
        raise InputError(f"expected a factor with {n_samples} values in {location}")
    if len(numbers) and not (numbers.min() >= 1 and numbers.max() <= len(levels)):
        raise InputError(f"expected a level in each row of a factor in {location}, some are missing")
    return numbers.astype(np.int64) - 1


def _matrix(vector: RVector, n_samples: int, location: str) -> np.ndarray:
    """Return the values (N, D) of a column or matrix, as numbers without missing ones."""
    values = np.asarray(vector.values)
    shape = np.ravel(vector.attributes["dim"].values if "dim" in vector.attributes else len(values))
    is_number = values.dtype.kind in "if" and "levels" not in vector.attributes
    if not is_number or shape[0] != n_samples or not n_samples or values.size % n_samples:
        raise InputError(f"expected numbers in {location}, with {n_samples} rows. Drop other columns.")
    if (values.dtype.kind == "i" and (values == MISSING_INTEGER).any()) or not np.isfinite(values).all():
        raise InputError(f"expected a finite number in each row of {location}, some are missing")
    return values.astype(np.float64).reshape(n_samples, -1, order="F")


def _numbers(features: Mapping[str, RVector], n_samples: int, location: str) -> ArraySamples:
    """Return samples (1, D) with the values of all columns."""
    parts = [_matrix(vector, n_samples, f"column {name!r} of {location}") for name, vector in features.items()]
    if not parts:
        raise InputError(f"expected columns of numbers beside the labels of {location}, got none")
    return ArraySamples(np.concatenate(parts, axis=1)[:, None])


def _texts(features: Mapping[str, RVector], n_samples: int, location: str) -> TextSamples:
    """Return samples that are strings: the levels of all factors of a row."""
    letters = [
        np.array(vector.strings("levels"), str)[_level_numbers(vector, n_samples, f"column {name!r} of {location}")]
        for name, vector in features.items()
    ]
    return TextSamples(["".join(row) for row in zip(*letters, strict=True)])


def _split_codes(factor: RVector, location: str) -> np.ndarray:
    """Return the index into SPLITS of each sample."""
    names = [name.lower() for name in factor.strings("levels")]
    if not names or not set(names) <= set(SPLITS):
        raise InputError(f"expected the names of splits ({', '.join(SPLITS)}) in {location}, got {', '.join(names)}")
    codes: np.ndarray = np.array([SPLITS.index(name) for name in names])
    return np.take(codes, _level_numbers(factor, len(factor.values), location))
