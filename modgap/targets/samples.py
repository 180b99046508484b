"""What readers give: samples, labels, and what is known of splits and groups."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from modgap.errors import InputError

__all__ = [
    "SPLITS",
    "ArraySamples",
    "ConcatenatedSamples",
    "Samples",
    "SelectedSamples",
    "Table",
    "TextSamples",
    "TransformedSamples",
    "pool_targets",
]

SPLITS = ("train", "val", "test")
MOST_VALUES = 1024
"""Values of a dense target that are clustered; larger ones are averaged down to these."""


class Samples(Protocol):
    """Samples by number: (C, H, W), (C, length), (frames, C, H, W) or a string; shapes may differ between them."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: int) -> Any:
        """One sample: an array or a string."""


@dataclass(frozen=True)
class ArraySamples:
    """Samples of one shape held in memory, (N, C, H, W) or (N, C, length)."""

    array: np.ndarray

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.array)

    def __getitem__(self, index: int) -> np.ndarray:
        """One sample."""
        return self.array[index]


@dataclass(frozen=True)
class TextSamples:
    """Samples that are strings."""

    texts: Sequence[str]

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.texts)

    def __getitem__(self, index: int) -> str:
        """One sample."""
        return self.texts[index]


@dataclass(frozen=True)
class TransformedSamples:
    """Samples passed through a function each time they are asked for."""

    samples: Samples
    function: Callable[[Any], Any]

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        """One sample, after the function."""
        return self.function(self.samples[index])


@dataclass(frozen=True)
class SelectedSamples:
    """Some of the samples, by their numbers (N,)."""

    samples: Samples
    rows: np.ndarray

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        """One sample."""
        return self.samples[int(self.rows[index])]


@dataclass(frozen=True)
class ConcatenatedSamples:
    """Samples of several parts, one after the other."""

    parts: tuple[Samples, ...]

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        """How many samples there are."""
        return int(self._ends[-1]) if self.parts else 0

    def __getitem__(self, index: int) -> Any:
        """One sample."""
        index = range(len(self))[index]
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[part][index - int(self._ends[part]) + len(self.parts[part])]


@dataclass(frozen=True)
class Table:
    """A target's data as read.

    Attributes:
        samples: The samples.
        labels: Target class of each sample, 0..K-1, shape (N,), or 0/1 labels (N, K); None as long as there
            are only values.
        targets: Values y of each sample where they are not classes (regression, dense targets), each of
            one shape; read when asked for, as samples are. None for classification.
        classes: Class names in label order, or None.
        splits: Index into SPLITS of each sample, shape (N,), or None where the data names none.
        groups: Record, subject or field of each sample, shape (N,), by name.
        masks: Where each sample's values count, 0/1 of the targets' shape; None where they all do.
        target_scale: Mean and sd of the targets' shape, where a step has standardized them: y * sd + mean is in the
            manifest's unit again. None where the targets are in it already.
    """

    samples: Samples
    labels: np.ndarray | None = None
    classes: Sequence[str] | None = None
    splits: np.ndarray | None = None
    groups: dict[str, np.ndarray] | None = None
    targets: Samples | None = None
    masks: Samples | None = None
    target_scale: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.samples)

    @property
    def class_labels(self) -> np.ndarray:
        """The labels, once they are known.

        Raises:
            InputError: When there are only values.
        """
        if self.labels is None:
            raise InputError("expected classes, got values only; they become classes by clustering (pseudo_classes)")
        return self.labels

    def select(self, rows: np.ndarray) -> "Table":
        """The same with these samples alone, by their numbers (M,)."""

        def chosen(samples: Samples | None) -> Samples | None:
            return None if samples is None else SelectedSamples(samples, rows)

        return Table(
            SelectedSamples(self.samples, rows),
            None if self.labels is None else self.labels[rows],
            self.classes,
            None if self.splits is None else self.splits[rows],
            None if self.groups is None else {name: numbers[rows] for name, numbers in self.groups.items()},
            chosen(self.targets),
            chosen(self.masks),
            self.target_scale,
        )


def pool_targets(targets: Samples, most: int = MOST_VALUES) -> np.ndarray:
    """Each sample's values in one row (N, D); more than `most` are first averaged over equal blocks of neighbors.

    Values are averaged along the last axes, which are space or time, so that clusters of the rows are
    clusters of the fields at a coarser grid.
    """
    rows = [_coarse(np.asarray(targets[i], dtype=np.float64), most).ravel() for i in range(len(targets))]
    sizes = {row.size for row in rows}
    if len(sizes) > 1:
        raise InputError(f"expected values of one shape to cluster, got sizes from {min(sizes)} to {max(sizes)}")
    return np.stack(rows)


def _coarse(values: np.ndarray, most: int) -> np.ndarray:
    while values.size > most:
        axis = int(np.argmax(values.shape))
        even = values.shape[axis] // 2 * 2
        halves = values[(slice(None),) * axis + (slice(even),)]
        shape = (*values.shape[:axis], even // 2, 2, *values.shape[axis + 1 :])
        values = halves.reshape(shape).mean(axis=axis + 1)
    return values
