"""The ranking of samples' source classes that assignment, search and bounds share and reuse."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

from modgap.discrepancy.costs import n_ranks_needed
from modgap.discrepancy.kernels.rank_order import leading_classes
from modgap.discrepancy.problem import Problem, class_dtype
from modgap.discrepancy.threads import share_work
from modgap.discrepancy.trials import RANKED_ROWS, rank_leading
from modgap.storage.memory_map import release_pages

__all__ = ["Ranking", "rank_columns", "rank_samples"]


@dataclass(frozen=True)
class Ranking:
    """Leading source classes of samples; what it leaves out is read from the logits when it matters.

    Attributes:
        rows: Row of the logits that each ranked sample is, shape (E,).
        leading: Classes of the largest logits, largest first, ties to the lowest class, shape (E, R).
        n_source_classes: C.
    """

    rows: np.ndarray
    leading: np.ndarray
    n_source_classes: int

    @cached_property
    def index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each class is met: (firsts (C + 1,), samples (E R,), ranks (E R,)), sorted by class."""
        firsts = np.zeros(self.n_source_classes + 1, np.int64)
        samples = np.empty(self.leading.size, np.uint32)
        ranks = np.empty(self.leading.size, self.leading.dtype)
        _invert(self.leading, firsts, samples, ranks)
        return firsts, samples, ranks

    def take(self, members: np.ndarray) -> "Ranking":
        """The ranking of some of the samples, given by their places in this one, shape (E,)."""
        return Ranking(self.rows[members], self.leading[members], self.n_source_classes)


def rank_samples(logits: np.ndarray, n_classes: int, *, threads: int = 1, kept: int | None = None) -> Ranking:
    """Rank every sample's source classes, as deep as maps of `n_classes` classes need.

    Args:
        logits: Source logits, float32, C-contiguous, shape (N, C); may be memory-mapped.
        n_classes: K.
        threads: Worker threads.
        kept: R, the ranks to keep; None for `n_ranks_needed`.

    Returns:
        The ranking of all N samples, for any labels of K classes.

    Example:
        >>> rank_samples(np.array([[1, 3, 2], [5, 0, 5]], np.float32), 2).leading
        array([[1, 2, 0],
               [0, 2, 1]], dtype=uint16)
    """
    samples, classes = logits.shape
    kept = kept or n_ranks_needed(samples, classes, n_classes)
    nobody = np.zeros(0, np.int64)
    problem = Problem(logits, nobody, nobody, nobody, n_classes, 1)
    leading = _first_classes(problem, threads) if kept == 1 else rank_leading(problem, kept, threads)
    return Ranking(np.arange(samples), leading, classes)


def _first_classes(problem: Problem, threads: int) -> np.ndarray:
    """What `rank_leading` gives for one rank, as fast as logits can be read."""
    leading: np.ndarray = np.empty((len(problem.logits), 1), class_dtype(problem.n_source_classes))

    def find(firsts: Iterable[int]) -> None:
        for first in firsts:
            leading[first : first + RANKED_ROWS, 0] = problem.logits[first : first + RANKED_ROWS].argmax(axis=1)

    share_work(range(0, len(leading), RANKED_ROWS), threads, find)
    release_pages(problem.logits)
    return leading


def rank_columns(logits: np.ndarray, rows: np.ndarray, threads: int) -> np.ndarray:
    """Rank of each class in each of these rows, class by class: 0 for the largest logit, shape (C, E)."""
    classes = logits.shape[1]
    dtype = class_dtype(classes)
    ranks: np.ndarray = np.empty((classes, len(rows)), dtype)

    def rank(firsts: Iterable[int]) -> None:
        leading: np.ndarray = np.empty((RANKED_ROWS, classes), dtype)
        for first in firsts:
            block = np.ascontiguousarray(logits[rows[first : first + RANKED_ROWS]])
            leading_classes(block, 0, len(block), leading)
            _scatter(leading[: len(block)], ranks[:, first : first + len(block)])

    share_work(range(0, len(rows), RANKED_ROWS), threads, rank)
    return ranks


@njit(cache=True, nogil=True)
def _invert(leading, firsts, samples, ranks):
    """Sort the (sample, rank) of every kept rank by class; `firsts` comes in all zero."""
    for i in range(leading.shape[0]):
        for r in range(leading.shape[1]):
            firsts[leading[i, r] + 1] += 1
    for c in range(len(firsts) - 1):
        firsts[c + 1] += firsts[c]
    places = firsts[:-1].copy()
    for i in range(leading.shape[0]):
        for r in range(leading.shape[1]):
            c = leading[i, r]
            samples[places[c]] = i
            ranks[places[c]] = r
            places[c] += 1


@njit(cache=True, nogil=True)
def _scatter(leading, ranks):
    for i in range(leading.shape[0]):
        for r in range(leading.shape[1]):
            ranks[leading[i, r], i] = r
