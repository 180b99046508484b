"""Columns of text with few values, which become a column of 0 and 1 for each value."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modgap.labels.written_names import parse_number
from modgap.targets.data_frames import is_nested, list_names

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MOST_CATEGORIES = 20
"""Largest number of different values of a column that is read as categories."""

log = logging.getLogger("modgap")


def category_columns(frame: "DataFrame", names: Sequence[object]) -> list[object]:
    """Return those of some columns that are text with few different values, each of them in two rows on average.

    Columns with numbers among the text are left out, since the text may be a mark of missing cells.
    """
    return [name for name in names if frame[name].dtype.kind not in "fiubM" and _is_category(frame[name])]


def _is_category(column: "Series[str]") -> bool:
    if is_nested(column).any():
        return False
    values = _texts(column).dropna().unique()
    are_few = 0 < len(values) <= min(MOST_CATEGORIES, len(column) / 2)
    return are_few and all(parse_number(value.strip().replace(",", ".")) is None for value in values)


def _texts(column: "Series[str]") -> "Series[str]":
    return column.astype(object).map(str, na_action="ignore")


def encode_categories(frame: "DataFrame", columns: Sequence[object]) -> "DataFrame":
    """Return a table in which these columns are replaced by one for each value, `NAME=VALUE`, with 0 and 1.

    A missing cell is 0 in all of them.
    """
    import pandas

    parts = []
    for name in frame.columns:
        if name not in columns:
            parts.append(frame[[name]])
            continue
        values = sorted(_texts(frame[name]).dropna().unique())
        parts.append(_indicators(frame[name], {value: f"{name}={value}" for value in values}))
    if columns:
        listed = list_names([f"{name} ({frame[name].nunique()})" for name in columns])
        log.info("Columns of text are read as categories, each value as a column of 0 and 1: %s.", listed)
    return pandas.concat(parts, axis=1)


def with_known_categories(frame: "DataFrame", columns: Sequence[str]) -> "DataFrame":
    """Return a table of new samples with the columns `NAME=VALUE` of a model whose column `NAME` it has.

    A value that the model does not know is 0 in all of them, which is logged.

    Args:
        frame: The table.
        columns: Columns of the model.
    """
    import pandas

    by_name = {str(name): name for name in frame.columns}
    columns_of: dict[str, dict[str, str]] = {}
    for column in columns:
        parts = column.split("=")
        for n_parts in range(1, len(parts) if column not in by_name else 0):
            if (name := "=".join(parts[:n_parts])) in by_name:
                columns_of.setdefault(name, {})["=".join(parts[n_parts:])] = column
    frames = [frame]
    for name, values in columns_of.items():
        column = frame[by_name[name]]
        unknown = sorted(set(_texts(column).dropna()) - set(values))
        if unknown:
            text = "The model knows no %s %s, so that these samples have none of its categories."
            log.warning(text, name, list_names(unknown))
        frames.append(_indicators(column, values))
    return pandas.concat(frames, axis=1)


def written_columns(columns: Sequence[str]) -> list[str]:
    """Return columns of a model as its table has them: `NAME` in place of several columns `NAME=VALUE`.

    Example:
        >>> written_columns(["age", "sex=f", "sex=m", "dose=2"])
        ['age', 'sex', 'dose=2']
    """
    n_values = Counter(column.partition("=")[0] for column in columns)
    return list(dict.fromkeys(name if n_values[name := one.partition("=")[0]] > 1 else one for one in columns))


def _indicators(column: "Series[str]", names: dict[str, str]) -> "DataFrame":
    import pandas

    texts = _texts(column)
    return pandas.DataFrame({name: (texts == value).astype(float) for value, name in names.items()}, column.index)
