"""The exactly best permutation on many subsets of the source classes, by linear assignment."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.costs import should_walk_ranks
from modgap.discrepancy.kernels.confusion import count_by_reading, count_by_walking
from modgap.discrepancy.kernels.random_maps import draw_maps
from modgap.discrepancy.ranks import Ranking, rank_samples
from modgap.discrepancy.threads import share_work
from modgap.errors import UsageError

__all__ = ["Assignment", "assignment"]

SUBSETS_AT_A_TIME = 16


@dataclass(frozen=True)
class Assignment:
    """The best map over subsets of the source classes, each with its best permutation.

    Attributes:
        value: Share of samples got wrong under the map, in [0, 1]; lower is nearer.
        map: Source class of each target class.
        subsets: Subsets tried, random and given ones together.
        best_subset: Number of the subset that the map is of: drawn ones first, then the given ones.
    """

    value: float
    map: tuple[int, ...]
    subsets: int
    best_subset: int


def assignment(
    logits: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    *,
    subsets: int = 1000,
    extra: Iterable[ArrayLike] = (),
    seed: int = 0,
    threads: int = 1,
    ranking: Ranking | None = None,
    weights: np.ndarray | None = None,
) -> Assignment:
    """Smallest 0-1 discrepancy over given subsets of the source classes and all their permutations.

    For a fixed subset each sample's predicted class is fixed too, so the best permutation is a linear
    assignment on the counts of (label, predicted source class). Random subset m holds the classes of the
    Monte-Carlo estimator's trial m of the same seed.

    Args:
        logits: Source logits, finite, float32, C-contiguous, shape (N, C); may be memory-mapped.
        labels: Target class 0..K-1 of each sample, shape (N,), or of each ranked sample, shape (E,).
        n_classes: K, 2 <= K <= C.
        subsets: Random subsets M.
        extra: More subsets, each K different source classes; the winner of the Monte-Carlo trials, say.
            The result is never worse than any of them taken as a map.
        seed: Seed of the random subsets.
        threads: Worker threads; the result does not depend on it.
        ranking: What `rank_samples` gives for these logits, or its `take`; None to rank now.
        weights: What each sample counts, positive integers; None for 1 each.

    Returns:
        The best map; ties go to the first subset.

    Raises:
        UsageError: When there is no subset, or one does not hold K different source classes.

    Example:
        >>> logits = np.array([[0, 1, 2], [3, 1, 0], [2, 1, 0]], np.float32)
        >>> assignment(logits, np.array([0, 1, 0]), 2, subsets=0, extra=[[0, 2]])
        Assignment(value=0.33333333333333337, map=(2, 0), subsets=1, best_subset=0)
    """
    ranking = ranking or rank_samples(logits, n_classes, threads=threads)
    if len(labels) != len(ranking.rows):
        raise UsageError(f"expected one label for each of {len(ranking.rows)} ranked samples, got {len(labels)}")
    chosen = _subsets(logits.shape[1], n_classes, subsets, extra, seed)
    weights = np.ones(len(labels), np.int64) if weights is None else weights
    matches, maps = _assign_all(logits, ranking, labels, weights, chosen, threads)
    best = int(matches.argmax())
    value = 1 - int(matches[best]) / int(weights.sum())
    return Assignment(value, tuple(int(c) for c in maps[best]), len(chosen), best)


def _subsets(n_source_classes: int, n_classes: int, drawn: int, extra, seed: int) -> np.ndarray:
    """The drawn and the given subsets, each sorted, shape (M, K)."""
    given = [np.asarray(subset, np.int64) for subset in extra]
    for subset in given:
        inside = subset.shape == (n_classes,) and subset.min() >= 0 and subset.max() < n_source_classes
        if not inside or len(np.unique(subset)) < n_classes:
            raise UsageError(
                f"expected a subset of {n_classes} different source classes below {n_source_classes}, "
                f"got {subset.tolist()}"
            )
    if drawn + len(given) < 1:
        raise UsageError("expected at least one subset, got none; ask for random ones or give some")
    maps = np.empty((drawn, n_classes), np.int64)
    draw_maps(np.uint64(seed), 0, maps, np.arange(n_source_classes))
    return np.sort(np.vstack([maps, *given]), axis=1)


def _assign_all(logits, ranking: Ranking, labels, weights, chosen: np.ndarray, threads: int):
    """Matches (M,) and maps (M, K) of the best permutation of each subset.

    A subset whose row or column maxima sum to less than the best so far is passed over: it keeps zero
    matches, and which subset wins does not depend on it.
    """
    subsets, n_classes = chosen.shape
    matches = np.zeros(subsets, np.int64)
    maps = chosen.copy()
    best = [0]

    def work(queue: Iterable[int]) -> None:
        place = np.full(ranking.n_source_classes, -1, np.int32)
        counts = np.empty((SUBSETS_AT_A_TIME, n_classes, n_classes), np.int64)
        for first in queue:
            block = chosen[first : first + SUBSETS_AT_A_TIME]
            _count(logits, ranking, labels, weights, block, place, counts)
            for m, table in enumerate(counts[: len(block)], start=first):
                if min(table.max(axis=0).sum(), table.max(axis=1).sum()) < best[0]:
                    continue
                predicted = linear_sum_assignment(table, maximize=True)[1]
                matches[m] = table[np.arange(n_classes), predicted].sum()
                maps[m] = chosen[m, predicted]
                best[0] = max(best[0], int(matches[m]))

    share_work(range(0, subsets, SUBSETS_AT_A_TIME), threads, work)
    return matches, maps


def _count(logits, ranking: Ranking, labels, weights, block, place, counts) -> None:
    """Count (label, predicted class) under each subset of a block, by the cheaper of two kernels."""
    n_classes = block.shape[1]
    if should_walk_ranks(ranking.n_source_classes, n_classes):
        count_by_walking(logits, ranking.rows, ranking.leading, labels, weights, block, place, counts)
    else:
        count_by_reading(logits, ranking.rows, labels, weights, block, counts)
