"""Transforms of single samples by the steps of preprocessing, which a trained model keeps for new samples.

Each transform is a frozen dataclass of numbers and arrays, so that a record of plain values and arrays restores it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import EllipsisType
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import Samples, SelectedSamples, TransformedSamples, computing_type

SampleTransform = Callable[[np.ndarray], np.ndarray]
Index = tuple[EllipsisType | slice, ...]


@dataclass(frozen=True)
class Coordinates:
    """Append the position of each point along each axis, from 0 to 1, as channels; the last axis comes first."""

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        """Return the sample (C, ...) with one channel more for each axis."""
        axes = [np.linspace(0, 1, size, dtype=np.float32) for size in sample.shape[1:]]
        coordinates = np.stack(np.meshgrid(*axes, indexing="ij")[::-1])
        extended: np.ndarray = np.concatenate([sample, coordinates])
        return extended.astype(computing_type(sample.dtype), copy=False)


@dataclass(frozen=True)
class Crop:
    """Cut a window from the last axes.

    Attributes:
        start: First index of the window along each of the last axes.
        size: Length of the window along each of them.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        """Return the window."""
        shape = sample.shape[-len(self.size) :]
        spans = list(zip(self.start, self.size, strict=True))
        if any(length < first + size for length, (first, size) in zip(shape, spans, strict=True)):
            raise InputError(f"expected values of at least {self.size} from {self.start} on, got {sample.shape}")
        index: Index = (..., *(slice(first, first + size) for first, size in spans))
        window: np.ndarray = sample[index]
        return window


@dataclass(frozen=True)
class Division:
    """Divide by a number, such as 255 for 8-bit pixels.

    Attributes:
        divisor: The number.
    """

    divisor: float

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        """Return the quotient."""
        values = np.asarray(sample)
        return values.astype(computing_type(values.dtype)) / self.divisor


@dataclass(frozen=True)
class Filling:
    """Replace missing values (NaN) by fixed ones.

    Attributes:
        values: Value at each point, in the shape of a sample.
    """

    values: np.ndarray

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        """Return the sample without missing values.

        Raises:
            InputError: When it has another shape than the values.
        """
        if np.shape(sample) != self.values.shape:
            raise InputError(f"It has shape {np.shape(sample)}. Expected {self.values.shape}, as in the training.")
        filled: np.ndarray = np.where(np.isnan(sample), self.values, sample)
        return filled


@dataclass(frozen=True)
class Flattening:
    """Concatenate all channels to a series of one channel."""

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        """Return the values, shape (1, size)."""
        return sample.reshape(1, -1)


@dataclass(frozen=True)
class Padding:
    """Pad the last axes to a size; values that do not fit are cut at the end.

    Attributes:
        start: Index of the first value along each of the last axes.
        size: Length of each of them after padding.
        fill: Value around the others.
    """

    start: int
    size: tuple[int, ...]
    fill: float

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        """Return the sample with the last axes of this size."""
        n_axes = len(self.size)
        canvas = np.full((*sample.shape[:-n_axes], *self.size), self.fill, computing_type(sample.dtype))
        shape = sample.shape[-n_axes:]
        lengths = [min(length, room - self.start) for length, room in zip(shape, self.size, strict=True)]
        target: Index = (..., *(slice(self.start, self.start + length) for length in lengths))
        source: Index = (..., *map(slice, lengths))
        canvas[target] = sample[source]
        return canvas


@dataclass(frozen=True)
class Standardization:
    """Subtract a mean and divide by a standard deviation at each point.

    Attributes:
        mean: Mean at each point, in the shape of a sample.
        sd: Standard deviation at each point.
    """

    mean: np.ndarray
    sd: np.ndarray

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        """Return the standardized sample."""
        if sample.shape != self.mean.shape:
            raise InputError(f"A sample has shape {sample.shape}. Expected {self.mean.shape}, as in training.")
        standardized: np.ndarray = ((sample - self.mean) / self.sd).astype(np.float32)
        return standardized


@dataclass(frozen=True)
class OwnStandardization:
    """Standardize a sample by its own mean and standard deviation; a constant sample becomes 0.

    Attributes:
        by_channel: True for a mean and a standard deviation of each channel, False for those of all values.
    """

    by_channel: bool = False

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        """Return the standardized sample."""
        axes = tuple(range(1, np.ndim(sample))) if self.by_channel else None
        return standardize_over(sample, axes).astype(np.float32)


