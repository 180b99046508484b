"""CSV, TSV and Parquet files: rows, time series (one in each, or in long format), or texts."""

import difflib
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from modgap.errors import InputError, UsageError, count, visible_name
from modgap.labels.user_arrays import LARGEST_EXACT_FLOAT
from modgap.labels.written_names import number_names, real_numbers, written_values
from modgap.targets.categories import category_columns, encode_categories
from modgap.targets.data_frames import (
    check_single_values,
    drop_index_columns,
    list_names,
    named_texts,
    names_are_values,
    read_frame,
)
from modgap.targets.file_layout import data_files
from modgap.targets.samples import ArraySamples, Samples, Table, TextSamples, split_codes
from modgap.targets.splits import split_numbers

if TYPE_CHECKING:
    from pandas import DataFrame

    from modgap.targets.data_frames import Column

SPLIT_NAME = "split"
"""Name of the column that says which split a sample belongs to."""
LABEL_NAMES = ("label", "class", "target", "y")
"""Names of the label column, in order of preference, if none is given."""
RARE = 10_000
"""A column that says the same as the label by chance is rarer than one in so many tables."""
TIME_NAMES = ("time", "t", "timestamp", "date")
"""Names of columns that suggest the long format, where a row is a moment of a series and not a series."""
GROUP_NAMES = re.compile(
    "(group|subject|patient|participant|person|user|animal|record|recording|session|fold)s?[ _-]?(id|no|nr|number)?",
    re.IGNORECASE,
)
"""Names of columns that suggest groups of samples, which would reveal labels if they were read as values."""

MOST_TEXTS = 0.4
"""Largest share of texts among the cells of a column that is taken for numbers with errors."""

log = logging.getLogger("modgap")


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    kind: Literal["table", "series", "text"],
    label_column: str | None = None,
    series_column: str | None = None,
    time_column: str | None = None,
    text_column: str = "text",
    group_column: str | None = None,
    split_column: str | None = None,
    label_type: Literal["text", "number"] | None = None,
    regression: bool | None = None,
    drop_index: bool = False,
    missing_labels: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    missing_values: Literal["refuse", "keep", "drop"] = "refuse",
    categories: bool = False,
) -> Table:
    """Read a file with a header line, or a Parquet file.

    Args:
        files: One path under the role `data`, or one each under `train`, `val` and `test`.
        kind: `table` takes the numbers of a row as features (1, D), `series` as a series of one channel
            (1, length), `text` one column as strings.
        label_column: Column of the label. None takes the first of LABEL_NAMES. If all labels are numbers, and some are
            not whole, they are real-valued targets; other labels are classes, named as they are written.
        series_column: Column with the name of the series that a row belongs to, for the long format. The other
            numeric columns are the series' channels (C, length). None if every row is a sample.
        time_column: Column by which the rows of a series are ordered, for the long format. None keeps the order of
            the file.
        text_column: Column of the strings.
        group_column: Column of the groups of samples that belong together (record, subject, field).
        split_column: Column with train, val or test in each row. None takes the column `split` if there is one, which
            is no feature.
        label_type: `text` if labels and groups are names as they are written, so that 01 and 1 are two and .5 is a
            class; `number` if all spellings of a number are one. None raises an error for two spellings of a number.
        regression: True if the labels are real-valued targets, and False if they are classes. None decides by the
            labels.
        drop_index: True to leave out columns without a name, or named index or id, that only number the rows.
        missing_labels: Texts in the label column that mark missing labels, such as NA. Without them, only empty cells
            of a column of text labels are missing.
        columns: Columns of values to use. None uses all columns that have no other purpose, which must be numeric.
        missing_values: `refuse` raises an error for missing or infinite values, `keep` keeps missing values as NaN for
            the step `fill`, and `drop` leaves out the rows that have some.
        categories: True to read each value of a column of text with few values as a column of 0 and 1.

    Raises:
        InputError: When columns are missing, are not numeric, or have missing values.
    """
    located = data_files(files)
    first_path = located[0][1]
    texts = (series_column, text_column if kind == "text" else None)
    parts = [read_named_frame(path, label_column, group_column, missing_labels, texts) for _, path in located]
    label = find_label_column(parts[0].columns, label_column, first_path)
    frame = _concatenate(parts)
    split = split_column or find_split_column(frame.columns, columns or ())
    purposes = [name for name in (label, series_column, time_column, group_column, split) if name]
    used_columns = [*purposes, *([text_column] if kind == "text" else [])]
    check_columns(frame, used_columns)
    if columns is not None:
        frame = _select_columns(frame, used_columns, columns)
    if drop_index:
        frame = drop_index_columns(frame, used_columns, first_path)
    _warn_about_copies(frame, label, None if kind == "text" or series_column else purposes, first_path)
    if categories:
        features = [name for name in frame.columns if name not in used_columns and not GROUP_NAMES.fullmatch(str(name))]
        frame = encode_categories(frame, category_columns(frame, features))
    if kind == "series" and series_column is None:
        _warn_about_time_column(frame, purposes, first_path)
    group_like = _group_like_columns(frame, purposes, first_path, group_column) if kind != "text" else ()
    codes = split_codes((code, len(part)) for (code, _), part in zip(located, parts, strict=True))
    if split is not None:
        if codes is not None:
            raise InputError(f"{first_path} has a column {split}, but the files define the splits. Remove the column.")
        codes = split_column_codes(frame[split], first_path)
    if kind == "text":
        rows = np.arange(len(frame))
        samples: Samples = TextSamples(frame[text_column].astype(str).tolist())
    else:
        rows, values = read_values(frame.drop(columns=purposes), missing_values)
        samples = ArraySamples(values[:, None])
        if series_column is not None:
            constant = [name for name in (label, group_column, split) if name]
            used_rows = frame.iloc[rows]
            first_rows, samples = long_series(used_rows, values, series_column, time_column, constant, label_type)
            rows = rows[first_rows]
    labels, classes, targets = read_labels(frame[label].iloc[rows], label_type, regression)
    groups = {group_column: read_groups(frame[group_column].iloc[rows], label_type)} if group_column else None
    value_columns = None if kind == "text" else tuple(str(name) for name in frame.columns if name not in purposes)
    splits = None if codes is None else codes[rows]
    names = None if len(rows) == len(frame) else [str(row) for row in rows]
    if series_column is not None:
        names = [str(name) for name in frame[series_column].iloc[rows]]
    read = Table(samples, labels, classes, splits, groups, targets, columns=value_columns, names=names)
    return replace(read, group_like=group_like)


