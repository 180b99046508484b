"""Common input of all estimators: logits, and labeled entries with their weights."""

from dataclasses import dataclass

import numpy as np

WIDE_HEAD = 1 << 16
"""Number of source classes from which their numbers do not fit into 16 bits."""
ONE_TWO_FIVE = tuple(digit * 10**power for power in range(18) for digit in (1, 2, 5))
"""The numbers 1, 2, 5, 10, 20, 50 and so on, of samples or trials, at which a curve has a point."""


def class_dtype(n_source_classes: int) -> type[np.uint16] | type[np.uint32]:
    """Return the narrowest unsigned integer type that holds the numbers 0..C."""
    return np.uint16 if n_source_classes < WIDE_HEAD else np.uint32


def smallest_width(n_source_classes: int, wanted: int = 3) -> int:
    """Return a number of source classes, at least `wanted`, with the same `class_dtype` as C source classes."""
    return wanted if n_source_classes < WIDE_HEAD else max(wanted, WIDE_HEAD)


@dataclass(frozen=True)
class Problem:
    """Logits with labeled entries. An entry is one sample that counts for one target class.

    Attributes:
        logits: Source logits, float32, C-contiguous, shape (N, C).
        rows: Row of the logits of each entry, shape (E,).
        labels: Target class 0..K-1 of each entry, shape (E,).
        parts: Part 0..P-1 of each entry, shape (E,). Matches are counted by part, so that one pass gives the counts
            on both halves of the samples.
        n_classes: Number K of target classes.
        n_parts: Number P of parts.
        weights: Weight of each entry, positive integers of shape (E,); None if every entry weighs 1.
    """

    logits: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    n_classes: int
    n_parts: int
    weights: np.ndarray | None = None

    @property
    def n_source_classes(self) -> int:
        """Number C of source classes, the outputs of the source model's head."""
        return int(self.logits.shape[1])

    @property
    def entry_weights(self) -> np.ndarray:
        """Weight of each entry, shape (E,)."""
        return np.ones(len(self.rows), np.int64) if self.weights is None else self.weights

    @property
    def part_weights(self) -> np.ndarray:
        """Total weight of the entries of each part, shape (P,)."""
        return np.bincount(self.parts, self.entry_weights, self.n_parts).astype(np.int64)
