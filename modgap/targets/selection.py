"""Selection of samples by their classes, before splits are drawn: classes, distinct texts and sizes of classes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from modgap.errors import InputError
from modgap.targets.manifest import Selection
from modgap.targets.samples import Table, TextSamples


def select_samples(table: Table, selection: Selection) -> Table:
    """Return the samples of a table that a manifest selects, with labels for the classes that are left.

    Args:
        table: Table with one label for each sample.
        selection: The selection.

    Raises:
        InputError: When the samples have no classes or are no texts where that is needed, a class is absent from the
            data, or no sample is left.
    """
    if table.labels is None or table.labels.ndim != 1:
        raise InputError("A selection needs one class for each sample, but the data has real values or several labels.")
    names = list(table.classes or map(str, range(int(table.labels.max(initial=-1)) + 1)))
    labels, names = _merge_classes(table.labels, names, selection.classes)
    rows = np.flatnonzero(labels >= 0)
    if selection.distinct:
        rows = rows[_is_distinct(table, rows, labels)]
    rows = _limit_classes(rows, labels, selection)
    if not len(rows):
        raise InputError("The selection leaves out all samples. Change [selection] in the manifest.")
    present, numbers = np.unique(labels[rows], return_inverse=True)
    return replace(table.select(rows), labels=numbers.astype(np.int64), classes=[names[number] for number in present])


def _merge_classes(
    labels: np.ndarray, names: Sequence[str], classes: Mapping[str, str] | None
) -> tuple[np.ndarray, list[str]]:
    """Return the number of the class of each sample, -1 where it is left out, and the names of the classes."""
    if classes is None:
        return labels, list(names)
    if absent := [name for name in classes if name not in names]:
        raise InputError(
            f"The selection has the class {absent[0]!r}, which is not in the data. Its classes are: "
            f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
        )
    merged = list(dict.fromkeys(classes.values()))
    numbers = np.array([merged.index(classes[name]) if name in classes else -1 for name in names], np.int64)
    return numbers[labels], merged


def _is_distinct(table: Table, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return True for each row whose text is the first of equal texts, none of which is in another class."""
    import pandas

    if not isinstance(table.samples, TextSamples):
        raise InputError("The selection of distinct samples applies to texts only.")
    texts = pandas.Series([table.samples.texts[row] for row in rows], dtype=object)
    n_classes = pandas.Series(labels[rows]).groupby(texts).transform("nunique")
    distinct: np.ndarray = ~texts.duplicated().to_numpy() & (n_classes == 1).to_numpy()
    return distinct


def _limit_classes(rows: np.ndarray, labels: np.ndarray, selection: Selection) -> np.ndarray:
    """Return the rows of the classes that are large enough; of each at most the largest number, evenly spaced."""
    parts = [rows[labels[rows] == number] for number in np.unique(labels[rows])]
    limited = [
        part[np.arange(n) * len(part) // n]
        for part in parts
        if len(part) >= selection.min_per_class
        for n in [min(len(part), selection.max_per_class or len(part))]
    ]
    return np.sort(np.concatenate(limited)) if limited else rows[:0]