def read_named_frame(
    path: Path,
    label_column: str | None,
    group_column: str | None,
    missing_labels: Sequence[str] = (),
    texts: Sequence[str | None] = (),
) -> "DataFrame":
    """Read a file whose labels and groups stay text as it is written, with missing values where they are missing.

    Args:
        path: The file.
        label_column: Column of the label, as for `read`.
        group_column: Column of the groups, if there is one.
        missing_labels: Texts in the label column that mark missing labels.
        texts: Further columns that stay text, such as the names of series; empty cells are missing.
    """

    def columns_of_names(columns: Sequence[str]) -> list[str]:
        names = (find_label_column(columns, label_column, path), group_column, *texts)
        return [name for name in dict.fromkeys(names) if name is not None and name in columns]

    frame = read_frame(path, columns_of_names)
    for name in columns_of_names([str(name) for name in frame.columns]):
        if name in texts:
            frame[name] = texts_as_written(frame[name])
            continue
        is_group = name == group_column
        noun, missing = ("group", ()) if is_group else ("label", missing_labels)
        frame[name] = named_texts(frame[name], path, noun, missing)
    return frame


def texts_as_written(column: "Column") -> "Column":
    """Return a column that was read as text with missing values in place of empty cells; others as they are."""
    return column.mask(column.eq("")) if column.dtype.kind in "OT" else column


def find_split_column(columns: Iterable[object], features: Sequence[str] = ()) -> str | None:
    """Return the column named split, in any case and with spaces around it; None if there is none.

    Args:
        columns: Names of all columns.
        features: Columns that an option names as values.
    """
    split_columns = [str(name) for name in columns if str(name).strip().lower() == SPLIT_NAME]
    return next((name for name in split_columns if name not in features), None)


def _warn_about_time_column(frame: "DataFrame", purposes: Sequence[str], path: Path) -> None:
    suspects = [name for name in frame.columns if str(name).lower() in TIME_NAMES and name not in purposes]
    if suspects:
        text = (
            "every row of %s is read as one series, with column %r among its values. If rows are moments of longer "
            "series, name the column that identifies the series: "
            '`custom_data={"series_column": "COLUMN", "time_column": %r}`'
        )
        log.warning(text, path, str(suspects[0]), str(suspects[0]))


