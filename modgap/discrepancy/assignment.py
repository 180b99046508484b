"""Best permutation on each of many subsets of the source classes, by exact linear assignment."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.costs import n_ranks_worth_keeping, should_walk_ranks
from modgap.discrepancy.kernels.confusion import count_by_reading, count_by_walking
from modgap.discrepancy.ranks import Ranking, check_labels, is_injective, rank_rows, rank_samples
from modgap.discrepancy.threads import RESIDENT_BYTES, share_work
from modgap.discrepancy.trials import random_maps
from modgap.errors import UsageError
from modgap.storage.memory_map import release_pages

SUBSETS_AT_A_TIME = 16

RANKED_BYTES = 1 << 23
"""Size of the ranks of those samples that are ranked and counted at a time, where the search needs no ranks."""
COUNT_BYTES = 1 << 26
"""Size of the counts of those subsets that are counted in one pass over the samples then."""


@dataclass(frozen=True)
class Assignment:
    """Best map over subsets of the source classes, each with its best permutation.

    Attributes:
        value: Error under the map, in [0, 1]; lower is nearer.
        map: Source class of each target class.
        subsets: Number of subsets that were tried, random and extra ones together.
        best_subset: Number of the subset of the map; random subsets are counted first, then the extra ones.
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
    """Minimize the 0-1 discrepancy over subsets of the source classes and all their permutations.

    For a fixed subset, the predicted source class of each sample is fixed too. The best permutation is therefore a
    linear assignment on the counts of (label, predicted source class). Random subset m has the classes of the
    Monte-Carlo estimator's trial m with the same seed.

    Args:
        logits: Source logits, finite, float32, C-contiguous, shape (N, C); they may be memory-mapped.
        labels: Target class 0..K-1 of each sample, shape (N,), or of each ranked sample, shape (E,).
        n_classes: Number K of target classes, 2 <= K <= C.
        subsets: Number M of random subsets.
        extra: Further subsets, each of K different source classes, such as the best map of the Monte-Carlo trials. The
            result is never worse than any of them taken as a map.
        seed: Seed of the random subsets.
        threads: Number of worker threads; it does not change the result.
        ranking: Result of `rank_samples` for these logits, or of its `take`; None to rank all samples.
        weights: Weight of each sample, positive integers; None if every sample weighs 1.

    Returns:
        The best map; ties go to the first subset.

    Raises:
        UsageError: If there is no subset, a subset does not have K different source classes, or the number of labels
            is not the number of ranked samples.

    Example:
        >>> logits = np.array([[0, 1, 2], [3, 1, 0], [2, 1, 0]], np.float32)
        >>> assignment(logits, np.array([0, 1, 0]), 2, subsets=0, extra=[[0, 2]])
        Assignment(value=0.33333333333333337, map=(2, 0), subsets=1, best_subset=0)
    """
    ranking = ranking or rank_samples(logits, n_classes, threads=threads)
    check_labels(labels, ranking.rows)
    n_source_classes = logits.shape[1]
    extra_subsets = [np.asarray(subset, np.int64) for subset in extra]
    for subset in extra_subsets:
        if not is_injective(subset, n_classes, n_source_classes):
            raise UsageError(
                f"{subset.tolist()} is not a subset to assign. Expected {n_classes} different source classes from 0 "
                f"to {n_source_classes - 1}."
            )
    if subsets + len(extra_subsets) < 1:
        raise UsageError("There is no subset of source classes. Expected at least one random or extra subset.")
    maps = random_maps(seed, 0, subsets, n_classes, n_source_classes)
    all_subsets = np.sort(np.vstack([maps, *extra_subsets]), axis=1)
    weights = np.ones(len(labels), np.int64) if weights is None else weights
    matches, maps = _assign_all(logits, ranking, labels, weights, all_subsets, threads)
    best = int(matches.argmax())
    value = 1 - int(matches[best]) / int(weights.sum())
    return Assignment(value, tuple(int(c) for c in maps[best]), len(all_subsets), best)


