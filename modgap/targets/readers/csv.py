"""A user's own CSV or TSV: tabular rows, time series (one a row, or in long format), or texts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.targets.samples import SPLITS, ArraySamples, Samples, Table, TextSamples

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["LABEL_NAMES", "columns_of", "read"]

LABEL_NAMES = ("label", "class", "target", "y")
"""Columns taken for the label, in this order, where none is named."""
CLOCK_NAMES = ("time", "t", "timestamp", "date")
"""Columns that tell of a long format, where a row is a moment and no series."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class _SeriesList:
    """Series (C, length) of different lengths."""

    series: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.series[index]


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    kind: Literal["table", "series", "text"],
    label: str | None = None,
    series: str | None = None,
    time: str | None = None,
    text: str = "text",
    group: str | None = None,
) -> Table:
    """Read a file with a header line.

    Args:
        files: One path under the role `data`, or one each under `train`, `val` and `test`.
        kind: `table` takes a row's numbers as features (1, D), `series` as a series of one channel
            (1, length), `text` one column as strings.
        label: Column of the label; the first of LABEL_NAMES if None. Numbers that are not whole are
            values to predict, anything else is a class.
        series: Long format: column that says which series a row belongs to; the other numeric columns
            are its channels (C, length).
        time: Long format: column by which a series' rows are ordered; their order in the file if None.
        text: Column of the strings.
        group: Column that says which samples belong together (record, subject, field).

    Raises:
        InputError: When columns are missing, hold no numbers, or have missing values.
    """
    named = [role for role in ("data", *SPLITS) if role in files]
    if not named:
        raise KeyError("data")
    parts = [_frame(path) for role in named for path in files[role]]
    frame = _joined(parts)
    label = _label_column(frame, label, files[named[0]][0])
    _expect_columns(frame, [label, series, time, text if kind == "text" else None, group])
    if kind == "series" and series is None:
        _warn_of_clock(frame, (label, group), files[named[0]][0])
    codes = None
    if named != ["data"]:
        lengths = [len(part) for part in parts]
        split_of_part = [SPLITS.index(role) for role in named for _ in files[role]]
        codes = np.repeat(split_of_part, lengths)
    rows, samples = _samples(frame, kind, label, series, time, text, group)
    labels, classes, targets = _labels(frame[label].iloc[rows])
    groups = {group: frame[group].iloc[rows].to_numpy()} if group else None
    return Table(samples, labels, classes, None if codes is None else codes[rows], groups, targets)


def _warn_of_clock(frame: "DataFrame", known: Sequence[str | None], path: Path) -> None:
    clock = next((c for c in frame.columns if str(c).lower() in CLOCK_NAMES and c not in known), None)
    if clock is not None:
        log.warning(
            "every row of %s is taken for a series of its own, with column %r among its values; if rows are moments of "
            "longer series, say which column tells the series: --series COLUMN --time %s",
            path, str(clock), clock,
        )  # fmt: skip


def columns_of(path: Path) -> list[str]:
    """Names in the header line."""
    import pandas

    try:
        return list(pandas.read_csv(path, sep=_separator(path), nrows=0).columns)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as comma-separated values: {error}") from error


def _separator(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def _frame(path: Path) -> "DataFrame":
    import pandas

    try:
        return pandas.read_csv(path, sep=_separator(path))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as comma-separated values: {' '.join(str(error).split())}") from error


def _joined(parts: list["DataFrame"]) -> "DataFrame":
    import pandas

    if len({tuple(part.columns) for part in parts}) > 1:
        raise InputError("expected the same columns in all files, got different ones")
    return pandas.concat(parts, ignore_index=True)


def _label_column(frame: "DataFrame", label: str | None, path: Path) -> str:
    if label is not None:
        return label
    found = next((c for name in LABEL_NAMES for c in frame.columns if str(c).lower() == name), None)
    if found is None:
        raise UsageError(
            f"expected a label column ({', '.join(LABEL_NAMES)}) in {path}, got {_some(frame.columns)}; "
            "name it with --label COLUMN"
        )
    return found


def _expect_columns(frame: "DataFrame", wanted: Sequence[str | None]) -> None:
    for column in wanted:
        if column is not None and column not in frame.columns:
            raise UsageError(f"expected a column {column!r}, got {_some(frame.columns)}")
        if column is not None and frame[column].isna().any():
            raise InputError(
                f"expected a value in every row of column {column!r}, {int(frame[column].isna().sum())} are missing; "
                "fill them or drop the rows"
            )


def _some(names: Sequence) -> str:
    shown = ", ".join(str(name) for name in list(names)[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _samples(frame: "DataFrame", kind: str, label, series, time, text, group) -> tuple[np.ndarray, Samples]:
    """First row of each sample, and the samples."""
    if kind == "text":
        return np.arange(len(frame)), TextSamples(frame[text].astype(str).tolist())
    values = _numbers(frame.drop(columns=[c for c in (label, series, time, group) if c]))
    if series is None:
        return np.arange(len(frame)), ArraySamples(values[:, None])
    return _long_series(frame, values, label, series, time, group)


def _numbers(frame: "DataFrame") -> np.ndarray:
    words = [c for c in frame.columns if frame[c].dtype.kind not in "fiub"]
    if words or not len(frame.columns):
        raise InputError(
            f"expected numbers in every column but the label, got text in {_some(words) or 'none, and no other column'}"
            "; drop or encode them, or name what they are (--series, --time, --group)"
        )
    values = frame.to_numpy(dtype=np.float32)
    missing = ~np.isfinite(values)
    if missing.any():
        columns = _some(frame.columns[missing.any(axis=0)])
        raise InputError(
            f"expected a finite number in every cell, {int(missing.sum())} are missing or infinite (in {columns}); "
            "fill them or drop the rows"
        )
    return values


def _long_series(
    frame: "DataFrame", values: np.ndarray, label: str, series: str, time: str | None, group: str | None
) -> tuple[np.ndarray, Samples]:
    _, firsts, number = np.unique(frame[series].to_numpy(), return_index=True, return_inverse=True)
    for column in (label, group):
        if column and frame.groupby(series)[column].nunique().max() > 1:
            raise InputError(f"expected one {column} a series, some series in column {series!r} have several")
    clock = np.arange(len(frame)) if time is None else frame[time].rank(method="dense").to_numpy()
    order = np.lexsort((clock, number))
    cuts = np.cumsum(np.bincount(number))[:-1]
    return firsts, _SeriesList(tuple(np.ascontiguousarray(part.T) for part in np.split(values[order], cuts)))


def _labels(column: "Series") -> tuple[np.ndarray | None, list[str] | None, Samples | None]:
    """(classes, their names, values): whole numbers and words are classes, other numbers are values."""
    if column.dtype.kind == "f" and not np.equal(np.mod(column, 1), 0).all():
        return None, None, ArraySamples(column.to_numpy(dtype=np.float64))
    whole = column.astype(np.int64) if column.dtype.kind == "f" else column
    names, labels = np.unique(whole.to_numpy(dtype=None if whole.dtype.kind in "iub" else str), return_inverse=True)
    return labels.astype(np.int64), [str(name) for name in names], None
