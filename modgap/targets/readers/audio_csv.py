"""Sound files named by CSV tables with their labels, splits or folds, groups, and pieces of one clip."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import files_by_split, single_file
from modgap.targets.samples import SPLITS, Table
from modgap.targets.sound import SoundFiles

__all__ = ["multi_hot", "read"]

Rows = list[dict[str, str]]


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    rate: int,
    file: str,
    label: str | None = None,
    labels: str | None = None,
    delimiter: str = ",",
    class_name: str | None = None,
    fold: str | None = None,
    folds: Mapping[str, Sequence[str]] | None = None,
    clip: str | None = None,
    overlap: float = 0.0,
    groups: Sequence[str] = (),
) -> Table:
    """List the clips; each is decoded, as (1, length) at `rate`, when it is asked for.

    Args:
        files: The folder of the sounds under the role `audio`; tables under `table`, or under `train`, `val`
            and `test`; optionally a JSON file of class names and their numbers under `classes`.
        rate: Values a second, to which other files are resampled.
        file: Column with the file's path; as much of its end counts as is found in the folder.
        label: Column with the one class; numbers keep their order, names are sorted.
        labels: Column with several class names instead.
        delimiter: What separates these.
        class_name: Column with the name of the class that `label` numbers.
        fold: Column with the fold.
        folds: The folds, as written, of `val` and `test`; the others are `train`.
        clip: Column that is equal in all pieces of one clip, which are joined in order of their file names.
        overlap: Seconds that a piece shares with the next one of its clip.
        groups: Columns of what belongs together.

    Raises:
        InputError: When a table lacks a column or names a file that is not there.
    """
    if (label is None) == (labels is None):
        raise InputError("expected one of label and labels in the reader's options, got both or neither")
    folder = single_file(files, "audio")
    wanted = [name for name in (file, label, labels, class_name, fold, clip, *groups) if name is not None]
    tables = [(code, _rows(path, wanted)) for code, path in _tables(files)]
    rows = [row for _, part in tables for row in part]
    codes = [code for code, part in tables for _ in part]
    paths = _placed([row[file] for row in rows], folder)
    pieces = _pieces(rows, codes, paths, clip)
    firsts = [min(numbers) for numbers in pieces]
    chosen = [rows[first] for first in firsts]
    clips = tuple(tuple(sorted(paths[number] for number in numbers)) for numbers in pieces)
    if labels is not None:
        _same_labels(rows, pieces, labels)
        known = _class_numbers(single_file(files, "classes")) if "classes" in files else None
        marks, classes = multi_hot([row[labels].split(delimiter) for row in chosen], known)
    else:
        marks, classes = _one_class(chosen, str(label), class_name)
    return Table(
        SoundFiles(clips, rate, overlap),
        marks,
        classes,
        _splits([codes[first] for first in firsts], chosen, fold, folds or {}),
        {name: np.array([row[name] for row in chosen]) for name in groups} or None,
    )


def _tables(files: Mapping[str, Sequence[Path]]) -> list[tuple[int | None, Path]]:
    if "table" in files:
        return [(None, path) for path in files["table"]]
    return [(code, path) for code, path in files_by_split(files)]


def _rows(path: Path, wanted: Sequence[str]) -> Rows:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            table = csv.DictReader(stream)
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read table {path}: {error}") from error
    missing = [name for name in wanted if name not in (table.fieldnames or ())]
    if missing:
        raise InputError(f"expected the columns {', '.join(wanted)} in {path}, got {', '.join(table.fieldnames or ())}")
    for number, row in enumerate(rows, start=2):
        if any(row[name] is None for name in wanted):
            raise InputError(f"expected {len(table.fieldnames or ())} values in line {number} of {path}, got fewer")
    return rows


def _placed(names: Sequence[str], folder: Path) -> list[str]:
    """Paths of the files; the first one tells how much of a name's start is another machine's folder."""
    if not names:
        return []
    parts = Path(names[0]).parts
    cut = next((n for n in range(len(parts)) if folder.joinpath(*parts[n:]).is_file()), None)
    if cut is None:
        raise InputError(f"expected sound file {names[0]} in {folder}, found none")
    paths = [str(folder.joinpath(*Path(name).parts[cut:])) for name in names]
    present = {str(p) for place in {Path(path).parent for path in paths} if place.is_dir() for p in place.iterdir()}
    absent = [path for path in paths if path not in present]
    if absent:
        raise InputError(f"expected {len(paths)} sound files in {folder}, {len(absent)} are missing, first {absent[0]}")
    return paths


def _pieces(rows: Rows, codes: Sequence[int | None], paths: Sequence[str], clip: str | None) -> list[list[int]]:
    """Numbers of the rows of each clip; a clip's pieces lie in one split."""
    if clip is None:
        return [[number] for number in range(len(rows))]
    found: dict[tuple[int | None, str], list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault((codes[number], row[clip]), []).append(number)
    return list(found.values())


def _same_labels(rows: Rows, pieces: Sequence[Sequence[int]], labels: str) -> None:
    for numbers in pieces:
        if len({rows[number][labels] for number in numbers}) > 1:
            raise InputError(f"expected the same labels on all pieces of a clip, got others on {rows[numbers[0]]}")


def _class_numbers(path: Path) -> dict[str, int]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read class names {path}: {error}") from error
    numbers = sorted(known.values()) if isinstance(known, dict) else None
    if numbers != list(range(len(known))):
        raise InputError(f"expected class names with the numbers 0 to K - 1 in {path}, got others")
    return known


def multi_hot(named: Sequence[Sequence[str]], known: Mapping[str, int] | None) -> tuple[np.ndarray, list[str]]:
    """0/1 labels (N, K) and class names, from the class names of each sample.

    Args:
        named: Class names of each sample.
        known: Number of each class; None numbers the names that occur in their order.

    Raises:
        InputError: When a name is unknown.
    """
    names = [[name.strip() for name in each if name.strip()] for each in named]
    known = known or {name: k for k, name in enumerate(sorted({name for each in names for name in each}))}
    strange = sorted({name for each in names for name in each} - set(known))
    if strange:
        raise InputError(f"expected labels among {len(known)} class names, got {', '.join(strange[:3])} too")
    marks = np.zeros((len(names), len(known)), np.int64)
    for row, each in enumerate(names):
        marks[row, [known[name] for name in each]] = 1
    return marks, sorted(known, key=lambda name: known[name])


def _one_class(rows: Rows, label: str, class_name: str | None) -> tuple[np.ndarray, list[str]]:
    written = [row[label] for row in rows]
    numbered = all(value.lstrip("-").isdigit() for value in written)
    found = sorted(set(written), key=int) if numbered else sorted(set(written))
    number = {value: int(value) if numbered else k for k, value in enumerate(found)}
    marks = np.array([number[value] for value in written], np.int64)
    if class_name is None:
        return marks, found
    names = {(row[label], row[class_name]) for row in rows}
    if len(names) != len(found):
        raise InputError(f"expected one name in column {class_name} for each {label}, got {len(names)} pairs")
    by_label = dict(names)
    return marks, [by_label[value] for value in found]


def _splits(codes: list[int | None], rows: Rows, fold: str | None, folds: Mapping[str, Sequence[str]]):
    if fold is None:
        return None if not codes or codes[0] is None else np.array(codes)
    strange = set(folds) - set(SPLITS)
    if strange:
        raise InputError(f"expected folds of {', '.join(SPLITS)}, got {', '.join(sorted(strange))}")
    of = {str(value): SPLITS.index(split) for split, values in folds.items() for value in values}
    absent = set(of) - {row[fold] for row in rows}
    if absent:
        raise InputError(f"expected the folds {', '.join(sorted(of))} in column {fold}, got none of {sorted(absent)}")
    return np.array([of.get(row[fold], SPLITS.index("train")) for row in rows])