def _assign_all(
    logits: np.ndarray, ranking: Ranking, labels: np.ndarray, weights: np.ndarray, subsets: np.ndarray, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the matches (M,) and the map (M, K) of the best permutation of each subset.

    A subset is skipped if the sum of its row or column maxima is below the best matches so far. It keeps zero matches,
    and the choice of the best subset does not depend on it.
    """
    n_subsets, n_classes = subsets.shape
    matches = np.zeros(n_subsets, np.int64)
    maps = subsets.copy()
    # A list, so that the worker threads share one number.
    best_matches = [0]
    depth = n_ranks_worth_keeping(len(logits), ranking.n_source_classes, n_classes)
    # The search needs no ranks of few target classes, so that the counts of many subsets fit into memory.
    in_parts = should_walk_ranks(ranking.n_source_classes, n_classes) and ranking.leading.shape[1] < depth
    size = SUBSETS_AT_A_TIME * max(1, COUNT_BYTES // (8 * SUBSETS_AT_A_TIME * n_classes**2)) if in_parts else n_subsets

    def work(queue: Iterable[int], start: int, tables: np.ndarray | None) -> None:
        positions = np.full(ranking.n_source_classes, -1, np.int32)
        counts = np.empty((SUBSETS_AT_A_TIME, n_classes, n_classes), np.int64)
        for first in queue:
            block = subsets[first : first + SUBSETS_AT_A_TIME]
            if tables is None:
                _count(logits, ranking, labels, weights, block, positions, counts)
            else:
                counts[: len(block)] = tables[first - start : first - start + len(block)]
            for m, table in enumerate(counts[: len(block)], start=first):
                if min(table.max(axis=0).sum(), table.max(axis=1).sum()) < best_matches[0]:
                    continue
                predicted = linear_sum_assignment(table, maximize=True)[1]
                matches[m] = table[np.arange(n_classes), predicted].sum()
                maps[m] = subsets[m, predicted]
                best_matches[0] = max(best_matches[0], int(matches[m]))

    for start in range(0, n_subsets, size):
        stop = min(start + size, n_subsets)
        tables = None
        if in_parts:
            tables = _count_in_parts(logits, ranking.rows, labels, weights, subsets[start:stop], depth, threads)
        share_work(range(start, stop, SUBSETS_AT_A_TIME), threads, partial(work, start=start, tables=tables))
    return matches, maps


def _count_in_parts(
    logits: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    subsets: np.ndarray,
    depth: int,
    threads: int,
) -> np.ndarray:
    """Count (label, predicted class) under all subsets, shape (M, K, K), with ranks of a part of the entries at a time.

    The ranks of all entries would take as much memory as a part of the logits.
    """
    n_subsets, n_classes = subsets.shape
    tables = np.zeros((n_subsets, n_classes, n_classes), np.int64)
    size = max(1, RANKED_BYTES // (2 * depth))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        ranking = rank_rows(logits, rows[part], depth, threads)

        def work(queue: Iterable[int], ranking: Ranking = ranking, part: slice = part) -> None:
            positions = np.full(ranking.n_source_classes, -1, np.int32)
            counts = np.empty((SUBSETS_AT_A_TIME, n_classes, n_classes), np.int64)
            for first in queue:
                block = subsets[first : first + SUBSETS_AT_A_TIME]
                _count(logits, ranking, labels[part], weights[part], block, positions, counts)
                tables[first : first + len(block)] += counts[: len(block)]

        share_work(range(0, n_subsets, SUBSETS_AT_A_TIME), threads, work)
        release_pages(logits)
    return tables


def _count(
    logits: np.ndarray,
    ranking: Ranking,
    labels: np.ndarray,
    weights: np.ndarray,
    block: np.ndarray,
    positions: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Count (label, predicted class) under each subset of a block with the cheaper of two kernels."""
    if should_walk_ranks(ranking.n_source_classes, block.shape[1]):
        count_by_walking(logits, ranking.rows, ranking.leading, labels, weights, block, positions, counts)
    else:
        counts[: len(block)] = 0
        size = max(1, len(labels) * RESIDENT_BYTES // max(logits.nbytes, 1))
        for first in range(0, len(labels), size):
            part = slice(first, first + size)
            count_by_reading(logits, ranking.rows[part], labels[part], weights[part], block, counts)
            release_pages(logits)
