"""The map itself searched for: the smallest 0-1 discrepancy over injective maps (Definition 2.1)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.kernels.enumeration import best_of_prefixes
from modgap.discrepancy.ranks import Ranking, rank_columns, rank_samples
from modgap.discrepancy.restarts import Entries, search_from
from modgap.discrepancy.threads import share_work
from modgap.errors import UsageError

__all__ = ["ENUMERABLE", "Search", "search"]

ENUMERABLE = 2_000_000
"""Injective maps up to which all of them are tried."""

PREFIXES_AT_A_TIME = 64


@dataclass(frozen=True)
class Search:
    """The best map found.

    Attributes:
        value: Share of samples got wrong under the map, in [0, 1]; lower is nearer.
        map: Source class of each target class.
        exact: Whether all injective maps were tried, so that no map is better.
        restarts: Seeded restarts; 0 where all maps were tried.
        restart_values: Value that each restart ended with; their spread tells how hard the problem is.
    """

    value: float
    map: tuple[int, ...]
    exact: bool
    restarts: int
    restart_values: tuple[float, ...]


def search(
    logits: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    *,
    starts: Iterable[ArrayLike] = (),
    seed: int = 0,
    restarts: int = 10,
    threads: int = 1,
    ranking: Ranking | None = None,
    enumerable: int = ENUMERABLE,
    weights: np.ndarray | None = None,
) -> Search:
    """Minimize the 0-1 discrepancy over injective maps by local search, or exactly where that is cheap.

    Climbs start from the assignment on full-argmax counts, from the given maps and from `restarts`
    seeded random maps, which are annealed first. A climb takes single moves and swaps
    until none helps, then the best permutation of the classes it has, and goes on until that does not
    help either. The result depends on the arguments alone, not on `threads`.

    Args:
        logits: Source logits, finite, float32, C-contiguous, shape (N, C); may be memory-mapped.
        labels: Target class 0..K-1 of each sample, shape (N,), or of each ranked sample, shape (E,).
        n_classes: K, 2 <= K <= C.
        starts: Injective maps to climb from, each of shape (K,).
        seed: Seed of the random maps and of the annealing.
        restarts: Seeded restarts.
        threads: Worker threads.
        ranking: What `rank_samples` gives for these logits, or its `take` for some of the samples (one
            half, say); it holds for any labels. None to rank all samples now.
        enumerable: Try all injective maps where there are at most this many and samples weigh the same.
        weights: What each sample counts, positive integers; None for 1 each.

    Returns:
        The best map found, never worse than any map of `starts`; ties go to the earlier start.

    Raises:
        UsageError: When a start is not an injective map, or there is nothing to start from.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat([0, 1, 2], 40)
        >>> logits = rng.standard_normal((120, 200)).astype("float32")
        >>> logits[np.arange(120), labels + 5] += 4
        >>> result = search(logits, labels, 3)
        >>> result.map, result.exact
        ((5, 6, 7), False)
    """
    given = [_checked_start(start, n_classes, logits.shape[1]) for start in starts]
    rows = np.arange(len(logits)) if ranking is None else ranking.rows
    if len(labels) != len(rows):
        raise UsageError(f"expected one label for each of {len(rows)} ranked samples, got {len(labels)}")
    if weights is None and math.perm(logits.shape[1], n_classes) <= enumerable:
        return _enumerate(logits, rows, labels, n_classes, threads)
    ranking = ranking or rank_samples(logits, n_classes, threads=threads)
    weights = np.ones(len(labels), np.int64) if weights is None else weights
    given.insert(0, _argmax_map(ranking, labels, weights, n_classes))
    entries = Entries(logits, ranking, labels, weights, n_classes)
    matches, maps = search_from(entries, given, seed, restarts, threads)
    best = int(matches.argmax())
    total = int(weights.sum())
    return Search(
        value=1 - int(matches[best]) / total,
        map=tuple(int(c) for c in maps[best]),
        exact=False,
        restarts=restarts,
        restart_values=tuple((1 - matches[len(given) :] / total).tolist()),
    )


def _checked_start(start: ArrayLike, n_classes: int, n_source_classes: int) -> np.ndarray:
    chosen = np.asarray(start, dtype=np.int64)
    inside = chosen.shape == (n_classes,) and chosen.min() >= 0 and chosen.max() < n_source_classes
    if not inside or len(np.unique(chosen)) < n_classes:
        raise UsageError(
            f"expected a start of {n_classes} different source classes below {n_source_classes}, got {chosen.tolist()}"
        )
    return chosen


def _argmax_map(ranking: Ranking, labels: np.ndarray, weights: np.ndarray, n_classes: int) -> np.ndarray:
    """The map of `bounds.upper_bound`: the best assignment by which class is a sample's first of all."""
    counts = np.zeros((n_classes, ranking.n_source_classes), np.int64)
    np.add.at(counts, (labels, ranking.leading[:, 0]), weights)
    return linear_sum_assignment(counts, maximize=True)[1]


def _enumerate(logits, rows, labels, n_classes: int, threads: int) -> Search:
    """The optimum, and the first of its maps in lexicographic order."""
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(n_classes + 1))
    ranks = rank_columns(logits, rows[order], threads)
    prefixes = math.perm(len(ranks), n_classes - 1)
    firsts = range(0, prefixes, PREFIXES_AT_A_TIME)
    matches = np.zeros(len(firsts), np.int64)
    maps = np.zeros((len(firsts), n_classes), np.int64)

    def work(queue: Iterable[int]) -> None:
        for f in queue:
            stop = min(firsts[f] + PREFIXES_AT_A_TIME, prefixes)
            matches[f] = best_of_prefixes(ranks, bounds, firsts[f], stop, maps[f])

    share_work(range(len(firsts)), threads, work)
    best = int(matches.argmax())
    value = 1 - int(matches[best]) / len(labels)
    return Search(value, tuple(int(c) for c in maps[best]), True, 0, ())
