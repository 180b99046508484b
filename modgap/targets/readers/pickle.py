"""Samples and labels in pickled dictionaries, or in `.npy` files of one; a child process unpickles them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.targets.plain_pickles import read_pickles
from modgap.targets.samples import SPLITS, ConcatenatedSamples, Table
from modgap.targets.shaping import class_numbers, get_entry, shape_samples, split_codes
from modgap.targets.splits import draw_test_split, hold_out_validation

__all__ = ["read"]


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    x: str,
    y: str,
    axes: Sequence[int] | None = None,
    shape: Sequence[int] | None = None,
    values: Sequence[str | int] | None = None,
    first_label: int = 0,
    validation: float | str | None = None,
    validation_at: str = "end",
    test: float | None = None,
    seed: int = 0,
) -> Table:
    """Read one dictionary a file: samples under one name, labels under another.

    Args:
        files: Paths under the roles `train`, `val` and `test`, one or more each; or one under `data`, whose dictionary
            holds all splits, or samples of which some are drawn for test.
        x: Name of the samples (N, ...), or of N arrays; `{split}` in it stands for train, val and test in turn, and
            `a/b` for b within a.
        y: Name of the labels, likewise.
        axes: Order of a sample's axes as stored, such as [1, 0] to swap two.
        shape: Shape of a sample after that, channels first; -1 where samples differ.
        values: Labels of class 0, 1, ... where they are not numbers.
        first_label: The number that stands for class 0.
        validation: Training samples held for validation: a share, a number or `as-test`; None for none.
        validation_at: Whether these are at the `start` or the `end` of the training samples.
        test: Share drawn for test by `seed` as scikit-learn's `train_test_split` does; None for none.
        seed: Seed of that draw.

    Returns:
        A table with the group `record`, a number for each sample as stored.

    Raises:
        InputError: When a file holds anything but plain data, or not what these options say.
    """
    samples, labels, sizes = [], [], []
    for split, where, record in _records(files, x):
        array, given = (
            _array(get_entry(record, x.format(split=split), where)),
            get_entry(record, y.format(split=split), where),
        )
        samples.append(shape_samples(array, f"{x.format(split=split)} in {where}", axes, shape))
        labels.append(class_numbers(given, f"{y.format(split=split)} in {where}", values, first_label))
        sizes.append((split, len(array)))
        if len(labels[-1]) != len(array):
            raise InputError(f"expected one label a sample in {where}, got {len(labels[-1])} for {len(array)} samples")
    size = sum(part for _, part in sizes)
    splits = None if sizes[0][0] == "data" else split_codes(sizes)
    splits = splits if test is None else draw_test_split(size, test, seed)
    return Table(
        ConcatenatedSamples(tuple(samples)),
        np.concatenate(labels),
        splits=splits if splits is None else hold_out_validation(splits, validation, validation_at),
        groups={"record": np.arange(size)},
    )


def _records(files: Mapping[str, Sequence[Path]], x: str) -> Iterator[tuple[str, str, Any]]:
    """Split (or `data`), name of the file, and dictionary of each part."""
    if "data" in files:
        (path,) = files["data"]
        (record,) = read_pickles([path])
        parts = [split for split in SPLITS if _has(record, x.format(split=split).split("/")[0])] or SPLITS[:1]
        for split in parts if "{split}" in x else ["data"]:
            yield split, str(path), record
        return
    named = [(split, path) for split in SPLITS for path in files.get(split, ())]
    if not named:
        raise KeyError(SPLITS[0])
    for (split, path), record in zip(named, read_pickles([path for _, path in named]), strict=True):
        yield split, str(path), record


def _has(record: Any, name: str) -> bool:
    return isinstance(record, Mapping) and (name in record or name.encode() in record)


def _array(found: Any) -> np.ndarray:
    """An array as it is, a list of arrays as an array of objects."""
    if isinstance(found, np.ndarray):
        return found
    array = np.empty(len(found) if isinstance(found, Sequence) else 0, object)
    for number in range(len(array)):
        array[number] = found[number]
    return array
