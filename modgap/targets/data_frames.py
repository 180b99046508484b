"""Files of columns (CSV, TSV, Parquet) as data frames, in the encodings and dialects of users."""

import codecs
import itertools
import logging
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from modgap.errors import InputError, count
from modgap.labels.written_names import parse_number
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS, open_content
from modgap.storage.limits import check_memory, check_unpacked_size
from modgap.storage.paths import has_suffix

if TYPE_CHECKING:
    from pandas import DataFrame, Index, Series

    Column: TypeAlias = Series[Any]

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
INDEX_NAMES = ("index", "id")
"""Names that columns of row numbers often have."""
UNNAMED = re.compile(r"Unnamed: \d+")
"""Name that pandas gives to a column whose name in the header is empty."""
MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null")
)  # fmt: skip
"""Texts that pandas reads as missing values."""
TextColumns = Callable[[Sequence[str]], Collection[str]]
"""Function that chooses the columns of a CSV file that stay text as it is written, by the names of all columns."""
DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+(?:[eE][-+]?\d+)?\s*")
BYTES_OF_HEADER = 1 << 16
BYTES_OF_BLOCK = 1 << 20
BYTES_PER_VALUE = 8
MAX_CHARACTERS = 40
"""Characters of a value that a message shows."""
MAX_LISTED = 12
"""Largest number of columns that a message lists."""

log = logging.getLogger("modgap")


def read_frame(path: Path, texts: TextColumns | None = None) -> "DataFrame":
    """Read a file with one of SUFFIXES.

    CSV files may have semicolons or tabs between the columns, decimal commas where these are semicolons, and the
    encodings UTF-8, UTF-16 and Latin-1. Everything but commas, decimal points and UTF-8 is logged.

    Args:
        path: The file.
        texts: Columns of a CSV file that stay text as it is written, such as 01, in which an empty text is missing.
            None lets pandas choose all types. Parquet files have types of their own.

    Raises:
        InputError: If the file cannot be read, has no rows, or its rows have more values than its header has names.
    """
    frame = _read_parquet(path) if has_suffix(path, (".parquet",)) else _read_csv(path, texts)
    if not len(frame):
        raise InputError(f"{path} has a header with {count(len(frame.columns), 'column')}, but no rows below it.")
    return frame


@contextmanager
def without_notes() -> Iterator[None]:
    """Leave out the notes on a table that is only looked at, because they follow when its samples are read."""

    def refuse(_record: logging.LogRecord) -> bool:
        return False

    log.addFilter(refuse)
    try:
        yield
    finally:
        log.removeFilter(refuse)


def _read_parquet(path: Path) -> "DataFrame":
    import pandas

    try:
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            table = file.metadata
        # Runs of equal values take few bytes even before compression, so the number of values counts, too.
        stored = sum(table.row_group(number).total_byte_size for number in range(table.num_row_groups))
        size = max(stored, BYTES_PER_VALUE * table.num_rows * table.num_columns)
        check_unpacked_size(path, path.stat().st_size, size)
        size += _check_parquet_texts(path)
        check_memory(path, size)
        frame = pandas.read_parquet(path)
    except ImportError as error:
        raise InputError(
            f"Reading {path} needs pyarrow, which is not installed. Install it with: pip install pyarrow"
        ) from error
    except InputError:
        raise
    except DAMAGED_FILE_ERRORS as error:
        raise InputError(f"cannot read {path} as a Parquet file: {_one_line(error)}") from error
    # An index with a name was a column of the user's frame; one without a name is the number of the row.
    repeated = [name for name in frame.index.names if name is not None and name in frame.columns]
    frame = frame.reset_index(repeated, drop=True) if repeated else frame
    frame = frame.reset_index(drop=frame.index.names == [None])
    frame.columns = frame.columns.map(str)
    return frame.assign(**{name: _decode_bytes(frame[name], path) for name in frame if frame[name].dtype.kind == "O"})


def _check_parquet_texts(path: Path) -> int:
    """Return the number of bytes of all texts of a file, or raise if they unpack to too many.

    A text that many rows share is stored once, and takes its memory in each row.
    """
    from pyarrow import compute, parquet

    with parquet.ParquetFile(path) as file:
        columns = [file.schema.column(number) for number in range(len(file.schema))]
    # Those of lists and records have a path with dots.
    texts = [one.path for one in columns if one.physical_type == "BYTE_ARRAY" and "." not in one.path]
    if not texts:
        return 0
    size = 0
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(columns=texts):
            for column in batch.columns:
                lengths = compute.binary_length(column.dictionary)
                size += compute.sum(compute.take(lengths, column.indices)).as_py() or 0
                check_unpacked_size(path, path.stat().st_size, size)
    return size


def _decode_bytes(column: "Column", path: Path) -> "Column":
    """Return a column with text in place of bytes, as some programs store it."""
    try:
        return column.map(lambda value: value.decode() if isinstance(value, bytes) else value)
    except UnicodeDecodeError as error:
        raise InputError(
            f"The column {str(column.name)!r} of {path} has bytes that are not text in UTF-8 ({error.object[:20]!r}). "
            "Store it as text or numbers."
        ) from error


