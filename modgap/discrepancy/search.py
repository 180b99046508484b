"""Search for the map with the smallest 0-1 discrepancy over injective maps (Definition 2.1)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.local_search import Entries, anneal_and_climb
from modgap.discrepancy.ranks import Ranking, check_labels, is_injective, rank_samples
from modgap.errors import UsageError


@dataclass(frozen=True)
class Search:
    """Best map of a search.

    Attributes:
        value: Error under the map, in [0, 1]; lower is nearer.
        map: Source class of each target class.
    """

    value: float
    map: tuple[int, ...]


def search(
    logits: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    *,
    starts: Iterable[ArrayLike] = (),
    seed: int = 0,
    threads: int = 1,
    ranking: Ranking | None = None,
    weights: np.ndarray | None = None,
) -> Search:
    """Minimize the 0-1 discrepancy over injective maps by local search.

    The search climbs from the assignment on full arg-max counts, from the maps of `starts`, and from seeded random
    maps, which are annealed first. A climb makes single moves and swaps until none helps, then takes the best
    permutation of its classes, and repeats both until neither helps. The result depends only on the arguments, and not
    on `threads`. It is an upper bound of the infimum of Definition 2.1, which a better map may lie below.

    Args:
        logits: Source logits, finite, float32, C-contiguous, shape (N, C); they may be memory-mapped.
        labels: Target class 0..K-1 of each sample, shape (N,), or of each ranked sample, shape (E,).
        n_classes: Number K of target classes, 2 <= K <= C.
        starts: Injective maps to climb from, each of shape (K,).
        seed: Seed of the random maps and of the annealing.
        threads: Number of worker threads.
        ranking: Result of `rank_samples` for these logits, or of its `take` for some of the samples, such as one half.
            It holds for any labels. None to rank all samples.
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
        >>> search(logits, labels, 3).map
        (5, 6, 7)
    """
    start_maps = [np.asarray(start, dtype=np.int64) for start in starts]
    for start in start_maps:
        if not is_injective(start, n_classes, logits.shape[1]):
            raise UsageError(
                f"The start {start.tolist()} is not an injective map. Expected {n_classes} different source "
                f"classes from 0 to {logits.shape[1] - 1}."
            )
    check_labels(labels, np.arange(len(logits)) if ranking is None else ranking.rows)
    ranking = ranking or rank_samples(logits, n_classes, threads=threads)
    weights = np.ones(len(labels), np.int64) if weights is None else weights
    # The best assignment by the counts of (label, largest logit) is a start, too.
    counts = np.zeros((n_classes, logits.shape[1]), np.int64)
    np.add.at(counts, (labels, ranking.leading[:, 0]), weights)
    start_maps.insert(0, linear_sum_assignment(counts, maximize=True)[1])
    entries = Entries(logits, ranking, labels, weights, n_classes)
    matches, best_map = anneal_and_climb(entries, start_maps, seed, threads)
    return Search(1 - matches / int(weights.sum()), tuple(int(c) for c in best_map))