def _group_like_columns(
    frame: "DataFrame", purposes: Sequence[str], path: Path, group_column: str | None
) -> tuple[str, ...]:
    """Return the columns of values whose names and repeated whole numbers suggest groups, each with a warning."""
    named = [name for name in frame.columns if name not in purposes and GROUP_NAMES.fullmatch(str(name))]
    suspects = [str(name) for name in named if frame[name].dtype.kind in "iu" and not frame[name].is_unique]
    for name in suspects:
        way_out = "remove the column" if group_column else f'pass `custom_data={{"group": {name!r}}}`'
        text = (
            "The column %r of %s is read as a value of each sample, and can reveal the labels. If it says which "
            "samples belong together, %s."
        )
        log.warning(text, name, path, way_out)
    return tuple(suspects)


def _warn_about_copies(frame: "DataFrame", label: str, purposes: Sequence[str] | None, path: Path) -> None:
    """Warn of a column of values that is another name of the label: one value for each label, and the reverse.

    Args:
        frame: All columns.
        label: Column of the label.
        purposes: Columns that are no values; None if rows are no samples, or no column has values.
        path: File in the warning.
    """
    columns = np.flatnonzero([purposes is not None and name not in purposes for name in frame.columns])
    labels = frame[label].factorize()[0]
    counts = np.bincount(labels[labels >= 0])
    # Logarithm of the number of ways to deal out the labels, one of which a column without knowledge has.
    n_ways = math.lgamma(counts.sum() + 1) - sum(map(math.lgamma, counts + 1))
    if not len(columns) or len(counts) > len(frame) / 2 or n_ways < math.log(RARE * len(columns)):
        return
    # A few rows suffice to tell of most columns that they are none. As texts, missing and nested values compare too.
    often, seldom = counts.argsort()[[-1, 0]]
    rows = [*np.flatnonzero(labels == often)[:10], np.flatnonzero(labels == seldom)[0]]
    shown = frame.iloc[rows, columns].astype(str).to_numpy()
    is_like = (shown[:-1] == shown[0]).all(axis=0) & (shown[-1] != shown[0])
    for column in columns[is_like]:
        values = frame.iloc[:, column].astype(str).factorize()[0]
        pairs = np.unique(np.stack([labels, values]), axis=1).shape[1]
        if pairs == len(counts) == len(np.unique(values)):
            text = (
                "The column %r of %s has one value for each label, so it tells the label of every sample. If it is "
                "another name of the label, remove the column."
            )
            log.warning(text, str(frame.columns[column]), path)


def _concatenate(parts: list["DataFrame"]) -> "DataFrame":
    import pandas

    if len({tuple(part.columns) for part in parts}) > 1:
        raise InputError("expected the same columns in all files, got different ones")
    return pandas.concat(parts, ignore_index=True)


def _group_hint(columns: Sequence[object]) -> str:
    """Return how to name a column of groups that is among columns of text; empty if there is none."""
    names = [str(column) for column in columns if GROUP_NAMES.fullmatch(str(column))]
    if not names:
        return ""
    return f' If {names[0]} says which samples belong together, pass `custom_data={{"group": {names[0]!r}}}`.'


def find_label_column(columns: Sequence[object], label_column: str | None, path: Path) -> str:
    """Return the column of the labels: the one that is named, or the first of LABEL_NAMES among the columns."""
    if label_column is not None:
        return label_column
    for name in LABEL_NAMES:
        for column in columns:
            if str(column).lower() == name:
                return str(column)
    no_names = " If this is the first sample, add a row of names above it." if names_are_values(columns) else ""
    raise UsageError(
        f"expected a label column ({', '.join(LABEL_NAMES)}) in {path}, got {list_names(columns)}. "
        f'Name it with `custom_data={{"label_column": "COLUMN"}}`.{no_names}'
    )


def check_columns(frame: "DataFrame", columns: Sequence[str]) -> None:
    """Check that the columns with a purpose are there, and have one value in each row.

    Raises:
        InputError: When a value is missing, or is a list.
        UsageError: When there is no such column.
    """
    for column in columns:
        if column not in frame.columns:
            by_lower_case = {str(name).lower(): str(name) for name in frame.columns}
            similar = difflib.get_close_matches(column.lower(), by_lower_case, n=1)
            way_out = f" Did you mean {by_lower_case[similar[0]]}?" if similar else ""
            if column == "text":
                way_out = " Rename the column of the texts to text."
            raise UsageError(f"There is no column {column!r}. The columns are {list_names(frame.columns)}.{way_out}")
        if frame[column].isna().any():
            raise InputError(
                f"expected a value in every row of column {column!r}, {int(frame[column].isna().sum())} are missing. "
                "Fill them or drop the rows."
            )
        check_single_values(frame[column])


