"""Tables that readers return: samples, labels, splits and groups."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from modgap.errors import InputError

__all__ = [
    "SPLITS",
    "ArraySamples",
    "ConcatenatedSamples",
    "PartialSamples",
    "Samples",
    "SelectedSamples",
    "SeriesList",
    "Table",
    "TextSamples",
    "TransformedSamples",
    "computing_type",
    "have_one_shape",
    "pool_targets",
]

SPLITS = ("train", "val", "test")
MAX_POOLED_VALUES = 1024
"""Largest number of values of a dense target that are clustered. Larger targets are averaged down to it."""


class Samples(Protocol):
    """Samples by number: (C, H, W), (C, length), (frames, C, H, W) or a string. Their shapes may differ."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> Any:
        """Return one sample: an array or a string."""


@runtime_checkable
class PartialSamples(Samples, Protocol):
    """Samples whose last axis can be read in parts, without the rest of the sample."""

    def length(self, index: int) -> int | None:
        """Return the length of a sample's last axis; None if the whole sample must be read to know it."""

    def part(self, index: int, start: int, stop: int) -> Any:
        """Return the values of a sample from `start` to `stop` of its last axis."""


@dataclass(frozen=True)
class ArraySamples:
    """Samples of one shape in one array, (N, C, H, W) or (N, C, length)."""

    array: np.ndarray

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.array)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one sample."""
        sample: np.ndarray = self.array[index]
        return sample


@dataclass(frozen=True)
class SeriesList:
    """Series (C, length) of different lengths."""

    series: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        """Return the number of series."""
        return len(self.series)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one series."""
        return self.series[index]


@dataclass(frozen=True)
class TextSamples:
    """Samples that are strings."""

    texts: Sequence[str]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.texts)

    def __getitem__(self, index: int) -> str:
        """Return one sample."""
        return self.texts[index]


@dataclass(frozen=True)
class TransformedSamples:
    """Samples to which a function is applied each time they are read."""

    samples: Samples
    function: Callable[[Any], Any]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        """Return the function's value for one sample."""
        return self.function(self.samples[index])


@dataclass(frozen=True)
class SelectedSamples:
    """A selection of samples, by their numbers (N,)."""

    samples: Samples
    rows: np.ndarray

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        return self.samples[int(self.rows[index])]


@dataclass(frozen=True)
class ConcatenatedSamples:
    """Samples of several parts, one part after the other."""

    parts: tuple[Samples, ...]

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        """Return the number of samples."""
        return int(self._ends[-1]) if self.parts else 0

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        index = range(len(self))[index]
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[part][index - int(self._ends[part]) + len(self.parts[part])]


def have_one_shape(samples: Samples) -> bool:
    """Return True if samples come from arrays of one shape, without reading them; False if they may differ."""
    while isinstance(samples, TransformedSamples | SelectedSamples):
        samples = samples.samples
    if isinstance(samples, ConcatenatedSamples):
        shapes = {np.shape(part[0]) for part in samples.parts if len(part)}
        return len(shapes) == 1 and all(have_one_shape(part) for part in samples.parts)
    return isinstance(samples, ArraySamples) and samples.array.dtype != object


@dataclass(frozen=True)
class Table:
    """Data of a target as a reader returns it.

    Attributes:
        samples: The N samples.
        labels: Class of each sample in 0..K-1, shape (N,), or 0/1 labels, shape (N, K). None for real-valued
            targets that have not been clustered into pseudo-classes.
        targets: Real-valued target y of each sample (regression, dense targets), each of one shape. They are read
            on access, as samples are. None for classification.
        classes: Class names in the order of the labels. None if the data has no names.
        splits: Index into SPLITS of each sample, shape (N,). None if the data defines no splits.
        groups: Record, subject or field of each sample, shape (N,), by the name of the grouping. None if the data
            has no groups.
        masks: 0/1 arrays of the targets' shape, 1 where a value counts. None where all values count.
        target_scale: Mean and standard deviation (sd), each of the targets' shape, if a step standardized the
            targets: y * sd + mean is in the manifest's unit. None if the targets are in this unit.
        columns: Names of the columns of a table that the samples are made of, in order. None for other data.
        levels: Level of the background of each sample in its unit, shape (N,), for augmentation. None if unknown.
        noise: Samples without labels, of any number, that augmentation mixes into others. None if there are none.
    """

    samples: Samples
    labels: np.ndarray | None = None
    classes: Sequence[str] | None = None
    splits: np.ndarray | None = None
    groups: dict[str, np.ndarray] | None = None
    targets: Samples | None = None
    masks: Samples | None = None
    target_scale: tuple[np.ndarray, np.ndarray] | None = None
    columns: tuple[str, ...] | None = None
    levels: np.ndarray | None = None
    noise: Samples | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    @property
    def class_labels(self) -> np.ndarray:
        """Labels, which must be available.

        Raises:
            InputError: When the table has real-valued targets only.
        """
        if self.labels is None:
            raise InputError(
                "expected classes, got real-valued targets. Set pseudo_classes in the manifest to cluster them."
            )
        return self.labels

    def select(self, rows: np.ndarray) -> "Table":
        """Return the table of a selection of samples.

        Args:
            rows: Numbers of the samples, shape (M,).
        """

        def select_samples(samples: Samples | None) -> Samples | None:
            return None if samples is None else SelectedSamples(samples, rows)

        return Table(
            samples=SelectedSamples(self.samples, rows),
            labels=None if self.labels is None else self.labels[rows],
            classes=self.classes,
            splits=None if self.splits is None else self.splits[rows],
            groups=None if self.groups is None else {name: numbers[rows] for name, numbers in self.groups.items()},
            targets=select_samples(self.targets),
            masks=select_samples(self.masks),
            target_scale=self.target_scale,
            columns=self.columns,
            levels=None if self.levels is None else self.levels[rows],
            noise=self.noise,
        )


def computing_type(dtype: np.dtype) -> np.dtype:
    """Return the type in which values of a type are computed: float32, or float64 if float32 would round them.

    Samples have this type until they are standardized or scaled, because a large offset, such as that of a Unix time,
    leaves no digits of float32 for their differences.

    Example:
        >>> [str(computing_type(np.dtype(name))) for name in ("uint8", "float32", "int64", "float64")]
        ['float32', 'float32', 'float64', 'float64']
    """
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32) else np.float64)


def pool_targets(targets: Samples, max_values: int = MAX_POOLED_VALUES) -> np.ndarray:
    """Return the values of each target as one row, averaged over blocks of neighbors if there are too many.

    Values are averaged along the last axes, which are space or time, so that clusters of the rows are
    clusters of the fields on a coarser grid.

    Args:
        targets: N targets of one shape.
        max_values: Largest number of values D in a row.

    Returns:
        Rows (N, D), float64.

    Raises:
        InputError: When the targets differ in size.
    """
    rows = [_coarsen(np.asarray(targets[i], dtype=np.float64), max_values).ravel() for i in range(len(targets))]
    sizes = {row.size for row in rows}
    if len(sizes) > 1:
        raise InputError(f"expected values of one shape to cluster, got sizes from {min(sizes)} to {max(sizes)}")
    return np.stack(rows)


def _coarsen(values: np.ndarray, max_values: int) -> np.ndarray:
    while values.size > max_values:
        axis = int(np.argmax(values.shape))
        half = values.shape[axis] // 2
        pairs = values[(slice(None),) * axis + (slice(2 * half),)]
        shape = (*values.shape[:axis], half, 2, *values.shape[axis + 1 :])
        values = pairs.reshape(shape).mean(axis=axis + 1)
    return values
