"""Samples and labels in `.npy` files, two for each split."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.storage.array_formats import map_npy, read_npy_header
from modgap.targets.file_layout import files_by_split
from modgap.targets.plain_pickles import read_pickle
from modgap.targets.samples import SPLITS, ConcatenatedSamples, Table, class_numbers, shape_samples, split_codes
from modgap.targets.splits import hold_out_validation


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    axes: Sequence[int] | None = None,
    shape: Sequence[int] | None = None,
    first_label: int = 0,
    validation: float | str | None = None,
    validation_position: str = "end",
) -> Table:
    """Memory-map samples (N, ...) and read labels (N,) or (N, K) of the splits that have files.

    Args:
        files: Paths under the roles `train`, `train-labels`, `val`, `val-labels`, `test`, `test-labels`, one or more
            each. The label files are in the order of the sample files.
        axes: Order of a sample's axes as stored, such as [1, 0] to swap two. None keeps the order.
        shape: Shape of a sample after that, channels first. None keeps the shape.
        first_label: Number that stands for class 0.
        validation: Training samples moved to validation: a fraction, a number or `size-of-test`. None moves none.
        validation_position: `start` or `end` of the training samples, where these samples are.

    Raises:
        InputError: When a file is broken, is not numeric, or labels and samples differ in number.
    """
    sample_files = files_by_split(files)
    label_paths = [path for code in dict(sample_files) for path in files[f"{SPLITS[code]}-labels"]]
    arrays = [_read_array(path) for _, path in sample_files]
    labels = [_read_array(path) for path in label_paths]
    sizes = [len(array) for array in arrays]
    if sizes != [len(part) for part in labels]:
        raise InputError(
            f"expected one label for each sample in {', '.join(path.name for path in label_paths)} beside "
            f"{sample_files[0][1]}, got {[len(part) for part in labels]} for {sizes} samples"
        )
    numbers = [class_numbers(one, str(path), first=first_label) for one, path in zip(labels, label_paths, strict=True)]
    samples = [shape_samples(one, str(path), axes, shape) for one, (_, path) in zip(arrays, sample_files, strict=True)]
    codes = split_codes((code, size) for (code, _), size in zip(sample_files, sizes, strict=True))
    return Table(
        ConcatenatedSamples(tuple(samples)),
        np.concatenate(numbers),
        splits=hold_out_validation(codes, validation, validation_position),
    )


def _read_array(path: Path) -> np.ndarray:
    """Return the file's array. An array of objects is unpickled by a child process, if they are plain numbers."""
    array = read_pickle(path) if read_npy_header(path)[1].hasobject else map_npy(path)
    if array.ndim == 0:
        raise InputError(f"expected an array with one sample in each row in {path}, got a single value")
    return array
