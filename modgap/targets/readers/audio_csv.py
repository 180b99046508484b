"""Sound files listed in CSV tables with their labels, splits or folds, groups, and pieces of one clip."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.labels.written_names import number_names
from modgap.storage.damaged_files import one_line_errors
from modgap.storage.json_records import parse_json
from modgap.storage.paths import is_folder, is_regular_file
from modgap.targets.file_layout import data_files, list_files, single_file
from modgap.targets.samples import SPLITS, Table
from modgap.targets.sound import SUFFIXES, SoundFiles

Rows = list[dict[str, str]]


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    rate: int,
    file_column: str,
    label_column: str | None = None,
    labels_column: str | None = None,
    delimiter: str = ",",
    class_name_column: str | None = None,
    fold_column: str | None = None,
    folds: Mapping[str, Sequence[str]] | None = None,
    clip_column: str | None = None,
    overlap: float = 0.0,
    group_columns: Sequence[str] = (),
) -> Table:
    """List the clips. Each is decoded to (1, length) at `rate` when it is read.

    Args:
        files: The folder of the sound files under the role `audio`; tables under `table`, or under `train`, `val`
            and `test`; optionally a JSON file with the number of each class name under `classes`, and a folder of
            sound files without labels under `noise`, for augmentation.
        rate: Sampling rate in hertz. Files of another rate are resampled.
        file_column: Column of the file's path. Leading folders that are not in the audio folder are ignored.
        label_column: Column of the class, for one class in each row. Numbers keep their order, names are sorted.
        labels_column: Column of a list of class names, for multi-label targets. Exactly one of `label_column` and
            `labels_column` must be set.
        delimiter: Text between the names of such a list.
        class_name_column: Column of the name of the class that `label_column` numbers. None uses the label.
        fold_column: Column of the fold. None if the table has no folds.
        folds: Folds of `val` and `test`, as written in the table. The other folds are `train`.
        clip_column: Column that is equal in all pieces of one clip. Pieces are joined in the order of their file
            names. None if every row is a clip.
        overlap: Seconds that a piece shares with the next one of its clip.
        group_columns: Columns of the groups of samples that belong together.

    Raises:
        InputError: When a table lacks a column or names a file that does not exist.
    """
    if (label_column is None) == (labels_column is None):
        raise InputError("expected one of label_column and labels_column in the reader's options, got both or neither")
    folder = single_file(files, "audio")
    optional_columns = (label_column, labels_column, class_name_column, fold_column, clip_column)
    columns = [file_column, *(name for name in optional_columns if name is not None), *group_columns]
    tables = [(code, _read_rows(path, columns)) for code, path in data_files(files, "table")]
    rows = [row for _, part in tables for row in part]
    codes = [code for code, part in tables for _ in part]
    paths = _locate_files([row[file_column] for row in rows], folder)
    pieces = _rows_of_clips(rows, codes, clip_column)
    first_rows = [min(numbers) for numbers in pieces]
    clip_rows = [rows[first] for first in first_rows]
    clips = tuple(tuple(sorted(paths[number] for number in numbers)) for numbers in pieces)
    if labels_column is not None:
        for clip in pieces:
            if len({rows[number][labels_column] for number in clip}) > 1:
                raise InputError(f"expected the same labels on all pieces of a clip, got others on {rows[clip[0]]}")
        numbers = _read_class_numbers(single_file(files, "classes")) if "classes" in files else None
        labels, classes = multi_hot([row[labels_column].split(delimiter) for row in clip_rows], numbers)
    else:
        labels, classes = _single_labels(clip_rows, str(label_column), class_name_column)
    noise = list_files(single_file(files, "noise"), SUFFIXES) if "noise" in files else ()
    return Table(
        SoundFiles(clips, rate, overlap),
        labels,
        classes,
        _splits([codes[first] for first in first_rows], clip_rows, fold_column, folds or {}),
        {name: np.array([row[name] for row in clip_rows]) for name in group_columns} or None,
        noise=SoundFiles.of_paths(noise, rate) if noise else None,
    )


def _read_rows(path: Path, columns: Sequence[str]) -> Rows:
    with one_line_errors(f"cannot read table {path}"), path.open(newline="", encoding="utf-8") as stream:
        table = csv.DictReader(stream)
        rows = list(table)
        names = table.fieldnames or ()
    if not set(columns) <= set(names):
        raise InputError(f"expected the columns {', '.join(columns)} in {path}, got {', '.join(names)}")
    for number, row in enumerate(rows, start=2):
        if any(row[name] is None for name in columns):
            raise InputError(f"expected {len(names)} values in line {number} of {path}, got fewer")
    return rows


def _locate_files(names: Sequence[str], folder: Path) -> list[str]:
    """Return the paths of the files that a table names.

    The first name determines how many leading folders of all names are ignored, because they are folders of the
    machine on which the table was written.
    """
    if not names:
        return []
    parts = Path(names[0]).parts
    cut = next((n for n in range(len(parts)) if is_regular_file(folder.joinpath(*parts[n:]))), None)
    if cut is None:
        raise InputError(f"expected sound file {names[0]} in {folder}, found none")
    paths = [str(folder.joinpath(*Path(name).parts[cut:])) for name in names]
    folders = {Path(path).parent for path in paths}
    existing = {str(path) for parent in folders if is_folder(parent) for path in parent.iterdir()}
    if missing := [path for path in paths if path not in existing]:
        raise InputError(
            f"expected {len(paths)} sound files in {folder}, {len(missing)} are missing, first {missing[0]}"
        )
    return paths


def _rows_of_clips(rows: Rows, codes: Sequence[int | None], clip_column: str | None) -> list[list[int]]:
    """Return the numbers of the rows of each clip. Rows of different splits are different clips."""
    if clip_column is None:
        return [[number] for number in range(len(rows))]
    clips: dict[tuple[int | None, str], list[int]] = {}
    for number, row in enumerate(rows):
        clips.setdefault((codes[number], row[clip_column]), []).append(number)
    return list(clips.values())


def _read_class_numbers(path: Path) -> dict[str, int]:
    with one_line_errors(f"cannot read class names {path}"):
        numbers: dict[str, int] = parse_json(path.read_text(encoding="utf-8"))
    whole = isinstance(numbers, dict) and all(type(number) is int for number in numbers.values())
    if not whole or sorted(numbers.values()) != list(range(len(numbers))):
        raise InputError(f"expected class names with the numbers 0 to K - 1 in {path}, got others")
    return numbers


def multi_hot(sample_names: Sequence[Sequence[str]], numbers: Mapping[str, int] | None) -> tuple[np.ndarray, list[str]]:
    """Return 0/1 labels (N, K) and class names, from the class names of each sample.

    Args:
        sample_names: Class names of each of the N samples. Empty names are ignored.
        numbers: Number of each class. None numbers the names that occur in alphabetical order.

    Raises:
        InputError: When a name is unknown.
    """
    stripped = [name.strip() for names in sample_names for name in names]
    numbered = number_names(stripped)
    composed = dict(zip(stripped, (numbered.names[number] for number in numbered.numbers), strict=True))
    names_by_sample = [[composed[name.strip()] for name in names if name.strip()] for names in sample_names]
    occurring = {name for names in names_by_sample for name in names}
    if numbers is None:
        numbers = {name: k for k, name in enumerate(sorted(occurring))}
    if unknown := sorted(occurring - set(numbers)):
        raise InputError(f"expected labels among {len(numbers)} class names, got unknown {', '.join(unknown[:3])}")
    labels = np.zeros((len(names_by_sample), len(numbers)), np.int64)
    for row, names in enumerate(names_by_sample):
        labels[row, [numbers[name] for name in names]] = 1
    return labels, sorted(numbers, key=lambda name: numbers[name])


def _single_labels(rows: Rows, label_column: str, class_name_column: str | None) -> tuple[np.ndarray, list[str]]:
    numbered = number_names(
        [row[label_column] for row in rows], spelling="refuse", way_out=f"They are in the column {label_column!r}."
    )
    if class_name_column is None:
        return numbered.numbers, list(numbered.names)
    named = number_names([row[class_name_column] for row in rows])
    pairs = set(zip(numbered.numbers.tolist(), named.numbers.tolist(), strict=True))
    if len(pairs) != len(numbered.names):
        raise InputError(
            f"expected one name in column {class_name_column} for each {label_column}, got {len(pairs)} pairs"
        )
    return numbered.numbers, [named.names[number] for _, number in sorted(pairs)]


def _splits(
    codes: list[int | None], rows: Rows, fold_column: str | None, folds: Mapping[str, Sequence[str]]
) -> np.ndarray | None:
    if fold_column is None:
        return None if not codes or codes[0] is None else np.array(codes)
    if unknown := set(folds) - set(SPLITS):
        raise InputError(f"expected folds of {', '.join(SPLITS)}, got {', '.join(sorted(unknown))}")
    code_of_fold = {str(fold): SPLITS.index(split) for split, names in folds.items() for fold in names}
    if absent := set(code_of_fold) - {row[fold_column] for row in rows}:
        raise InputError(
            f"expected the folds {', '.join(sorted(code_of_fold))} in column {fold_column}, "
            f"got none of {sorted(absent)}"
        )
    return np.array([code_of_fold.get(row[fold_column], SPLITS.index("train")) for row in rows])
