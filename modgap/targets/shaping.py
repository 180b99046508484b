"""From arrays as files hold them to samples, channels first, and to class numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import SPLITS, ArraySamples, Samples, TransformedSamples

__all__ = ["class_numbers", "get_entry", "shape_samples", "split_codes"]


@dataclass(frozen=True)
class _Shaped:
    """One sample with its axes in order and in its shape, 8-bit or single precision."""

    axes: tuple[int, ...] | None
    shape: tuple[int, ...] | None

    def __call__(self, sample: Any) -> np.ndarray:
        """The sample, shaped."""
        array = np.asarray(sample)
        array = array if self.axes is None else array.transpose(self.axes)
        return _numbers(array if self.shape is None else array.reshape(self.shape))


def _numbers(sample: np.ndarray) -> np.ndarray:
    return sample if sample.dtype == np.uint8 else sample.astype(np.float32)


def shape_samples(
    array: np.ndarray, where: str, axes: Sequence[int] | None = None, shape: Sequence[int] | None = None
) -> Samples:
    """An array (N, ...) as samples; nothing is read or copied before a sample is asked for.

    Args:
        array: Numbers of one shape a sample, or N arrays of numbers of any shape.
        where: What it is, for errors.
        axes: Order of a sample's axes, such as [1, 0] to swap two.
        shape: Shape of a sample after that; -1 where it follows from the others.

    Raises:
        InputError: When the array holds no numbers, or axes or shape do not fit.
    """
    how = _Shaped(None if axes is None else tuple(axes), None if shape is None else tuple(shape))
    if array.ndim == 0 or (array.dtype != object and array.dtype.kind not in "fiub"):
        raise InputError(f"expected numbers, one sample a row, in {where}, got {array.dtype} {array.shape}")
    try:
        if len(array):
            how(array[0])
    except (ValueError, TypeError) as error:
        sort = f"{array.dtype} {array.shape}"
        raise InputError(f"samples of {where}, {sort}, do not fit axes {axes} and shape {shape}: {error}") from error
    # What is no array in memory or mapped, such as an HDF5 dataset, is read row by row.
    if (
        not isinstance(array, np.ndarray)
        or array.dtype == object
        or not (array.dtype == np.uint8 or array.dtype == np.float32)
    ):
        return TransformedSamples(ArraySamples(array), how)
    array = array if how.axes is None else array.transpose(0, *(axis + 1 for axis in how.axes))
    return ArraySamples(array if how.shape is None else _view(array, how.shape))


def _view(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    # A size that follows from the others needs a sample to follow from.
    return array.reshape(len(array), *(shape if len(array) else (max(size, 0) for size in shape)))


def get_entry(record: Any, name: str, where: str) -> Any:
    """An entry of a dictionary under a name such as `labels`, or `train/labels` for one in another.

    What Python 2 pickled has names of bytes; both are found. An array that holds one object stands for it.

    Raises:
        InputError: When there is none.
    """
    for part in name.split("/"):
        if isinstance(record, np.ndarray) and record.dtype == object and record.ndim == 0:
            record = record.item()
        keys = {part, part.encode()} & set(record) if isinstance(record, Mapping) else set()
        if not keys:
            known = [key.decode("latin-1") if isinstance(key, bytes) else str(key) for key in record or ()][:20]
            has = f"has {', '.join(known)}" if isinstance(record, Mapping) else f"is {type(record).__name__}"
            raise InputError(f"expected an entry {name} in {where}, which {has}")
        record = record[keys.pop()]
    return record


def class_numbers(labels: Any, where: str, values: Sequence | None = None, first: int = 0) -> np.ndarray:
    """Class of each sample (N,), or 0/1 labels (N, K), as int64.

    Args:
        labels: Numbers, or one of `values` each; a list or an array.
        where: What they are, for errors.
        values: What stands for class 0, 1, ...; None if they are numbers.
        first: The number that stands for class 0.

    Raises:
        InputError: When a label is none of the values, no whole number or below the first.
    """
    if values is not None:
        number = {value: index for index, value in enumerate(values)}
        plain = [
            label.decode("latin-1") if isinstance(label, bytes) else label for label in np.asarray(labels).tolist()
        ]
        unknown = sorted({str(label) for label in plain if label not in number})
        if unknown:
            expected = ", ".join(map(str, values))
            raise InputError(f"expected labels {expected} in {where}, got {', '.join(unknown[:5])}")
        return np.array([number[label] for label in plain], np.int64)
    array = np.asarray(labels)
    if array.dtype == object:
        array = np.array(array.tolist())
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiub" or (array != np.floor(array)).any():
        raise InputError(
            f"expected whole numbers (N,) or (N, K) for labels in {where}, got {array.dtype} {array.shape}"
        )
    array = array.astype(np.int64)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.size and array.min() < first:
        raise InputError(f"expected labels from {first} in {where}, got {array.min()}")
    return array - first


def split_codes(sizes: Sequence[tuple[str, int]]) -> np.ndarray:
    """Index into SPLITS of each sample, where splits of these sizes follow each other."""
    return np.repeat([SPLITS.index(split) for split, _ in sizes], [size for _, size in sizes])