LAST_ENCODING = "latin-1"
"""Encoding of files that are not UTF-8; every byte is a character in it."""


def _read_csv(path: Path, texts: TextColumns | None) -> "DataFrame":
    try:
        check_memory(path, path.stat().st_size)
        separator, encoding = _dialect(path)
        frame, encoding = _decode_csv(path, separator, encoding, texts)
        written = (frame[name].dropna().map(str) for name in frame if frame[name].dtype.kind in "OT")
        if separator == ";" and any(map(_has_decimal_commas, written)):
            log.info("The numbers of %s are read with decimal commas.", path)
            frame, _ = _decode_csv(path, separator, encoding, texts, decimal=",")
            for name in [] if texts is None else texts(list(map(str, frame.columns))):
                if all(DECIMAL_COMMA.fullmatch(text) or parse_number(text) is not None for text in frame[name]):
                    frame[name] = frame[name].str.replace(",", ".")
    except InputError:
        raise
    except (*DAMAGED_FILE_ERRORS, Warning) as error:
        raise InputError(f"cannot read {path} as comma-separated values: {_one_line(error)}") from error
    if names_are_values(frame.columns):
        text = (
            "The first row of %s is read as the names of the columns: %s. If it is a sample, add a row of names above "
            "it."
        )
        log.warning(text, path, list_names(frame.columns))
    return frame.reset_index(drop=True)


def names_are_values(names: Collection[object]) -> bool:
    """Return True if most names of columns are numbers in no order, some of them not whole, as in a first sample."""
    numbers = [number for name in names if (number := parse_number(str(name))) is not None]
    is_whole = all(number == int(number) for number in numbers)
    in_order = numbers in (sorted(numbers), sorted(numbers, reverse=True))
    return 2 * len(numbers) > len(names) and not is_whole and not in_order


def _has_decimal_commas(texts: "Column") -> bool:
    """Return True if all texts are whole numbers or have decimal commas, and some have these."""
    have_commas = [DECIMAL_COMMA.fullmatch(text) is not None for text in texts]
    return any(have_commas) and all(
        has_comma or parse_number(text.strip()) is not None for has_comma, text in zip(have_commas, texts, strict=True)
    )


def _dialect(path: Path) -> tuple[str, str]:
    """Return the separator and the encoding that the beginning of the file suggests."""
    with open_content(path) as stream:
        head = stream.read(BYTES_OF_HEADER)
        blocks = itertools.chain([head], iter(lambda: stream.read(BYTES_OF_BLOCK), b""))
        has_nul = any(b"\0" in block for block in blocks)
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    if has_nul and encoding == "utf-8":
        raise InputError(
            f"{path} has NUL bytes, at which texts would be cut. Save it again as text in UTF-8, without them."
        )
    if has_suffix(path, (".tsv", ".tsv.gz")):
        return "\t", encoding
    header = head.decode(encoding, "replace").lstrip("\ufeff\r\n").partition("\n")[0]
    unquoted = re.sub(r'"[^"]*"', "", header)
    separator = max(",;\t", key=unquoted.count)
    if separator != ",":
        log.info("The columns of %s are separated by %s.", path, "semicolons" if separator == ";" else "tabs")
    return separator, encoding


def _decode_csv(
    path: Path, separator: str, encoding: str, texts: TextColumns | None, **options: Any
) -> tuple["DataFrame", str]:
    """Return the frame, and the encoding that fits the file."""
    import pandas

    # The whole file decides on the type of a column, not each block of rows.
    # With an index, pandas would take the first column for names of the rows where the header is one name short.
    options |= {"sep": separator, "low_memory": False, "index_col": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)
        try:
            if texts is not None:
                with open_content(path) as stream:
                    header = pandas.read_csv(stream, encoding=encoding, nrows=0, **options).columns
                chosen = texts(list(map(str, header)))
                # pandas numbers columns of one name: label.1 is a second column label.
                if repeated := [name for name in chosen if f"{name}.1" in header and name in header]:
                    _check_single_names(path, encoding, options, repeated)
                options["converters"] = dict.fromkeys(chosen, str)
            with open_content(path) as stream:
                return pandas.read_csv(stream, encoding=encoding, **options), encoding
        except UnicodeDecodeError:
            if encoding == LAST_ENCODING:
                raise
            log.info("%s is not encoded as UTF-8, so it is read as Latin-1. Check names beyond ASCII.", path)
            return _decode_csv(path, separator, LAST_ENCODING, texts, **options)
        except pandas.errors.ParserWarning:
            return _without_row_numbers(path, encoding, options), encoding


