"""Molecules in SDF files, as the SMILES text among the data items of each record."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.labels.written_names import number_names
from modgap.storage.damaged_files import one_line_errors
from modgap.storage.limits import check_memory
from modgap.targets.file_layout import data_files
from modgap.targets.samples import ArraySamples, Table, TextSamples, split_codes

END_OF_RECORD = "$$$$"
ITEM_NAME = re.compile(r"^>.*?<([^<>]+)>")
"""First line of a data item, which has the name between angle brackets: `>  <SOL>  (1)`."""


def sample_versions() -> dict[str, str]:
    """Return no versions, because the samples of a file are the same in all versions of this reader."""
    return {}


def read(
    files: Mapping[str, Sequence[Path]], *, text_item: str = "smiles", label_item: str, regression: bool = False
) -> Table:
    """Read two data items of each molecule. Coordinates and bonds are not read.

    Args:
        files: Paths under the role `data`, or under `train`, `val` and `test`.
        text_item: Name of the data item with the text of a molecule, in upper or lower case.
        label_item: Name of the data item with its label, in upper or lower case.
        regression: True if the labels are real-valued targets, and False if they are names of classes.

    Returns:
        Samples that are strings, with labels and names of the classes in alphabetical order, or with targets (1,).

    Raises:
        InputError: When a file cannot be read, a molecule lacks an item, or a target is not a finite number.
    """
    paths = data_files(files)
    parts = [(code, _read_items(path, text_item, label_item)) for code, path in paths]
    items = [item for _, part in parts for item in part]
    samples = TextSamples([text for text, _ in items])
    splits = split_codes((code, len(part)) for code, part in parts)
    if regression:
        return Table(samples, splits=splits, targets=ArraySamples(_numbers([label for _, label in items], label_item)))
    way_out = f"They are data items {label_item!r} of {', '.join(str(path) for _, path in paths)}."
    numbered = number_names([label for _, label in items], spelling="refuse", way_out=way_out)
    return Table(samples, numbered.numbers, numbered.names, splits)


def _read_items(path: Path, text_item: str, label_item: str) -> list[tuple[str, str]]:
    """Return text and label of every molecule in a file."""
    with one_line_errors(f"cannot read {path} as an SDF file"):
        check_memory(path, path.stat().st_size)
        content = path.read_text(encoding="utf-8")
    items = []
    for number, record in enumerate(_records(content), start=1):
        # The first line of each data item, by its name in lower case.
        pairs = itertools.pairwise(record)
        values = {name[1].strip().lower(): value.strip() for line, value in pairs if (name := ITEM_NAME.match(line))}
        if missing := [name for name in (text_item, label_item) if not values.get(name.lower())]:
            available = ", ".join(sorted(values)) or "none"
            raise InputError(
                f"Molecule {number} of {path} has no data item {missing[0]!r}. Its items are: {available}. Expected "
                "one in each record. Correct the reader's options text_item and label_item, or remove the record."
            )
        items.append((values[text_item.lower()], values[label_item.lower()]))
    if not items:
        raise InputError(f"expected molecules that end with {END_OF_RECORD} in {path}, got none")
    return items


def _records(content: str) -> Iterator[list[str]]:
    """Yield the lines of each record. Lines after the last end of a record must be empty."""
    record: list[str] = []
    for line in [*content.splitlines(), END_OF_RECORD]:
        if line.rstrip() != END_OF_RECORD:
            record.append(line)
        else:
            if any(part.strip() for part in record):
                yield record
            record = []


def _numbers(labels: Sequence[str], label_item: str) -> np.ndarray:
    """Return targets (N, 1)."""
    try:
        numbers = np.array([[float(label)] for label in labels])
    except ValueError as error:
        raise InputError(f"expected a number in every data item {label_item!r}: {error}") from error
    if not np.isfinite(numbers).all():
        raise InputError(f"expected a finite number in every data item {label_item!r}, got NaN or infinity")
    return numbers
