"""Samples and labels in pickled dictionaries, or in `.npy` files of one dictionary, unpickled by a child process."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import files_by_split
from modgap.targets.plain_pickles import read_pickles
from modgap.targets.samples import (
    SPLITS,
    ConcatenatedSamples,
    Table,
    class_numbers,
    get_entry,
    shape_samples,
    split_codes,
)
from modgap.targets.splits import draw_test_split, hold_out_validation


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    x: str,
    y: str,
    group: str | None = None,
    axes: Sequence[int] | None = None,
    shape: Sequence[int] | None = None,
    label_values: Sequence[str | int] | None = None,
    first_label: int = 0,
    validation: float | str | None = None,
    validation_position: str = "end",
    test_fraction: float | None = None,
    seed: int = 0,
) -> Table:
    """Read one dictionary from each file, with samples under one name and labels under another.

    Args:
        files: Paths under the roles `train`, `val` and `test`, one or more each; or one path under `data`, whose
            dictionary has all splits, or samples of which a fraction is drawn for test.
        x: Name of the samples (N, ...), or of N arrays. A `{split}` in it stands for train, val and test in turn, and
            `a/b` for b within a.
        y: Name of the labels, likewise.
        group: Name of the groups of samples that belong together, likewise. None if there are none.
        axes: Order of a sample's axes as stored, such as [1, 0] to swap two. None keeps the order.
        shape: Shape of a sample after that, channels first; -1 where samples differ. None keeps the shape.
        label_values: Labels of class 0, 1, ...; None if labels are numbers.
        first_label: Number that stands for class 0.
        validation: Training samples moved to validation: a fraction, a number or `size-of-test`. None moves none.
        validation_position: `start` or `end` of the training samples, where these samples are.
        test_fraction: Fraction of the samples drawn for test by `seed`, as scikit-learn's `train_test_split` does.
            None draws none.
        seed: Seed of that draw.

    Returns:
        A table with the group `record`, the number of each sample as stored, and with the group that is named.

    Raises:
        InputError: When a file contains anything but plain data, or does not agree with these options.
    """
    samples = []
    labels = []
    sizes = []
    groups: list[np.ndarray] = []
    for split, path, record in _read_records(files, x):
        x_name = x.format(split=split)
        y_name = y.format(split=split)
        array = _to_array(get_entry(record, x_name, path))
        stored_labels = get_entry(record, y_name, path)
        samples.append(shape_samples(array, f"{x_name} in {path}", axes, shape))
        numbers = class_numbers(stored_labels, f"{y_name} in {path}", label_values, first_label)
        if len(numbers) != len(array):
            raise InputError(
                f"expected one label for each sample in {path}, got {len(numbers)} for {len(array)} samples"
            )
        if group is not None:
            names = np.asarray(get_entry(record, group.format(split=split), path))
            if names.shape != (len(array),) or names.dtype.kind not in "fiubUS":
                got = f"{names.dtype} {names.shape}"
                raise InputError(f"expected a group for each of {len(array)} samples in {path}, got {got}")
            groups.append(names)
        labels.append(numbers)
        sizes.append((split, len(array)))
    n_samples = sum(size for _, size in sizes)
    splits = split_codes((None if split == "data" else SPLITS.index(split), size) for split, size in sizes)
    if test_fraction is not None:
        splits = draw_test_split(n_samples, test_fraction, seed)
    return Table(
        ConcatenatedSamples(tuple(samples)),
        np.concatenate(labels),
        splits=hold_out_validation(splits, validation, validation_position),
        groups={"record": np.arange(n_samples)} | ({} if group is None else {group: np.concatenate(groups)}),
    )


def _read_records(files: Mapping[str, Sequence[Path]], x: str) -> Iterator[tuple[str, str, Any]]:
    """Yield split (or `data`), path, and dictionary of each part."""
    if "data" in files:
        (path,) = files["data"]
        (record,) = read_pickles([path])
        keys = set(record) if isinstance(record, Mapping) else set()
        firsts = {split: x.format(split=split).split("/")[0] for split in SPLITS}
        splits = [split for split, first in firsts.items() if {first, first.encode()} & keys] or SPLITS[:1]
        for split in splits if "{split}" in x else ["data"]:
            yield split, str(path), record
        return
    split_paths = files_by_split(files)
    for (code, path), record in zip(split_paths, read_pickles([path for _, path in split_paths]), strict=True):
        yield SPLITS[code], str(path), record


def _to_array(entry: object) -> np.ndarray:
    """Return an array unchanged, and a list of arrays as an array of objects."""
    if isinstance(entry, np.ndarray):
        return entry
    items = entry if isinstance(entry, Sequence) else ()
    return np.fromiter(items, object, len(items))
