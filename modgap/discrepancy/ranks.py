"""Ranking of the source classes of each sample, which the search uses."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modgap.discrepancy.costs import n_ranks_needed
from modgap.discrepancy.kernels.rank_index import fill_class_index
from modgap.discrepancy.kernels.rank_order import leading_classes, new_items
from modgap.discrepancy.problem import class_dtype
from modgap.discrepancy.threads import share_pass
from modgap.errors import UsageError
from modgap.labels.label_space import row_numbers

RANKED_ROWS = 512
"""Number of samples that a thread ranks at a time."""


@dataclass(frozen=True)
class Ranking:
    """Leading source classes of samples. Deeper ranks are read from the logits when they matter.

    Attributes:
        rows: Row of the logits of each ranked sample, shape (E,).
        leading: Classes of the R largest logits of each sample, largest first, with ties to the lowest class; shape
            (E, R).
        n_source_classes: Number C of source classes.
    """

    rows: np.ndarray
    leading: np.ndarray
    n_source_classes: int

    @cached_property
    def index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Index by class of all leading ranks: first entry of each class (C + 1,), and samples and ranks (E R,)."""
        firsts = np.zeros(self.n_source_classes + 1, np.int64)
        samples = np.empty(self.leading.size, np.uint32)
        ranks = np.empty(self.leading.size, self.leading.dtype)
        fill_class_index(self.leading, firsts, samples, ranks, np.empty_like(firsts[1:]))
        return firsts, samples, ranks

    def take(self, members: np.ndarray) -> "Ranking":
        """Return the ranking of some of the samples.

        Args:
            members: Positions of the samples in this ranking, shape (M,).
        """
        return Ranking(self.rows[members], self.leading[members], self.n_source_classes)


def is_injective(source_classes: np.ndarray, n_classes: int, n_source_classes: int) -> bool:
    """Return True for K different numbers of source classes, shape (K,)."""
    is_map = source_classes.shape == (n_classes,) and len(np.unique(source_classes)) == n_classes
    return bool(is_map and source_classes.min() >= 0 and source_classes.max() < n_source_classes)


def check_labels(labels: np.ndarray, rows: np.ndarray) -> None:
    """Raise a UsageError if there is not one label for each ranked sample."""
    if len(labels) != len(rows):
        raise UsageError(
            f"There are {len(labels)} labels for {len(rows)} ranked samples. Expected one label for each sample."
        )


def rank_samples(logits: np.ndarray, n_classes: int, *, threads: int = 1, depth: int | None = None) -> Ranking:
    """Rank the source classes of every sample, as deep as the search for maps of `n_classes` classes needs.

    Args:
        logits: Source logits, float32, C-contiguous, shape (N, C); they may be memory-mapped.
        n_classes: Number K of target classes.
        threads: Number of worker threads.
        depth: Number R of ranks to keep; None for `n_ranks_needed`.

    Returns:
        The ranking of all N samples, for any labels of K classes.

    Example:
        >>> rank_samples(np.array([[1, 3, 2], [5, 0, 5]], np.float32), 2, depth=3).leading
        array([[1, 2, 0],
               [0, 2, 1]], dtype=uint16)
    """
    n_samples, n_source_classes = logits.shape
    depth = depth or n_ranks_needed(n_samples, n_source_classes, n_classes)
    leading = _first_classes(logits, threads) if depth == 1 else rank_leading(logits, depth, threads)
    return Ranking(row_numbers(n_samples), leading, n_source_classes)


def _first_classes(logits: np.ndarray, threads: int) -> np.ndarray:
    """Return the same as `rank_leading` for one rank, as fast as the logits can be read."""
    leading: np.ndarray = np.empty((len(logits), 1), class_dtype(logits.shape[1]))

    def work(queue: Iterable[int]) -> None:
        for first in queue:
            leading[first : first + RANKED_ROWS, 0] = logits[first : first + RANKED_ROWS].argmax(axis=1)

    share_pass(logits, range(0, len(leading), RANKED_ROWS), threads, work)
    return leading


def _copy_rows(logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return a copy of some rows of the logits, for kernels that are compiled for read-only logits."""
    block = np.ascontiguousarray(logits[rows])
    block.flags.writeable = False
    return block


def rank_leading(logits: np.ndarray, depth: int, threads: int) -> np.ndarray:
    """Return the classes of the largest logits (N, C) of each sample, largest first, shape (N, depth)."""
    n_samples, n_source_classes = logits.shape
    leading: np.ndarray = np.empty((n_samples, depth), class_dtype(n_source_classes))

    def work(queue: Iterable[int]) -> None:
        items = new_items(n_source_classes)
        for first in queue:
            leading_classes(logits, first, min(first + RANKED_ROWS, n_samples), leading, *items)

    share_pass(logits, range(0, n_samples, RANKED_ROWS), threads, work)
    return leading
