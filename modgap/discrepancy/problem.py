"""What every estimator counts on: logits, and which sample counts for which target class."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """Logits with labelled entries; an entry is one sample that counts for one target class.

    Attributes:
        logits: Source logits, float32, C-contiguous, shape (N, C).
        rows: Sample of each entry, shape (E,).
        labels: Target class of each entry, 0..K-1, shape (E,).
        parts: Part of each entry, 0..P-1, shape (E,); matches are counted by part, so one pass gives
            the counts on both halves of the samples.
        n_classes: K.
        n_parts: P.
    """

    logits: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    n_classes: int
    n_parts: int

    @property
    def n_source_classes(self) -> int:
        """C, the outputs of the source model's head."""
        return int(self.logits.shape[1])
