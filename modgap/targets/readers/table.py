"""Numbers in rows of one sample each, with the label in the last column or in a file of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.targets.file_layout import single_file
from modgap.targets.samples import ArraySamples, Table

__all__ = ["read"]


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    shape: Sequence[int],
    separator: str = ",",
    header_lines: int = 0,
    regression: bool = False,
) -> Table:
    """Read one file (plain or gzip) of rows with prod(shape) values and a label.

    Args:
        files: One path under the role `data`. If another one is under the role `labels`, its rows have the labels, and
            the rows of `data` have only values.
        shape: Shape of a sample, channels first.
        separator: Character between two values. A space stands for any number of spaces and tabs.
        header_lines: Number of lines before the first row.
        regression: True if the labels are real-valued targets, and False if they are numbers of classes.

    Returns:
        Samples of this shape, with labels, or with targets (1,).

    Raises:
        InputError: When a file is broken, its rows have another number of values, or a class is not a whole number.
    """
    path = single_file(files, "data")
    rows = _read_numbers(path, separator, header_lines)
    n_values = int(np.prod(shape))
    has_label = "labels" not in files
    if rows.shape[1] != n_values + has_label:
        label = " and a label" if has_label else ""
        raise InputError(f"expected {n_values} values{label} in each row of {path}, got {rows.shape[1]}")
    label_path = path if has_label else single_file(files, "labels")
    labels = rows[:, -1] if has_label else _read_labels(label_path, len(rows))
    samples = ArraySamples(rows[:, :n_values].reshape(-1, *shape))
    if regression:
        return Table(samples, targets=ArraySamples(labels[:, None]))
    if (labels % 1 != 0).any():
        raise InputError(
            f"The label {labels[labels % 1 != 0][0]:g} in {label_path} is not a whole number. Expected the number of a "
            "class. For real-valued targets, set the reader's option regression to true."
        )
    return Table(samples, labels.astype(np.int64))


def _read_numbers(path: Path, separator: str, header_lines: int) -> np.ndarray:
    delimiter = None if separator == " " else separator
    try:
        return np.loadtxt(path, delimiter=delimiter, skiprows=header_lines, dtype=np.float64, ndmin=2)
    except DAMAGED_FILE_ERRORS as error:
        kind = {",": "comma-separated numbers", " ": "numbers separated by spaces"}.get(separator, "numbers")
        raise InputError(f"cannot read {path} as {kind}: {error}") from error


def _read_labels(path: Path, n_samples: int) -> np.ndarray:
    labels = _read_numbers(path, " ", 0)
    if labels.shape != (n_samples, 1):
        raise InputError(f"expected {n_samples} rows of one label each in {path}, got {labels.shape}")
    column: np.ndarray = labels[:, 0]
    return column
