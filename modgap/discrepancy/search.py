"""Search for the map with the smallest 0-1 discrepancy over injective maps (Definition 2.1)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.kernels.enumeration import best_of_prefixes
from modgap.discrepancy.ranks import Ranking, check_labels, is_injective, rank_columns, rank_samples
from modgap.discrepancy.restarts import Entries, search_from_starts
from modgap.discrepancy.threads import share_work
from modgap.errors import UsageError

ENUMERABLE = 2_000_000
"""Largest number of injective maps that are all tried."""

PREFIXES_AT_A_TIME = 64


@dataclass(frozen=True)
class Search:
    """Best map of a search.

    Attributes:
        value: Error under the map, in [0, 1]; lower is nearer.
        map: Source class of each target class.
        exact: True if all injective maps were tried, so that no map is better.
        restarts: Number of seeded restarts; 0 if all maps were tried.
        restart_values: Final value of each restart; their spread shows how hard the problem is.
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
    restarts: int | None = 10,
    threads: int = 1,
    ranking: Ranking | None = None,
    enumerable: int = ENUMERABLE,
    weights: np.ndarray | None = None,
) -> Search:
    """Minimize the 0-1 discrepancy over injective maps by local search, or exactly if that is cheap.

    The search climbs from the assignment on full arg-max counts, from the maps of `starts`, and from `restarts` seeded
    random maps, which are annealed first. A climb makes single moves and swaps until none helps, then takes the best
    permutation of its classes, and repeats both until neither helps. The result depends only on the arguments, and not
    on `threads`.

    Args:
        logits: Source logits, finite, float32, C-contiguous, shape (N, C); they may be memory-mapped.
        labels: Target class 0..K-1 of each sample, shape (N,), or of each ranked sample, shape (E,).
        n_classes: Number K of target classes, 2 <= K <= C.
        starts: Injective maps to climb from, each of shape (K,).
        seed: Seed of the random maps and of the annealing.
        restarts: Number of seeded restarts; None to restart until three restarts have found the best value, or a budget
            that depends on the sizes alone is spent.
        threads: Number of worker threads.
        ranking: Result of `rank_samples` for these logits, or of its `take` for some of the samples, such as one half.
            It holds for any labels. None to rank all samples.
        enumerable: Largest number of injective maps that are all tried, if all samples weigh the same.
        weights: Weight of each sample, positive integers; None if every sample weighs 1.

    Returns:
        The best map, never worse than any map of `starts`; ties go to the earlier start.

    Raises:
        UsageError: If a start is not an injective map, or the number of labels is not the number of ranked samples.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat([0, 1, 2], 40)
        >>> logits = rng.standard_normal((120, 200)).astype("float32")
        >>> logits[np.arange(120), labels + 5] += 4
        >>> result = search(logits, labels, 3)
        >>> result.map, result.exact
        ((5, 6, 7), False)
    """
    start_maps = [np.asarray(start, dtype=np.int64) for start in starts]
    for start in start_maps:
        if not is_injective(start, n_classes, logits.shape[1]):
            raise UsageError(
                f"The start {start.tolist()} is not an injective map. Expected {n_classes} different source "
                f"classes from 0 to {logits.shape[1] - 1}."
            )
    rows = np.arange(len(logits)) if ranking is None else ranking.rows
    check_labels(labels, rows)
    if weights is None and is_enumerable(logits.shape[1], n_classes, enumerable):
        return _enumerate(logits, rows, labels, n_classes, threads)
    ranking = ranking or rank_samples(logits, n_classes, threads=threads)
    weights = np.ones(len(labels), np.int64) if weights is None else weights
    # The best assignment by the counts of (label, largest logit) is a start, too.
    counts = np.zeros((n_classes, logits.shape[1]), np.int64)
    np.add.at(counts, (labels, ranking.leading[:, 0]), weights)
    start_maps.insert(0, linear_sum_assignment(counts, maximize=True)[1])
    entries = Entries(logits, ranking, labels, weights, n_classes)
    matches, maps = search_from_starts(entries, start_maps, seed, restarts, threads)
    best = int(matches.argmax())
    total = int(weights.sum())
    return Search(
        value=1 - int(matches[best]) / total,
        map=tuple(int(c) for c in maps[best]),
        exact=False,
        restarts=len(matches) - len(start_maps),
        restart_values=tuple((1 - matches[len(start_maps) :] / total).tolist()),
    )


def is_enumerable(n_source_classes: int, n_classes: int, enumerable: int = ENUMERABLE) -> bool:
    """Return True if there are at most `enumerable` injective maps."""
    return math.perm(n_source_classes, n_classes) <= enumerable


def _enumerate(logits: np.ndarray, rows: np.ndarray, labels: np.ndarray, n_classes: int, threads: int) -> Search:
    """Return the optimum over all maps, with the first of its maps in lexicographic order."""
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(n_classes + 1))
    ranks = rank_columns(logits, rows[order], threads)
    n_prefixes = math.perm(len(ranks), n_classes - 1)
    firsts = range(0, n_prefixes, PREFIXES_AT_A_TIME)
    matches = np.zeros(len(firsts), np.int64)
    maps = np.zeros((len(firsts), n_classes), np.int64)

    def work(queue: Iterable[int]) -> None:
        for f in queue:
            stop = min(firsts[f] + PREFIXES_AT_A_TIME, n_prefixes)
            matches[f] = best_of_prefixes(ranks, bounds, firsts[f], stop, maps[f])

    share_work(range(len(firsts)), threads, work)
    best = int(matches.argmax())
    value = 1 - int(matches[best]) / len(labels)
    return Search(value, tuple(int(c) for c in maps[best]), True, 0, ())