def standardize_over(values: np.ndarray, axes: int | tuple[int, ...] | None) -> np.ndarray:
    """Return values with mean 0 and standard deviation 1 over some axes, float64. Where all are equal they become 0.

    Args:
        values: Numbers of any shape.
        axes: Axes over which mean and standard deviation are taken; None for all.

    Example:
        >>> standardize_over(np.array([[1, 3], [0.1, 0.1]]), 1).tolist()
        [[-1.0, 1.0], [0.0, 0.0]]
    """
    if not np.size(values):
        return np.zeros(np.shape(values))
    centered = np.asarray(values) - np.mean(values, axis=axes, keepdims=True, dtype=np.float64)
    sd = centered.std(axis=axes, keepdims=True)
    # The mean of equal numbers is rounded, so that they can differ from it.
    is_constant = np.max(values, axis=axes, keepdims=True) == np.min(values, axis=axes, keepdims=True)
    standardized: np.ndarray = np.where(is_constant, 0, centered) / np.where(sd > 0, sd, 1)
    return standardized


TRANSFORMS: Mapping[str, type] = {
    "coordinates": Coordinates,
    "crop": Crop,
    "divide": Division,
    "fill": Filling,
    "flatten": Flattening,
    "pad": Padding,
    "standardize": Standardization,
    "standardize-each": OwnStandardization,
}
"""Transforms by the name that records have."""
LARGEST_SIZE = 1 << 31
"""Largest number of values of a sample that a record may ask for."""


def transforms_of(samples: Samples) -> tuple[SampleTransform, ...]:
    """Return the transforms that samples pass through when they are read, first to last.

    Args:
        samples: Samples of a target, or a selection of them.
    """
    transforms: list[SampleTransform] = []
    while isinstance(samples, TransformedSamples | SelectedSamples):
        if isinstance(samples, TransformedSamples):
            transforms.insert(0, samples.function)
        samples = samples.samples
    return tuple(transforms)


def transform_records(
    transforms: Sequence[SampleTransform],
) -> tuple[list[dict[str, object]], dict[str, np.ndarray]] | None:
    """Return plain values and arrays that restore transforms; None if one of them is not known here.

    Args:
        transforms: Transforms, first to last.

    Returns:
        A record for each transform, and the arrays by the number of the transform and the name of the field.
    """
    names = {transform: name for name, transform in TRANSFORMS.items()}
    records = []
    arrays: dict[str, np.ndarray] = {}
    for number, transform in enumerate(transforms):
        if type(transform) not in names:
            return None
        record: dict[str, object] = {"name": names[type(transform)]}
        for field in fields(transform):  # type: ignore[arg-type]
            value = getattr(transform, field.name)
            if isinstance(value, np.ndarray):
                arrays[f"{number}.{field.name}"] = value
            else:
                record[field.name] = value
        records.append(record)
    return records, arrays


def read_transforms(
    records: Sequence[Mapping[str, object]], arrays: Mapping[str, np.ndarray]
) -> tuple[SampleTransform, ...]:
    """Return the transforms that `transform_records` described.

    Raises:
        ValueError: If a record or an array is missing, or a value has another type.
    """
    transforms = []
    for number, record in enumerate(records):
        kind = TRANSFORMS.get(str(record.get("name")))
        if kind is None:
            raise ValueError(f"the transform {record.get('name')!r} is unknown")
        values = {}
        for field in fields(kind):
            # Without a value and a default this is MISSING, which has none of the types.
            value = arrays.get(f"{number}.{field.name}", record.get(field.name, field.default))
            values[field.name] = _checked(value, field.type, f"{record['name']}.{field.name}")
        transforms.append(kind(**values))
    return tuple(transforms)


def _checked(value: Any, annotation: object, name: str) -> object:
    """Return a value of a field as the type of its annotation; the list of a record becomes a tuple."""
    if annotation is np.ndarray:
        valid = isinstance(value, np.ndarray)
    elif annotation == tuple[int, ...]:
        valid = isinstance(value, list | tuple) and all(type(item) is int for item in value)
        valid = valid and min(value, default=0) >= 0 and math.prod(value) <= LARGEST_SIZE
        value = tuple(value) if valid else value
    elif annotation is bool:
        valid = isinstance(value, bool)
    elif annotation is int:
        valid = type(value) is int
    else:
        valid = isinstance(value, int | float) and not isinstance(value, bool)
    if not valid:
        raise ValueError(f"{name} is missing or has another type")
    return value
