"""New samples without labels, in the forms that users have them, for a model that was trained on similar data."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.storage.array_formats import map_npy
from modgap.storage.damaged_files import convert_read_errors
from modgap.storage.paths import has_suffix
from modgap.targets.categories import with_known_categories, written_columns
from modgap.targets.custom import ARRAY_SUFFIXES, SERIES_SUFFIXES
from modgap.targets.data_frames import SUFFIXES as FRAME_SUFFIXES
from modgap.targets.data_frames import list_names, read_frame
from modgap.targets.file_layout import list_files
from modgap.targets.manifest import InputSpec
from modgap.targets.readers.arrays import map_arrays, shape_array
from modgap.targets.readers.csv import long_series, texts_as_written
from modgap.targets.readers.image_folder import ImageFiles
from modgap.targets.readers.listed_files import KINDS, listed_paths
from modgap.targets.readers.ts import read_series
from modgap.targets.samples import ArraySamples, Samples, TextSamples
from modgap.targets.sound import SoundFiles

if TYPE_CHECKING:
    from pandas import DataFrame, Series

log = logging.getLogger("modgap")

TEXT_COLUMN = "text"
NOUNS = {"image": "image", "audio": "sound"}
"""Nouns of samples that are files, by their kind."""


@dataclass(frozen=True)
class UnlabeledSamples:
    """New samples.

    Attributes:
        samples: The N samples.
        names: Name of each sample: its file relative to the folder, or the number of its row, from 0.
        groups: Group of each sample of a table, as it is written; None if the table has no column of groups.
        order: Numbers of the samples in the order in which they begin in a table in long format, shape (N,); else None.
    """

    samples: Samples
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    order: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        """Return one sample: an array or a string."""
        return self.samples[index]


def read_unlabeled(
    path: Path,
    spec: InputSpec,
    *,
    columns: Sequence[str] | None = None,
    series_column: str | None = None,
    time_column: str | None = None,
    group_column: str | None = None,
    keep_missing: bool = False,
    background: str = "white",
    x_name: str | None = None,
) -> UnlabeledSamples:
    """Read new samples. Labels that the data has are ignored.

    Args:
        path: Folder of images or sounds, at any depth, or one of them; a table that lists such files in a column `file`
            or `path`; a table with one sample in a row; a .ts file of series; a .txt file with a text in each line, or
            a table with a column `text`; or a file of arrays.
        spec: Description of a sample.
        columns: Columns of values of a table with one sample in a row, in order. None if the samples do not come from
            such a table.
        series_column: Column that names the series of each row, for a table in long format. None if each row is a
            sample.
        time_column: Column that orders the rows of a series. None keeps their order.
        group_column: Column that names the group of each sample, if the table has it. None if there is none.
        keep_missing: True to keep missing cells as NaN, for a later step that fills them.
        background: Color that transparent images are composited on.
        x_name: Name of the array of samples; None for x, or the only array of the file.

    Raises:
        UsageError: When the data has another form than samples of this kind.
        InputError: When there is nothing to read, or a file is broken.
    """
    if not path.exists():
        raise InputError(f"There is no file or folder {path}. Check the path.")
    if path.is_file() and has_suffix(path, ARRAY_SUFFIXES):
        return _from_arrays(path, spec, x_name)
    if spec.kind in NOUNS:
        return _from_files(path, spec, background, group_column)
    if spec.kind == "text":
        return _from_texts(path, group_column)
    if columns is not None and path.is_file() and has_suffix(path, FRAME_SUFFIXES):
        return _from_table(path, columns, (series_column, time_column, group_column), keep_missing)
    if spec.kind == "series" and path.is_file() and has_suffix(path, SERIES_SUFFIXES):
        return _numbered(read_series(path))
    expected = "a file of arrays (.npy, .npz)" + (" or a .ts file" if spec.kind == "series" else "")
    if columns is not None:
        expected = f"a table with the columns {list_names(written_columns(columns))}, or {expected}"
    noun = "rows of a table" if columns is not None else "videos" if spec.kind == "video" else spec.kind
    raise UsageError(f"The model takes {noun}, and modgap cannot read them from {path}. Expected {expected}.")


def _from_arrays(path: Path, spec: InputSpec, x_name: str | None) -> UnlabeledSamples:
    if has_suffix(path, (".npy",)):
        with convert_read_errors(path):
            array = map_npy(path)
    else:
        arrays = map_arrays(path)
        name = x_name or ("x" if "x" in arrays or len(arrays) != 1 else next(iter(arrays)))
        if name not in arrays:
            raise UsageError(
                f"{path} has no array {name}. It has: {', '.join(sorted(arrays)) or 'no arrays'}. Name the samples "
                'with `custom_data={"x_name": "NAME"}`.'
            )
        array = arrays[name]
    kind = "image" if spec.kind == "image" else "series"
    if spec.kind == "video":
        raise UsageError("Videos are read from files by the reader of their target. Pass the name of a target.")
    samples = shape_array(array, kind, path)
    if not len(samples):
        raise InputError(f"{path} has no samples.")
    return _numbered(samples)


def _numbered(samples: Samples) -> UnlabeledSamples:
    return UnlabeledSamples(samples, tuple(map(str, range(len(samples)))))


def _from_files(path: Path, spec: InputSpec, background: str, group_column: str | None) -> UnlabeledSamples:
    noun, groups = NOUNS[spec.kind], None
    suffixes = KINDS[noun]
    if path.is_dir():
        paths = list_files(path, suffixes)
        names = tuple(_name_below(path, file) for file in paths)
        others = sorted(file for file in set(list_files(path)) - set(paths) if not file.name.startswith("."))
        if paths and others:
            ignored = list_names([_name_below(path, file) for file in others])
            log.info("%s no %s, and %s ignored: %s.", *_are(len(others), noun), ignored)
        if not paths:
            raise InputError(f"{path} has no {noun}s in a format that can be read ({', '.join(sorted(suffixes))}).")
    elif has_suffix(path, tuple(suffixes)):
        paths, names = [path], (path.name,)
    elif has_suffix(path, FRAME_SUFFIXES):
        frame = read_frame(path, lambda names: [name for name in names if name == group_column])
        listed = listed_paths(path, noun, frame)
        assert listed is not None, "The kind of the files is given."
        paths = listed[0]
        names, groups = tuple(_name_below(path.parent, file) for file in paths), _groups_of(frame, group_column)
    else:
        raise UsageError(
            f"modgap cannot read {noun}s from {path}. Expected a folder of {noun}s, one of them, a table that lists "
            "them, or a file of arrays."
        )
    if noun == "image":
        return UnlabeledSamples(ImageFiles(paths, background), names, groups)
    if spec.rate is None:
        raise InputError("The trained model's sounds have no sampling rate, so files cannot be resampled to it.")
    return UnlabeledSamples(SoundFiles.of_paths(paths, int(spec.rate)), names, groups)


def _are(number: int, noun: str) -> tuple[str, str, str]:
    """Return the beginning, the noun and the verb of a sentence about some files that are not read."""
    if number == 1:
        return "1 file is", noun, "is"
    return f"{number:,} files are", f"{noun}s", "are"


def _from_texts(path: Path, group_column: str | None) -> UnlabeledSamples:
    """Read the lines of a .txt file that are not empty, or the column of texts of a table."""
    groups = None
    if path.is_file() and has_suffix(path, (".txt",)):
        with convert_read_errors(path, "texts"):
            # Only ends of lines separate texts, and no other characters that Unicode counts as such.
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        texts = {str(number): line for number, line in enumerate(lines) if line.strip()}
    elif path.is_file() and has_suffix(path, FRAME_SUFFIXES):
        frame = read_frame(path, lambda names: [name for name in names if name in (TEXT_COLUMN, group_column)])
        if TEXT_COLUMN not in frame.columns:
            raise UsageError(
                f"{path} has no column {TEXT_COLUMN}. It has {list_names(frame.columns)}. Rename the one of the texts."
            )
        column = texts_as_written(frame[TEXT_COLUMN])
        if column.isna().any():
            raise InputError(f"{int(column.isna().sum())} rows of {path} have no text. Fill them, or drop the rows.")
        texts = {str(number): str(text) for number, text in enumerate(column)}
        groups = _groups_of(frame, group_column)
    else:
        raise UsageError(
            f"modgap cannot read texts from {path}. Expected a .txt file with a text in each line, or a table with a "
            f"column {TEXT_COLUMN}."
        )
    if not texts:
        raise InputError(f"{path} has no texts.")
    return UnlabeledSamples(TextSamples(list(texts.values())), tuple(texts), groups)


def _groups_of(frame: "DataFrame", group_column: str | None) -> tuple[str, ...] | None:
    """Return the group of each row as it is written, empty if it is missing; None without a column of groups."""
    if group_column not in frame.columns:
        return None
    column = frame[group_column]
    return tuple(column.astype(object).where(column.notna(), "").astype(str))


def _name_below(folder: Path, file: Path) -> str:
    """Return the path of a file relative to a folder, or as it is if it lies elsewhere."""
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def _from_table(
    path: Path, columns: Sequence[str], named: tuple[str | None, str | None, str | None], keep_missing: bool
) -> UnlabeledSamples:
    """Read the rows of a table, with the arguments of `rows_of_frame`."""
    series_column, _, group_column = named
    # Groups and names of series stay as they are written.
    frame = read_frame(path, lambda names: [name for name in names if name in (group_column, series_column)])
    return rows_of_frame(frame, f"table {path}", columns, named, keep_missing=keep_missing)


def _as_numbers(column: "Series[Any]") -> "Series[Any]":
    """Return the column as numbers if all of its cells are numbers or missing, else as it is."""
    import pandas

    if column.dtype.kind in "fiub":
        return column
    numbers = pandas.to_numeric(column, errors="coerce")
    return numbers if numbers.isna().equals(column.isna()) else column


def rows_of_frame(
    frame: "DataFrame",
    origin: str,
    columns: Sequence[str],
    named: tuple[str | None, str | None, str | None],
    *,
    keep_missing: bool,
) -> UnlabeledSamples:
    """Return the rows of a data frame as samples.

    Args:
        frame: The data frame.
        origin: What it is, in messages, such as `data frame`.
        columns: Columns of values, as for `read_unlabeled`.
        named: Columns of the series, of the time and of the groups, if there are any.
        keep_missing: True to keep missing cells as NaN.

    Raises:
        UsageError: When a column is missing.
        InputError: When cells are missing, or no numbers.
    """
    series_column, time_column, group_column = named
    if series_column in frame.columns:
        frame = frame.copy()
        frame[series_column] = texts_as_written(frame[series_column])
    if repeated := [str(name) for name in frame.columns[frame.columns.duplicated()]]:
        raise UsageError(f"The {origin} has several columns of the name {list_names(repeated)}. Rename or drop them.")
    in_file, groups = list_names(frame.columns), _groups_of(frame, group_column)
    frame = with_known_categories(frame, columns)
    by_name = {str(name): name for name in frame.columns}
    needed = [name for name in (series_column, time_column) if name is not None]
    missing = [name for name in (*columns, *needed) if name not in by_name]
    if missing:
        raise UsageError(
            f"The {origin} lacks {list_names(written_columns(missing))} of the columns that the model was trained on. "
            f"It has {in_file}."
        )
    # Numbers in a column of objects, such as those beside None, count as numbers.
    selected = frame[[by_name[name] for name in columns]].apply(_as_numbers)
    texts = [str(name) for name in selected.columns if selected[name].dtype.kind not in "fiub"]
    if texts:
        raise InputError(
            f"Expected numbers in {list_names(written_columns(columns))} of the {origin}, got text in "
            f"{list_names(texts)}."
        )
    values = selected.to_numpy(dtype=np.float64)
    bad = np.isinf(values) if keep_missing else ~np.isfinite(values)
    if bad.any():
        rows = np.flatnonzero(bad.any(axis=1))
        shown = ", ".join(map(str, rows[:8])) + (" and others" if len(rows) > 8 else "")
        has = "row has" if len(rows) == 1 else "rows have"
        raise InputError(
            f"{len(rows):,} {has} missing or infinite values in the {origin}: {shown}, counted from 0 without the "
            "header. Fill them, or drop the rows."
        )
    if frame[needed].isna().any(axis=None):
        raise InputError(
            f"Some rows of the {origin} have no value in {list_names(needed)}. Fill them, or drop the rows."
        )
    if series_column is None:
        return replace(_numbered(ArraySamples(values[:, None])), groups=groups)
    first_rows, series = long_series(frame, values, series_column, time_column)
    of_series = None if groups is None else tuple(groups[row] for row in first_rows)
    names = tuple(str(name) for name in frame[series_column].iloc[first_rows])
    return UnlabeledSamples(series, names, of_series, np.argsort(first_rows))
