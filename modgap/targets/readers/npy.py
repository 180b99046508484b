"""Samples and labels in `.npy` files, two for each split."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.mmap_arrays import map_npy, read_npy_header
from modgap.targets.plain_pickles import read_pickle
from modgap.targets.samples import SPLITS, ConcatenatedSamples, Table
from modgap.targets.shaping import class_numbers, shape_samples, split_codes
from modgap.targets.splits import hold_out_validation

__all__ = ["read"]


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    axes: Sequence[int] | None = None,
    shape: Sequence[int] | None = None,
    first_label: int = 0,
    validation: float | str | None = None,
    validation_at: str = "end",
) -> Table:
    """Map samples (N, ...) and read labels (N,) or (N, K) of the splits for which there are files.

    Args:
        files: Paths under the roles `train`, `train-labels`, `val`, `val-labels`, `test`, `test-labels`, one or more
            each, the labels' in the samples' order.
        axes: Order of a sample's axes as stored, such as [1, 0] to swap two.
        shape: Shape of a sample after that, channels first.
        first_label: The number that stands for class 0.
        validation: Training samples held for validation: a share, a number or `as-test`; None for none.
        validation_at: Whether these are at the `start` or the `end` of the training samples.

    Raises:
        InputError: When a file is broken, holds no numbers, or labels and samples differ in number.
    """
    named = [(split, path) for split in SPLITS for path in files.get(split, ())]
    if not named:
        raise KeyError(SPLITS[0])
    of_labels = [(split, path) for split in dict(named) for path in files[f"{split}-labels"]]
    arrays, labels = ([_array(path) for _, path in part] for part in (named, of_labels))
    if [len(array) for array in arrays] != [len(part) for part in labels]:
        raise InputError(
            f"expected one label a sample in {', '.join(path.name for _, path in of_labels)} beside {named[0][1]}, got "
            f"{[len(part) for part in labels]} for {[len(array) for array in arrays]} samples"
        )
    numbers = [
        class_numbers(part, str(path), first=first_label) for part, (_, path) in zip(labels, of_labels, strict=True)
    ]
    samples = [shape_samples(array, str(path), axes, shape) for array, (_, path) in zip(arrays, named, strict=True)]
    splits = split_codes([(split, len(array)) for (split, _), array in zip(named, arrays, strict=True)])
    return Table(
        ConcatenatedSamples(tuple(samples)),
        np.concatenate(numbers),
        splits=hold_out_validation(splits, validation, validation_at),
    )


def _array(path: Path) -> np.ndarray:
    """The file's array; one of objects is unpickled by a child process, if they are plain numbers."""
    array = read_pickle(path) if read_npy_header(path)[1].hasobject else map_npy(path)
    if array.ndim == 0:
        raise InputError(f"expected an array with one row a sample in {path}, got a single value")
    return array
