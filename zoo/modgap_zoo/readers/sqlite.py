"""Tables of SQLite databases: some columns are the values of a sample, and one its label."""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modgap.errors import InputError, first_line
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.storage.limits import check_memory
from modgap.targets.file_layout import single_file
from modgap.targets.readers.csv import check_columns, read_labels, read_values
from modgap.targets.samples import ArraySamples, Table

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_LISTED = 12
"""Largest number of tables or columns that a message lists."""
MAX_DATABASE_VALUE_BYTES = 1 << 20
MAX_DATABASE_SECONDS = 60.0
ROWS_AT_ONCE = 10_000
INSTRUCTIONS_PER_CHECK = 100_000
"""Instructions of SQLite after which the time is compared with the limit."""
ALLOWED_ACTIONS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)


def sample_versions() -> dict[str, str]:
    """Return no versions, because the samples of a file are the same in all versions of this reader."""
    return {}


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    table: str,
    label_column: str,
    columns: Sequence[str],
    missing_values: Literal["refuse", "keep", "drop"] = "refuse",
) -> Table:
    """Read columns of a table.

    Args:
        files: One path under the role `data`.
        table: Name of the table.
        label_column: Column of the label. If all labels are numbers, and some are not whole, they are real-valued
            targets; other labels are classes, named as they are written.
        columns: Columns of numbers, which are the features (1, D) of a row.
        missing_values: `refuse` raises an error for missing or infinite values, `keep` keeps missing values as NaN for
            the step `fill`, and `drop` leaves out the rows that have some.

    Raises:
        InputError: When the file is damaged, a limit is exceeded, columns are missing or not numeric, or values are
            missing.
    """
    frame = _read_frame(single_file(files, "data"), table, [label_column, *columns])
    check_columns(frame, [label_column])
    rows, values = read_values(frame[list(columns)], missing_values)
    labels, classes, targets = read_labels(frame[label_column].iloc[rows])
    names = None if len(rows) == len(frame) else [str(row) for row in rows]
    return Table(ArraySamples(values[:, None]), labels, classes, targets=targets, columns=tuple(columns), names=names)


def _read_frame(path: Path, table: str, columns: Sequence[str]) -> "DataFrame":
    """Read columns of a table of an SQLite database, which is opened for reading only and may be hostile.

    Views, virtual tables and columns that SQL computes are refused. The size of a value and the time are limited.

    Raises:
        InputError: If the file is damaged, a limit is exceeded, or there is no such table or column.
    """
    import pandas

    try:
        size = path.stat().st_size
        check_memory(path, size)
        address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as connection:
            rows = _select_rows(connection, table, columns, size)
    except InputError:
        raise
    except (sqlite3.Error, *DAMAGED_FILE_ERRORS) as error:
        reason = first_line(error)
        if reason == "interrupted":
            reason = f"it takes longer than {MAX_DATABASE_SECONDS:.0f} s"
        raise InputError(f"cannot read the table {table!r} of the SQLite database {path}: {reason}") from error
    if not rows:
        raise InputError(f"The table {table!r} of {path} has no rows.")
    return pandas.DataFrame(rows, columns=list(columns))


def _select_rows(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], max_content: int
) -> list[tuple[object, ...]]:
    """Return the rows of these columns, by a connection that can do nothing else."""
    end = time.monotonic() + MAX_DATABASE_SECONDS
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_DATABASE_VALUE_BYTES)
    connection.set_progress_handler(lambda: time.monotonic() > end, INSTRUCTIONS_PER_CHECK)
    for setting in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {setting}")
    schema = connection.execute("SELECT name, type, rootpage FROM sqlite_master LIMIT 1000").fetchall()
    # Views and virtual tables have no page of their own, and a column that SQL computes is hidden.
    tables = [str(name) for name, kind, page in schema if kind == "table" and isinstance(page, int) and page > 0]
    _check_names("table", [table], tables)
    described = connection.execute(f"PRAGMA table_xinfo({_quoted(table)})").fetchall()
    _check_names("column", columns, [str(name) for _, name, *_, hidden in described if not hidden])
    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in ALLOWED_ACTIONS else sqlite3.SQLITE_DENY
    )
    cursor = connection.execute(f"SELECT {', '.join(map(_quoted, columns))} FROM {_quoted(table)}")
    rows: list[tuple[object, ...]] = []
    n_letters = 0
    while chunk := cursor.fetchmany(ROWS_AT_ONCE):
        rows += chunk
        n_letters += sum(len(value) for row in chunk for value in row if isinstance(value, str | bytes))
        # In a damaged file, several rows can share the same bytes.
        if len(rows) + n_letters > max_content:
            raise ValueError("its rows have more content than the file has bytes")
    return rows


def _check_names(noun: str, names: Sequence[str], existing: Sequence[str]) -> None:
    if missing := [name for name in names if name not in existing]:
        listed = f"{', '.join(existing[:MAX_LISTED]) or 'none'}{', ...' if len(existing) > MAX_LISTED else ''}"
        raise ValueError(f"it has no {noun} {missing[0]!r}. Its {noun}s are: {listed}")


def _quoted(name: str) -> str:
    """Return a name of SQL in quotes."""
    return '"' + name.replace('"', '""') + '"'
