"""Tables of errors as lines of a history: files with one error in each row, or one source in each row."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from modgap.errors import InputError, UsageError, visible_name
from modgap.ranking.history.lines import TRAINED, VARIABLES, HistoryLine, Setup, invalid_line, merge_lines
from modgap.ranking.source_patterns import split_input_size
from modgap.targets.data_frames import list_names, read_frame

if TYPE_CHECKING:
    from pandas import DataFrame

Unit = Literal["auto", "share", "percent"]
UNITS: tuple[Unit, ...] = ("auto", "share", "percent")
NAMES = {"model": "source", "dataset": "target", "data set": "target"}
"""Other names of the columns."""
REQUIRED = ("source", "target", "error")
MORE = ("variable", "kind", "samples", "classes", "held_out")
"""Columns of a table with one error in each row that may be missing."""
LAYOUT = (
    "Expected one error in each row, with the columns source, target and error, or one source in each row, with its "
    "name in the first column and a column of errors for each target."
)


def lines_of_table(path: Path, setup: Setup, unit: Unit = "auto") -> list[HistoryLine]:
    """Read a CSV, TSV or Parquet file of errors as lines of a history.

    A table with the columns `source`, `target` and `error` has one error in each row, and may have `variable` (the name
    of the error, `trained` without it), `kind`, `samples` and `classes` of the target, and `held_out`. Any other table
    has one source in each row: its first column has their names, and each other column is a target.

    Args:
        path: The file. Empty cells are missing errors.
        setup: How the errors were measured. The size of the input comes from a name such as `vit-b@128px`.
        unit: `share` for errors in [0, 1], `percent`, or `auto`: percent if an error is above 1.

    Raises:
        InputError: If the file cannot be read, has another layout, or an error is out of range.
        UsageError: If it is not clear whether the errors are percents.
    """
    frame = read_frame(path, lambda columns: [name for name in columns if _is_text(name, columns)])
    names = [_column_name(str(name)) for name in frame.columns]
    if len(set(names)) < len(names):
        raise InputError(f"{path} has two columns of the same name. {LAYOUT}")
    frame = frame.set_axis(names, axis=1)
    is_long = set(REQUIRED) <= set(names)
    if is_long and (unknown := [name for name in names if name not in (*REQUIRED, *MORE)]):
        raise InputError(
            f"{path} has columns that a history does not have: {list_names(unknown)}. Leave them out. Beside source, "
            f"target and error there may be {', '.join(MORE)}."
        )
    if len(names) < 2:
        raise InputError(f"{path} has one column. {LAYOUT}")
    rows = list(_long_rows(frame) if is_long else _wide_rows(frame, path))
    if not rows:
        raise InputError(f"{path} has no error. {LAYOUT}")
    _check_rows(rows, path)
    scale = _scale([row["error"] for row in rows], unit, path)
    return merge_lines([], [_line(row, setup, scale, path) for row in rows])


def _column_name(name: str) -> str:
    """Return the name of a column as this module knows it, or as it is written."""
    plain = name.strip().lower()
    return NAMES.get(plain, plain if plain in (*REQUIRED, *MORE) else name)


def _is_text(name: str, columns: Sequence[str]) -> bool:
    """Return True for columns of names, which stay as they are written."""
    names = {_column_name(str(one)) for one in columns}
    if set(REQUIRED) <= names:
        return _column_name(name) in ("source", "target", "variable", "kind")
    return name == columns[0]


def _long_rows(frame: "DataFrame") -> Iterator[dict[str, Any]]:
    for number, record in enumerate(frame.to_dict("records"), start=2):
        row = {name: value for name, value in record.items() if not _is_missing(value)}
        if "error" in row:
            yield {"row": number, "variable": TRAINED, **row}


def _wide_rows(frame: "DataFrame", path: Path) -> Iterator[dict[str, Any]]:
    first, *targets = frame.columns
    if set(targets) & set(REQUIRED):
        raise InputError(f"{path} has a column {(set(targets) & set(REQUIRED)).pop()}, but not all of them. {LAYOUT}")
    for number, record in enumerate(frame.to_dict("records"), start=2):
        for target in targets:
            if not _is_missing(record[target]):
                source = {} if _is_missing(record[first]) else {"source": record[first]}
                yield {"row": number, "variable": TRAINED, **source, "target": target, "error": record[target]}


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))


def _check_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Raise if an error has no source, no target, another value than a number, or a second one for the same."""
    seen: dict[tuple[str, str, str], int] = {}
    for row in rows:
        where = f"row {row['row']} of {path}"
        for name in REQUIRED:
            if name not in row:
                raise InputError(f"There is no {name} in {where}. {LAYOUT}")
        if not isinstance(row["error"], int | float):
            raise InputError(f"The error {visible_name(str(row['error']))!r} in {where} is not a number. {LAYOUT}")
        if row["variable"] not in VARIABLES:
            variable = visible_name(str(row["variable"]))
            raise InputError(f"The variable {variable!r} in {where} is not one of: {', '.join(VARIABLES)}.")
        key = str(row["source"]), str(row["target"]), row["variable"]
        if key in seen:
            source, target = map(visible_name, key[:2])
            raise InputError(f"Rows {seen[key]} and {row['row']} of {path} both have an error of {source} on {target}.")
        seen[key] = row["row"]


def _scale(errors: Sequence[float], unit: Unit, path: Path) -> float:
    """Return the value that stands for an error of 1, which no error may exceed."""
    if unit not in UNITS:
        raise UsageError(f"`unit` is {unit!r}. Expected one of: {', '.join(UNITS)}.")
    largest, smallest = max(errors), min(errors)
    if unit == "auto" and largest > 1 and np.median(errors) <= 1:
        raise UsageError(
            f"Most errors of {path} are at most 1, and the largest is {largest:g}, so it is not clear whether they are "
            'percents. Pass `unit="percent"` if they are, or else correct the errors above 1.'
        )
    scale = 100.0 if unit == "percent" or (unit == "auto" and largest > 1) else 1.0
    if not 0 <= smallest <= largest <= scale:
        wrong = largest if smallest >= 0 else smallest
        raise InputError(
            f"{path} has the error {wrong:g}. Expected errors from 0 to 1 or, if one of them is above 1, percents from "
            "0 to 100."
        )
    return scale


def _line(row: dict[str, Any], setup: Setup, scale: float, path: Path) -> HistoryLine:
    source, size = split_input_size(str(row["source"]))
    held_out = {row["variable"]: row["held_out"]} if "held_out" in row else {}
    try:
        return HistoryLine(
            source=source,
            target=str(row["target"]),
            kind=str(row.get("kind", "unknown")),
            samples=row.get("samples"),
            classes=row.get("classes"),
            setup=replace(setup, input_size=size),
            errors={row["variable"]: row["error"] / scale},
            held_out=held_out,
        )
    except ValidationError as error:
        raise invalid_line(error, f"row {row['row']} of {path}") from error
