"""What readers give: samples, labels, and what is known of splits and groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["SPLITS", "ArraySamples", "Samples", "Table"]

SPLITS = ("train", "val", "test")


class Samples(Protocol):
    """Samples by number; each is (C, H, W) or (C, length), and shapes may differ between them."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: int) -> np.ndarray:
        """One sample."""


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
class Table:
    """A target's data as read.

    Attributes:
        samples: The samples.
        labels: Target class of each sample, 0..K-1, shape (N,); 0/1 labels (N, K); or real values (N, ...).
        classes: Class names in label order, or None.
        splits: Index into SPLITS of each sample, shape (N,), or None where the data names none.
        groups: Record, subject or field of each sample, shape (N,), by name.
    """

    samples: Samples
    labels: np.ndarray
    classes: Sequence[str] | None = None
    splits: np.ndarray | None = None
    groups: dict[str, np.ndarray] | None = None
