"""What every estimator counts on: logits, and which sample counts how much for which target class."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Problem", "class_dtype"]


def class_dtype(n_source_classes: int) -> type[np.uint16] | type[np.uint32]:
    """Return the narrowest unsigned integer type that holds the numbers 0..C of source classes."""
    return np.uint16 if n_source_classes < 1 << 16 else np.uint32


@dataclass(frozen=True)
class Problem:
    """Logits with labeled entries; an entry is one sample that counts for one target class.

    Attributes:
        logits: Source logits, float32, C-contiguous, shape (N, C).
        rows: Sample of each entry, shape (E,).
        labels: Target class of each entry, 0..K-1, shape (E,).
        parts: Part of each entry, 0..P-1, shape (E,); matches are counted by part, so one pass gives
            the counts on both halves of the samples.
        n_classes: K.
        n_parts: P.
        weights: What each entry counts, positive integers, shape (E,); None for 1 each.
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
        """C, the outputs of the source model's head."""
        return int(self.logits.shape[1])

    @property
    def entry_weights(self) -> np.ndarray:
        """What each entry counts, shape (E,)."""
        return np.ones(len(self.rows), np.int64) if self.weights is None else self.weights

    @property
    def part_weights(self) -> np.ndarray:
        """What all entries of each part count together, shape (P,)."""
        return np.bincount(self.parts, self.entry_weights, self.n_parts).astype(np.int64)