def _select_columns(frame: "DataFrame", purposes: Sequence[str], columns: Sequence[str]) -> "DataFrame":
    """Return the frame with these columns of values, and those that have another purpose."""
    by_name = {str(name): name for name in frame.columns}
    for column in columns:
        if column not in by_name:
            similar = difflib.get_close_matches(column, by_name, n=1)
            way_out = f" Did you mean {similar[0]}?" if similar else ""
            raise UsageError(f"There is no column {column!r}. The columns are {list_names(frame.columns)}.{way_out}")
        if column in purposes:
            raise UsageError(f"The column {column!r} is not a feature, because it has another purpose.")
    return frame[[name for name in frame.columns if str(name) in columns or name in purposes]]


def read_values(features: "DataFrame", missing: Literal["refuse", "keep", "drop"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows that are read, and their values (rows, columns).

    Args:
        features: Columns of values.
        missing: As `missing_values` of `read`.

    Raises:
        InputError: When a column has text, a value is infinite, or values are missing and refused.
    """
    values = _numbers(features, missing)
    names = list_names(features.columns)
    log.info("%s: %s.", count(len(features.columns), "column of values", "columns of values"), names)
    rows = np.arange(len(features))
    if missing == "drop":
        complete = np.isfinite(values).all(axis=1)
        if not complete.any():
            raise InputError(
                "Every row has a missing cell, so none is left. "
                'Pass `custom_data={"fill": "mean"}` or `custom_data={"fill": "median"}`.'
            )
        if not complete.all():
            log.info("%s with missing cells are left out.", f"{int((~complete).sum()):,} of {len(features):,} rows")
        rows, values = rows[complete], values[complete]
    return rows, values


def _numbers(frame: "DataFrame", on_missing: Literal["refuse", "keep", "drop"]) -> np.ndarray:
    not_numeric = [column for column in frame.columns if frame[column].dtype.kind not in "fiub"]
    if not_numeric or not len(frame.columns):
        raise InputError(
            "expected numbers in every column but the label, got text in "
            f"{list_names(not_numeric) or 'none, and no other column'}. "
            'Leave these columns out (`custom_data["columns"]`), or name their purpose '
            '(`custom_data["series_column"]`, `custom_data["time_column"]`, `custom_data["group"]`, '
            '`custom_data["split_from"]`).'
            f"{_group_hint(not_numeric)}{_cell_hint(frame, not_numeric)}"
        )
    values: np.ndarray = frame.to_numpy(dtype=np.float64)
    missing = ~np.isfinite(values) if on_missing == "refuse" else np.isinf(values)
    if missing.any() and on_missing != "drop":
        columns = list_names(frame.columns[missing.any(axis=0)])
        states, ways = "missing or infinite", "mean, median or drop"
        if on_missing == "keep":
            states, ways = "infinite, which cannot be filled,", "drop"
        raise InputError(
            f"expected a finite number in every cell, {int(missing.sum())} are {states} (in {columns}). "
            f'Set `custom_data["fill"]` to {ways}, or correct the file.'
        )
    return values


def _cell_hint(frame: "DataFrame", names: Sequence[object]) -> str:
    """Return which cells are texts in the columns whose other cells are numbers; empty if there are no such columns."""
    import pandas

    hints = []
    for name in names:
        cells = frame[name].dropna()
        is_text = pandas.to_numeric(cells, errors="coerce").isna()
        if 0 < is_text.sum() <= MOST_TEXTS * len(cells):
            number, cell = int(np.flatnonzero(frame.index == cells.index[is_text][0])[0]), str(cells[is_text].iloc[0])
            more = f" and {count(int(is_text.sum()) - 1, 'other cell')}" if is_text.sum() > 1 else ""
            ways = ["correct or empty", ', and pass `custom_data={"fill": "median"}`']
            if re.fullmatch(r"[-+]?\d+,\d+", cell.strip()):
                ways = ["write with a decimal point", ""]
            hints.append(
                f" The other cells of {visible_name(str(name))} are numbers: {ways[0]} {visible_name(cell)!r} in row "
                f"{number} of all rows, counted from 0{more}{ways[1]}."
            )
    return "".join(hints[:1])


def long_series(
    frame: "DataFrame",
    values: np.ndarray,
    series_column: str,
    time_column: str | None = None,
    constant_columns: Sequence[str] = (),
    label_type: Literal["text", "number"] | None = None,
) -> tuple[np.ndarray, Samples]:
    """Return the first row of each series in long format, and the series (C, length), by the order of their names.

    Args:
        frame: Table with a moment of a series in each row.
        values: Values of the channels in each row, (rows, C).
        series_column: Column with the name of the series.
        time_column: Column by which the rows of a series are ordered. None keeps the order of the table.
        constant_columns: Columns that have one value in all rows of a series.
        label_type: As for `read`, of the names of the series.

    Raises:
        InputError: When a series has several values in one of these columns, a name has two spellings, or the column
            of the time has neither numbers nor dates.
    """
    named = frame[series_column].to_numpy(dtype=object)
    number = number_names(named, "series name", label_type or "refuse", _spelling_hint(frame[series_column])).numbers
    first_rows = np.unique(number, return_index=True)[1]
    for column in constant_columns:
        if frame[column].groupby(number).nunique().max() > 1:
            raise InputError(
                f"expected one {column} for each series, some series in column {series_column!r} have several"
            )
    time = np.arange(len(frame)) if time_column is None else _moments(frame[time_column])
    order = np.lexsort((time, number))
    cuts = np.cumsum(np.bincount(number))[:-1]
    return first_rows, tuple(np.ascontiguousarray(part.T) for part in np.split(values[order], cuts))


def _moments(column: "Column") -> np.ndarray:
    """Return numbers in the order of time of a column of numbers or dates, (rows,)."""
    import pandas

    if column.dtype.kind in "OT":
        try:
            column = pandas.to_datetime(column, format="ISO8601", utc=True)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"The column {str(column.name)!r} orders the rows of each series, and has texts such as "
                f"{str(column.iloc[0])!r}. Write numbers, or dates such as 2026-03-01 or 2026-03-01 09:30."
            ) from error
    return np.asarray(column.rank(method="dense"))


def split_column_codes(column: "Column", path: Path) -> np.ndarray:
    """Return the index into SPLITS of each row, from a column that names the splits.

    Raises:
        InputError: If a value is not the name of a split.
    """
    is_default = str(column.name).strip().lower() == SPLIT_NAME
    way_out = "If it does not say which split a row belongs to, rename it." if is_default else ""
    return split_numbers(column.fillna("").astype(str).tolist(), f"The column {column.name} of {path}", way_out)


def read_labels(
    column: "Column",
    label_type: Literal["text", "number"] | None = None,
    regression: bool | None = None,
) -> tuple[np.ndarray | None, list[str] | None, Samples | None]:
    """Return classes, their names, and real-valued targets.

    Args:
        column: Column of the labels, of which none is missing.
        label_type: As for `read`.
        regression: As for `read`.

    Raises:
        InputError: If the column has two spellings of a number, names that differ only in spaces or Unicode, or, of a
            regression target, a label that is not a number.
    """
    if regression:
        is_number = column.dtype.kind in "fiub"
        numbers = column.to_numpy(np.float64) if is_number else written_values([str(value) for value in column])
        return None, None, ArraySamples(numbers)
    values = _whole_numbers(column) if column.dtype.kind == "f" and label_type != "text" else column
    if label_type != "text" and regression is None:
        numbers = values.to_numpy(np.float64) if values.dtype.kind == "f" else real_numbers(values.tolist())
        if numbers is not None:
            return None, None, ArraySamples(numbers)
    numbered = number_names(values.to_numpy(dtype=object), "label", label_type or "refuse", _spelling_hint(column))
    return numbered.numbers, list(numbered.names), None


def read_groups(column: "Column", label_type: Literal["text", "number"] | None = None) -> np.ndarray:
    """Return the name of each sample's group, shape (N,), or the values of columns that are not text.

    Args:
        column: Column of the groups, of which none is missing.
        label_type: As for `read`.

    Raises:
        InputError: As `read_labels` does.
    """
    if column.dtype.kind not in "OT":
        return np.asarray(column)
    numbered = number_names(column.to_numpy(dtype=object), "group", label_type or "refuse", _spelling_hint(column))
    return numbered.values


def _spelling_hint(column: "Column") -> str:
    return (
        f'Or pass `custom_data={{"label_type": "number"}}` to read spellings of one number in column '
        f"{str(column.name)!r} as one name, or "
        '`custom_data={"label_type": "text"}` to read them as different names.'
    )


def _whole_numbers(column: "Column") -> "Column":
    """Return a column of floats as integers if all are whole, else as it is."""
    if not np.equal(np.mod(column, 1), 0).all():
        return column
    if (inexact := column[column.abs() >= LARGEST_EXACT_FLOAT]).size:
        raise InputError(
            f"The label {inexact.iloc[0]:g} is a whole number of more than 15 digits, which would not stay exact "
            "beside labels with a decimal point or exponent. Write the labels as text, such as with a letter in front."
        )
    return column.astype(np.int64)