def _check_single_names(path: Path, encoding: str, options: dict[str, Any], names: Sequence[str]) -> None:
    """Raise if the header has one of these names several times."""
    import pandas

    with open_content(path) as stream:
        written = pandas.read_csv(stream, encoding=encoding, **options | {"header": None, "nrows": 1, "dtype": str})
    counts = written.iloc[0].value_counts()
    for name in names:
        if counts.get(name, 0) > 1:
            raise InputError(f"{path} has {counts[name]} columns {name!r}. Remove or rename all but one.")


def _without_row_numbers(path: Path, encoding: str, options: dict[str, Any]) -> "DataFrame":
    """Read a file whose header is short by the name of the first column, as R writes it, without this column."""
    import pandas

    with open_content(path) as stream:
        frame = pandas.read_csv(stream, encoding=encoding, **options | {"index_col": None})
    if not _is_row_number(frame.index):
        raise InputError(
            f"The rows of {path} have more values than its header has column names. Add the missing names to the "
            "header, or remove the separators at the ends of the rows."
        )
    text = (
        "The header of %s has one name less than its rows have values. The first column numbers the rows, so it is "
        "left out. If it is a feature, add its name to the header."
    )
    log.warning(text, path)
    return frame.reset_index(drop=True)


def is_nested(column: "Column") -> "Column":
    """Return for each value of a column of a Parquet file whether it is a list or a record."""
    return column.map(lambda value: isinstance(value, list | tuple | dict | set | np.ndarray))


def check_single_values(column: "Column") -> None:
    """Raise if a column of a Parquet file, whose values are labels or groups, has lists or records in its rows.

    Raises:
        InputError: When it has some.
    """
    nested = is_nested(column)
    if nested.any():
        value = str(column[nested].iloc[0])[:MAX_CHARACTERS]
        raise InputError(
            f"The column {str(column.name)!r} has lists or records, such as {value}. Expected one text or number in "
            "each row."
        )


def named_texts(column: "Column", path: Path, noun: str = "label", missing: Collection[str] = ()) -> "Column":
    """Return a column of names that was read as text, with missing values where a name is missing.

    pandas reads about twenty texts such as NA and null as missing values. Among numbers they are missing. Among texts
    only an empty cell is, because NA may be North America and null a class like any other.

    Args:
        column: The column. Columns of Parquet files are returned as they are.
        path: The file.
        noun: `label` or `group`, for the message.
        missing: Further texts that mark missing names.

    Raises:
        InputError: When a name is a list or a record.
    """
    if has_suffix(path, (".parquet",)):
        check_single_values(column)
        return column
    stripped = column.str.strip()
    is_missing = stripped.eq("") | column.isin(list(missing))
    unclear = stripped.isin(MISSING) & ~is_missing
    if unclear.any() and all(parse_number(text) is not None for text in stripped[~unclear & ~is_missing]):
        is_missing |= unclear
    elif unclear.any():
        counts = column[unclear].value_counts()
        names = " and ".join(f"{name!r} ({count(number, 'row')})" for name, number in sorted(counts.items()))
        log.info("The %ss %s of %s are read as names, not as missing values.", noun, names, path)
    return column.mask(is_missing)


def _is_row_number(values: "Index[Any] | Column") -> bool:
    """Return True if the values are 0..N-1 or 1..N in any order."""
    if values.dtype.kind not in "iu" or not len(values):
        return False
    numbers = np.sort(values.to_numpy())
    return bool(numbers[0] in (0, 1) and np.array_equal(numbers, numbers[0] + np.arange(len(numbers))))


def drop_index_columns(frame: "DataFrame", named: Collection[str], path: Path) -> "DataFrame":
    """Return the frame without the columns that only number the rows, and log which are left out.

    In a file that is sorted by class, the number of the row would reveal the label. Such a column has no name or one
    of INDEX_NAMES, and the values 0..N-1 or 1..N. With other distinct whole numbers it stays, with a warning.

    Args:
        frame: The frame.
        named: Columns that an option names, which are never left out.
        path: The file, for the message.
    """
    for column in [name for name in frame.columns if name not in named]:
        is_unnamed = UNNAMED.fullmatch(str(column)) is not None
        if not is_unnamed and str(column).lower() not in INDEX_NAMES:
            continue
        label = "without a name" if is_unnamed else repr(str(column))
        if _is_row_number(frame[column]):
            log.info("The column %s of %s numbers the rows, so it is left out.", label, path)
            frame = frame.drop(columns=column)
        elif frame[column].dtype.kind in "iu" and frame[column].is_unique:
            text = (
                "The column %s of %s has another number in each row, and is read as a feature. If it identifies the "
                "rows, remove it, because it can reveal the labels."
            )
            log.warning(text, label, path)
    return frame


def list_names(names: Collection[object]) -> str:
    """Return the names of columns for a message, which lists of many the first ones and the last one.

    Example:
        >>> list_names(range(12)), list_names(range(14))
        ('0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11', '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2 more and 13')
    """
    listed = list(map(str, names))
    if len(listed) > MAX_LISTED:
        listed[MAX_LISTED - 1 :] = [f"{len(listed) - MAX_LISTED:,} more and {listed[-1]}"]
    return ", ".join(listed)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
