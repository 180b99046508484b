"""Functions that turn arrays as files store them into samples, channels first, and into class numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import SPLITS, ArraySamples, Samples, TransformedSamples, computing_type

__all__ = ["class_numbers", "get_entry", "shape_samples", "split_codes"]

MAX_LISTED = 20
"""Largest number of entries that an error message lists."""


@dataclass(frozen=True)
class _Reshape:
    """Transpose and reshape one sample; values become 8-bit, float32, or float64 if float32 would round them."""

    axes: tuple[int, ...] | None
    shape: tuple[int, ...] | None

    def __call__(self, sample: Any) -> np.ndarray:
        """Return the sample with its axes in order and in its shape."""
        array = np.asarray(sample)
        if self.axes is not None:
            array = array.transpose(self.axes)
        if self.shape is not None:
            array = array.reshape(self.shape)
        return array if array.dtype == np.uint8 else array.astype(computing_type(array.dtype), copy=False)


def shape_samples(
    array: np.ndarray, where: str, axes: Sequence[int] | None = None, shape: Sequence[int] | None = None
) -> Samples:
    """Return an array (N, ...) as samples. Only the first sample is read, to check that axes and shape fit.

    Args:
        array: Numbers with one shape for all samples, or N arrays of numbers of any shape.
        where: Description of the array for error messages.
        axes: Order of a sample's axes, such as [1, 0] to swap two. None keeps the order.
        shape: Shape of a sample after that; -1 for a size that follows from the others. None keeps the shape.

    Raises:
        InputError: When the array does not contain numbers, or axes or shape do not fit.
    """
    reshape = _Reshape(None if axes is None else tuple(axes), None if shape is None else tuple(shape))
    if array.ndim == 0 or (array.dtype != object and array.dtype.kind not in "fiub"):
        raise InputError(f"expected numbers, with one sample in each row, in {where}, got {array.dtype} {array.shape}")
    try:
        if len(array):
            reshape(array[0])
    except (ValueError, TypeError) as error:
        raise InputError(
            f"samples of {where}, {array.dtype} {array.shape}, do not fit axes {axes} and shape {shape}: {error}"
        ) from error
    # Anything but an array in memory or in a memory map, such as an HDF5 dataset, is read row by row.
    if not isinstance(array, np.ndarray) or array.dtype not in (np.uint8, np.float32, np.float64):
        return TransformedSamples(ArraySamples(array), reshape)
    if reshape.axes is not None:
        array = array.transpose(0, *(axis + 1 for axis in reshape.axes))
    return ArraySamples(array if reshape.shape is None else _reshape_rows(array, reshape.shape))


def _reshape_rows(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    # NumPy cannot infer a size of -1 from an empty array.
    row_shape = shape if len(array) else tuple(max(size, 0) for size in shape)
    return array.reshape(len(array), *row_shape)


def get_entry(record: Any, name: str, where: str) -> Any:
    """Return the entry of a dictionary under a name such as `labels`, or `train/labels` for nested dictionaries.

    Pickles of Python 2 have names that are bytes; these are found too. An array that holds one object stands for
    that object.

    Args:
        record: The dictionary.
        name: Name of the entry.
        where: Description of the dictionary for error messages.

    Raises:
        InputError: When there is no such entry.
    """
    for part in name.split("/"):
        if isinstance(record, np.ndarray) and record.dtype == object and record.ndim == 0:
            record = record.item()
        keys = {part, part.encode()} & set(record) if isinstance(record, Mapping) else set()
        if not keys:
            raise InputError(f"expected an entry {name} in {where}, which {_describe(record)}")
        record = record[keys.pop()]
    return record


def _describe(record: Any) -> str:
    """Return the names of a dictionary's entries, or the type of another object."""
    if not isinstance(record, Mapping):
        return f"is {type(record).__name__}"
    names = [key.decode("latin-1") if isinstance(key, bytes) else str(key) for key in record]
    return f"has {', '.join(names[:MAX_LISTED])}"


def class_numbers(
    labels: Any, where: str, label_values: Sequence[str | int] | None = None, first: int = 0
) -> np.ndarray:
    """Return the class of each sample, shape (N,), or 0/1 labels, shape (N, K), as int64.

    Args:
        labels: List or array of numbers, or of elements of `label_values`.
        where: Description of the labels for error messages.
        label_values: Values that stand for class 0, 1, ...; None if the labels are numbers.
        first: Number that stands for class 0, where the labels are numbers.

    Raises:
        InputError: When a label is not one of the values, not an integer, or below the first.
    """
    if label_values is not None:
        return _numbers_of_values(labels, where, label_values)
    array = np.asarray(labels)
    if array.dtype == object:
        array = np.array(array.tolist())
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiub" or (array != np.floor(array)).any():
        raise InputError(f"expected integer labels (N,) or (N, K) in {where}, got {array.dtype} {array.shape}")
    array = array.astype(np.int64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.size and array.min() < first:
        raise InputError(f"expected labels of at least {first} in {where}, got {array.min()}")
    return array - first


def _numbers_of_values(labels: Any, where: str, label_values: Sequence[str | int]) -> np.ndarray:
    number = {value: index for index, value in enumerate(label_values)}
    decoded = [label.decode("latin-1") if isinstance(label, bytes) else label for label in np.asarray(labels).tolist()]
    unknown = sorted({str(label) for label in decoded if label not in number})
    if unknown:
        expected = ", ".join(map(str, label_values))
        raise InputError(f"expected labels {expected} in {where}, got {', '.join(unknown[:5])}")
    return np.array([number[label] for label in decoded], np.int64)


def split_codes(sizes: Sequence[tuple[str, int]]) -> np.ndarray:
    """Return the index into SPLITS of each sample, for splits of these names and sizes that follow each other."""
    return np.repeat([SPLITS.index(split) for split, _ in sizes], [size for _, size in sizes])
