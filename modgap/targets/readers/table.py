"""Numbers and categories in rows of one sample each, with the label in a column or in a file of its own."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from modgap.errors import InputError, count
from modgap.storage.damaged_files import one_line_errors, open_content
from modgap.storage.limits import check_memory
from modgap.targets.file_layout import files_by_split, single_file
from modgap.targets.samples import ArraySamples, Table, class_numbers, shape_samples, split_codes

Texts = Mapping[int, dict[str, int]]
"""Number of each text in a column, in the order of their first rows, by the number of the column."""


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    shape: Sequence[int],
    axes: Sequence[int] | None = None,
    separator: str = ",",
    header_lines: int = 0,
    label: int | Sequence[int] = -1,
    label_values: Sequence[str | int] | None = None,
    categories: Sequence[int] = (),
    group: int | None = None,
    drop: Sequence[int] = (),
    regression: bool = False,
) -> Table:
    """Read files (plain or gzip) of rows with prod(shape) values and a label.

    Columns are counted from 0, and negative numbers from the end.

    Args:
        files: One path under the role `data`, or one or more each under `train`, `val` and `test`. If there is one
            under the role `labels`, its rows have the labels, and those of `data` have only values.
        shape: Shape of the values in a row. A category counts as one value for each text in its column.
        axes: Order of a sample's axes after that, such as [1, 0] for channels first. None keeps the order.
        separator: Character between two values. A space stands for any number of spaces and tabs.
        header_lines: Number of lines before the first row.
        label: Column of the label, or columns of the 0/1 labels of a multi-label target.
        label_values: Labels of class 0, 1, ..., as texts or as numbers. None if labels are numbers of classes.
        categories: Columns of texts. Each becomes a column of 0 and 1 for each text in it, in alphabetical order.
        group: Column of texts that name the group of each sample, which the table has under the name `group`.
        drop: Columns that are not read.
        regression: True if the labels are real-valued targets, and False if they are classes.

    Returns:
        Samples of this shape, with labels, or with targets (1,).

    Raises:
        InputError: When a file is broken, its rows have another number of values, or a label is not a class.
    """
    split_paths = [(None, single_file(files, "data"))] if "data" in files else files_by_split(files)
    location = ", ".join(str(path) for _, path in split_paths)
    is_text = label_values is not None and any(isinstance(value, str) for value in label_values)
    labels = () if "labels" in files else (label,) if isinstance(label, int) else tuple(label)
    no_values = (*drop, *(() if group is None else (group,)))
    texts: Texts = {number: {} for number in (*categories, *no_values, *(labels if is_text else ()))}
    parts = [_read_rows(path, separator, header_lines, texts) for _, path in split_paths]
    rows = _concatenate(parts, (*categories, *no_values, *labels), location)
    values = _values(rows, (*no_values, *labels), {number % rows.shape[1]: texts[number] for number in categories})
    noun = "value and a label" if labels else "value"
    nouns = noun.replace("value", "values")
    if values.shape[1] != (n_values := int(np.prod(shape))):
        got = count(values.shape[1], noun, nouns)
        raise InputError(f"expected {count(n_values, noun, nouns)} in each row of {location}, got {got}")
    table = Table(
        shape_samples(values.reshape(-1, *shape), location, axes),
        splits=split_codes((code, len(part)) for (code, _), part in zip(split_paths, parts, strict=True)),
        groups=None if group is None else {"group": rows[:, group].astype(np.int64)},
    )
    if labels:
        return _with_labels(table, rows[:, list(labels)], texts.get(labels[0]), label_values, regression, location)
    path, texts = single_file(files, "labels"), {-1: {}} if is_text else {}
    label_rows = _read_rows(path, " ", 0, texts)
    if label_rows.shape != (len(rows), 1):
        raise InputError(f"expected {len(rows)} rows of one label each in {path}, got {label_rows.shape}")
    return _with_labels(table, label_rows, texts.get(-1), label_values, regression, str(path))


def _read_rows(path: Path, separator: str, header_lines: int, texts: Texts) -> np.ndarray:
    """Return the rows of a file as numbers; a text is the number that `texts` has, or then gets, for it."""
    delimiter = None if separator == " " else separator
    converters: dict[int | str, Callable[[str], int]] = {
        column: partial(_number_text, numbers) for column, numbers in texts.items()
    }
    kind = {",": "comma-separated numbers", " ": "numbers separated by spaces"}.get(separator, "numbers")
    with one_line_errors(f"cannot read {path} as {kind}"):
        check_memory(path, path.stat().st_size)
        with io.TextIOWrapper(open_content(path), encoding="utf-8") as lines:
            return np.loadtxt(
                lines,
                np.float64,
                comments=None,
                delimiter=delimiter,
                converters=converters or None,
                skiprows=header_lines,
                ndmin=2,
            )


def _number_text(numbers: dict[str, int], text: str) -> int:
    return numbers.setdefault(text.strip(), len(numbers))


def _concatenate(parts: Sequence[np.ndarray], columns: Sequence[int], location: str) -> np.ndarray:
    """Return the rows of all files, in which there are these columns."""
    widths = {part.shape[1] for part in parts}
    if len(widths) > 1:
        raise InputError(f"expected rows of one length in {location}, got {min(widths)} and {max(widths)} columns")
    n_columns = widths.pop()
    for number in columns:
        if not -n_columns <= number < n_columns:
            raise InputError(f"There is no column {number} in {location}, which has {count(n_columns, 'column')}.")
    return np.concatenate(parts)


def _values(rows: np.ndarray, no_values: Sequence[int], categories: Texts) -> np.ndarray:
    """Return the values of each row: those of the columns with values, and indicators of categories in their place."""
    if not categories:
        return np.delete(rows, no_values, axis=1)
    columns = np.delete(np.arange(rows.shape[1]), no_values)
    parts = [rows[:, [column]] for column in columns]
    for number, column in enumerate(columns):
        if column in categories:
            codes = [code for _, code in sorted(categories[column].items())]
            parts[number] = (parts[number] == codes).astype(np.float64)
    return np.concatenate(parts, axis=1)


def _with_labels(
    table: Table,
    labels: np.ndarray,
    texts: Mapping[str, int] | None,
    label_values: Sequence[str | int] | None,
    regression: bool,
    location: str,
) -> Table:
    """Return the table with labels (N, 1), or 0/1 labels (N, K)."""
    if regression:
        return replace(table, targets=ArraySamples(labels))
    if label_values is not None and labels.shape[1] > 1:
        raise InputError(
            f"label_values applies to one column of labels, but {labels.shape[1]} are given for {location}."
        )
    if label_values is not None:
        names = list(texts or ())
        written = [names[int(code)] for code in labels[:, 0]] if texts else labels[:, 0].tolist()
        numbers = class_numbers(written, location, label_values)
        return replace(table, labels=numbers, classes=[str(value) for value in label_values])
    if labels.shape[1] > 1 and not np.isin(labels, (0, 1)).all():
        other = labels[~np.isin(labels, (0, 1))][0]
        raise InputError(f"expected 0 or 1 in the {labels.shape[1]} columns of labels of {location}, got {other:g}")
    if (labels % 1 != 0).any():
        raise InputError(
            f"The label {labels[labels % 1 != 0][0]:g} in {location} is not a whole number. Expected the number of a "
            "class. For real-valued targets, set the reader's option regression to true."
        )
    whole = labels.astype(np.int64)
    return replace(table, labels=whole if labels.shape[1] > 1 else whole[:, 0])
