"""Tables of the classes beside the record of a discrepancy: errors by class, and the confusion matrix."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modgap.formatting import plain_text

__all__ = ["ClassRow", "ClassTables", "read_class_tables"]

MAX_BYTES = 20_000_000
"""Largest size of a table that is read."""


@dataclass(frozen=True)
class ClassRow:
    """Held-out error of one target class, as `classes.csv` has it.

    Attributes:
        name: Name of the target class.
        source_class: Name of its source class.
        n_samples: Number of tested samples.
        error: Share of these samples that are misclassified.
        interval: 95 % interval of the error. None if the class has too few samples or groups.
        baseline: Error of the class if the predictions did not depend on the label.
        confused_with: Class that is predicted most often in error. Empty if there is no error.
        confused_share: Share of the samples for which this class is predicted; 0 if there is no error.
    """

    name: str
    source_class: str
    n_samples: float
    error: float
    interval: tuple[float, float] | None
    baseline: float
    confused_with: str
    confused_share: float


@dataclass(frozen=True)
class ClassTables:
    """Tables of the classes.

    Attributes:
        classes: The classes that have tested samples, lowest error first. Empty if the table is missing or damaged.
        names: Names of the rows and columns of the confusion matrix.
        confusion: Number of tested samples by label (rows) and prediction (columns). Empty if the table is missing or
            damaged.
    """

    classes: Sequence[ClassRow] = ()
    names: Sequence[str] = ()
    confusion: Sequence[Sequence[float]] = ()


def read_class_tables(folder: Path, record: Mapping[str, Any]) -> ClassTables:
    """Read classes.csv and confusion.csv. A table that is missing, damaged or of another record is left out.

    Args:
        folder: Folder that `modgap discrepancy --out` wrote.
        record: Record in the same folder.
    """
    n_tested = record["n_samples"] - record["untested"]
    names = _target_names(record)
    try:
        classes = _read_classes(_read_rows(folder / "classes.csv"), names, n_tested)
    except (OSError, LookupError, ValueError, csv.Error):
        classes = []
    try:
        confusion = _read_confusion(_read_rows(folder / "confusion.csv"), names, n_tested)
    except (OSError, LookupError, ValueError, csv.Error):
        confusion = []
    return ClassTables(classes, names, confusion)


def _target_names(record: Mapping[str, Any]) -> list[str]:
    for estimate in reversed(list(record["estimates"].values())):
        return list(estimate.get("target_names") or [])
    return []


def _read_rows(path: Path) -> list[list[str]]:
    """Return the texts in the cells of a table, without its head.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is too large, or not text.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES:,} bytes.")
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))[1:]
    return [[plain_text(cell) for cell in cells] for cells in rows]


def _read_classes(rows: Sequence[Sequence[str]], names: Sequence[str], n_tested: int) -> list[ClassRow]:
    classes = [_class_row(cells) for cells in rows]
    _check_total([one.n_samples for one in classes], n_tested)
    if not {one.name for one in classes} <= set(names):
        raise ValueError("The classes are not those of the record.")
    return classes


def _class_row(cells: Sequence[str]) -> ClassRow:
    name, source_class, *numbers, confused_with, share = cells
    n_samples, error, low, high, baseline = (_finite(text) if text else None for text in numbers)
    if n_samples is None or error is None or baseline is None:
        raise ValueError("A number is missing.")
    interval = None if low is None or high is None else (low, high)
    confused_share = _finite(share) if share else 0.0
    return ClassRow(name, source_class, n_samples, error, interval, baseline, confused_with, confused_share)


def _read_confusion(rows: Sequence[Sequence[str]], names: Sequence[str], n_tested: int) -> list[list[float]]:
    if [cells[0] for cells in rows] != list(names):
        raise ValueError("The classes are not those of the record.")
    confusion = [[_finite(cell) for cell in cells[1:]] for cells in rows]
    if any(len(counts) != len(names) for counts in confusion):
        raise ValueError("The confusion matrix is not square.")
    _check_total([sum(counts) for counts in confusion], n_tested)
    return confusion


def _check_total(counts: Sequence[float], n_tested: int) -> None:
    # A split that is fitted on most samples tests fewer of them.
    if not 0 < sum(counts) <= n_tested + 0.5:
        raise ValueError("The numbers of samples are not those of the record.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a number.")
    return value
