"""Certified bounds on the infimum of Definition 2.1."""

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.kernels.class_groups import best_pair, best_partition, count_wins, refine_triple, triple_bounds
from modgap.discrepancy.ranks import Ranking, rank_columns, rank_samples
from modgap.discrepancy.search import search
from modgap.discrepancy.threads import share_work
from modgap.labels.label_space import LabelSpace, label_space

ROWS_AT_A_TIME = 64
NODES_AT_A_TIME = 1024
SHORTEST_SPAN = 0.2
"""Shortest time that a triple is refined for, in seconds."""

Triple = tuple[int, int, int]
BLOCK_SIZE = 12
MEMORY = 1 << 31


def upper_bound(logits: np.ndarray, labels: ArrayLike | LabelSpace) -> float:
    """Compute an upper bound on the smallest 0-1 discrepancy over all injective maps, without any search.

    If the largest logit of a sample over ALL source classes is the one of its label's class, the sample is classified
    correctly under every map that chooses this class. So the best assignment of target to source classes by those
    counts classifies at least as many samples correctly as its own count.

    Args:
        logits: Source logits, shape (N, C).
        labels: Integer labels (N,), 0/1 labels (N, K), or a label space.

    Returns:
        An error in [0, 1].

    Example:
        >>> upper_bound(np.array([[0., 1, 2], [3, 1, 0], [2, 1, 0]]), [0, 1, 0])
        0.33333333333333337
    """
    space = labels if isinstance(labels, LabelSpace) else label_space(labels)
    first_classes = rank_samples(logits, space.n_classes, depth=1).leading[:, 0]
    counts = np.zeros((space.n_classes, logits.shape[1]), np.int64)
    np.add.at(counts, (space.labels, first_classes[space.rows][space.entry_samples]), space.entry_weights)
    assigned = linear_sum_assignment(counts, maximize=True)
    return float(1 - counts[assigned].sum() / space.entry_weights.sum())


@dataclass(frozen=True)
class LowerBound:
    """Lower bound on the error of every injective map, with its certificate.

    Attributes:
        value: Error that no map can fall below, in [0, 1].
        groups: Partition of the target classes.
        matches: For each group, the number of its samples that no map can exceed in correct predictions.
        exact: True if each of `matches` is the optimum of its group; if not, more time may raise the value.
    """

    value: float
    groups: tuple[tuple[int, ...], ...]
    matches: tuple[int, ...]
    exact: bool


def lower_bound(
    logits: np.ndarray, labels: np.ndarray, n_classes: int, *, seconds: float = 60.0, threads: int = 1
) -> LowerBound:
    """Compute a lower bound on the smallest 0-1 discrepancy over all injective maps, from groups of target classes.

    Removing competitors can only help a class. So, for any partition of the target classes into groups, no map
    classifies more samples correctly than the sum of what each group could reach alone. Optima of pairs come from
    tables of which class beats which, optima of triples from branch and bound, and the partition from dynamic
    programming over subsets of classes. If there are more than BLOCK_SIZE classes, they are divided into blocks first.
    The bound is valid whenever it is stopped, only lower: optima that are not known yet are replaced by upper bounds.

    Args:
        logits: Source logits, finite, float32, C-contiguous, shape (N, C).
        labels: Target labels 0..K-1, shape (N,).
        n_classes: Number K of target classes, 2 <= K <= C.
        seconds: Time limit in seconds; a step in progress may exceed it. If the bound does not finish, its height
            depends on the speed of the machine.
        threads: Number of worker threads.

    Returns:
        The bound and its certificate. If even the tables of one block do not fit into MEMORY or into the time limit,
        this is the trivial bound 0.

    Example:
        >>> logits = np.eye(4, dtype="float32")[[0, 0, 1, 1, 2, 2, 2, 3]]
        >>> bound = lower_bound(logits, np.array([0, 1, 0, 1, 2, 3, 2, 3]), 4)
        >>> bound.value, bound.groups
        (0.375, ((0, 1), (2, 3)))
    """
    deadline = time.monotonic() + seconds
    blocks = np.array_split(np.arange(n_classes), -(-n_classes // BLOCK_SIZE))
    # The tables of wins take as much memory as one of all classes for each target class.
    if len(blocks[0]) * logits.shape[1] ** 2 * np.dtype(_count_dtype(labels)).itemsize > MEMORY:
        return LowerBound(0.0, (tuple(range(n_classes)),), (len(labels),), False)
    ranking = rank_samples(logits, 3, threads=threads)
    groups: list[tuple[int, ...]] = []
    matches: list[int] = []
    all_exact = True
    for number, classes in enumerate(blocks):
        now = time.monotonic()
        block = ClassBlock(logits, labels, ranking, classes)
        block.refine(threads, now + (deadline - now) / (len(blocks) - number))
        for group, group_matches, is_exact in block.best_partition():
            groups.append(tuple(int(classes[k]) for k in group))
            matches.append(group_matches)
            all_exact = all_exact and is_exact
    return LowerBound(1 - sum(matches) / len(labels), tuple(groups), tuple(matches), all_exact)


def _count_dtype(labels: np.ndarray) -> type[np.int16] | type[np.int32]:
    """Return the narrowest type that holds the number of samples of any class."""
    return np.int16 if np.bincount(labels).max() < 1 << 15 else np.int32


class ClassBlock:
    """Upper bounds on the matches of all pairs and triples of B target classes.

    Attributes:
        pairs: Bound of each pair, at two increasing positions in the block, shape (B, B); trivial until `refine` has
            counted the wins.
        upper: Bound of each triple, at three increasing positions in the block, shape (B, B, B).
        lower: Matches that a search reached for each triple, shape (B, B, B); equal to `upper` if that is exact.
    """

    def __init__(self, logits: np.ndarray, labels: np.ndarray, ranking: Ranking, classes: np.ndarray) -> None:
        """Select the samples of the target classes.

        Args:
            logits: Source logits, shape (N, C).
            labels: Target class of each sample, shape (N,).
            ranking: Ranking of all samples for maps of three classes.
            classes: Target classes of the block, shape (B,).
        """
        self.logits = logits
        self.ranking = ranking
        self.size = len(classes)
        self.members = [np.flatnonzero(labels == k) for k in classes]
        self.sizes = np.array([len(samples) for samples in self.members])
        self.dtype = _count_dtype(labels)
        self.pairs = self.sizes[:, None] + self.sizes
        self.upper = self.pairs[:, :, None] + self.sizes
        self.lower = np.zeros_like(self.upper)
        self.ranks: list[np.ndarray] = []
        self.wins: np.ndarray = np.zeros((0, 0, 0), self.dtype)

    def best_partition(self) -> list[tuple[tuple[int, ...], int, bool]]:
        """Return the partition with the lowest total bound.

        Returns:
            For each group: its positions in the block, its bound, and True if the bound is the group's optimum.
        """
        groups = []
        for group in self._partition(self.upper):
            is_pair = len(group) == 2
            bound = self.pairs[group] if is_pair else self.upper[group]
            is_exact = len(self.wins) > 0 if is_pair else bool(self.lower[group] == self.upper[group])
            groups.append((group, int(bound), is_exact))
        return groups

    def refine(self, threads: int, deadline: float) -> None:
        """Tighten the bounds until time is up or the best partition consists of exact optima.

        The partition that would be the best if the search of every triple were exact is refined first.

        Args:
            threads: Number of worker threads.
            deadline: Value of `time.monotonic()` to stop at.
        """
        if not self._count(threads, deadline):
            return
        targets = self._search_triples(threads, deadline)
        while time.monotonic() < deadline:
            triples = [group for group in self._partition(targets) if len(group) == 3]
            pending = [triple for triple in triples if targets[triple] < self.upper[triple]]
            if not pending:
                break
            now = time.monotonic()
            n_waves = -(-len(pending) // threads)
            span = min(deadline - now, max(SHORTEST_SPAN, (deadline - now) / (2 * n_waves)))

            def work(queue: Iterable[tuple[int, ...]], span: float = span) -> None:
                for i, j, k in queue:
                    self._refine_triple((i, j, k), min(deadline, time.monotonic() + span))
                    # The triple is exact or out of time, so its bound will not fall any further.
                    targets[i, j, k] = self.upper[i, j, k]

            share_work(pending, min(threads, len(pending)), work)

    def _partition(self, weights: np.ndarray) -> list[tuple[int, ...]]:
        """Return the partition into pairs and triples with the lowest total of `pairs` and `weights` (B, B, B)."""
        bit_sets = best_partition(self.pairs, weights)
        return [tuple(k for k in range(self.size) if bits >> k & 1) for bits in bit_sets]

    def _count(self, threads: int, deadline: float) -> bool:
        """Fill the tables of wins and the optima of the pairs; return False if there was not enough time."""
        self.ranks = [rank_columns(self.logits, self.ranking.rows[samples], threads) for samples in self.members]
        n_source_classes = self.ranking.n_source_classes
        wins: np.ndarray = np.zeros((self.size, n_source_classes, n_source_classes), self.dtype)

        def count_rows(queue: Iterable[tuple[int, int]]) -> None:
            for k, first in queue:
                if time.monotonic() < deadline:
                    count_wins(self.ranks[k], first, min(first + ROWS_AT_A_TIME, n_source_classes), wins[k])

        def solve_pairs(queue: Iterable[tuple[int, int]]) -> None:
            for k, j in queue:
                self.pairs[k, j] = best_pair(wins[k], wins[j], self.sizes[k], self.sizes[j])

        blocks_of_rows = itertools.product(range(self.size), range(0, n_source_classes, ROWS_AT_A_TIME))
        share_work(blocks_of_rows, threads, count_rows)
        if time.monotonic() >= deadline:
            return False
        share_work(itertools.combinations(range(self.size), 2), threads, solve_pairs)
        self.wins = wins
        for k, j, m in itertools.combinations(range(self.size), 3):
            pairs = (self.pairs[k, j], self.pairs[k, m], self.pairs[j, m])
            third_sizes = (self.sizes[m], self.sizes[j], self.sizes[k])
            with_third = [pair + size for pair, size in zip(pairs, third_sizes, strict=True)]
            self.upper[k, j, m] = min(sum(pairs) // 2, *with_third)
        return True

    def _search_triples(self, threads: int, deadline: float) -> np.ndarray:
        """Set `lower` by a short search for each triple.

        Returns:
            The matches that each triple's bound may fall to, shape (B, B, B): those of its search, or its upper bound
            if time was too short for a search.
        """
        targets: np.ndarray = self.upper.copy()

        def work(queue: Iterable[Triple]) -> None:
            for triple in queue:
                if time.monotonic() < deadline:
                    samples = np.concatenate([self.members[k] for k in triple])
                    labels = np.repeat(np.arange(3), self.sizes[list(triple)])
                    ranking = self.ranking.take(samples)
                    result = search(self.logits, labels, 3, ranking=ranking, restarts=1, enumerable=0)
                    matches = round((1 - result.value) * len(samples))
                    self.lower[triple] = matches
                    targets[triple] = matches

        if self.size > 2:
            share_work(itertools.combinations(range(self.size), 3), threads, work)
        return targets

    def _refine_triple(self, triple: Triple, deadline: float) -> None:
        """Tighten a triple's bound by branch and bound over the source classes of its first two target classes."""
        tables = [self.wins[k] for k in triple]
        n_source_classes = self.ranking.n_source_classes
        third_size = self.sizes[triple[2]]
        bounds = np.zeros((n_source_classes, n_source_classes), np.int32)
        for first in range(0, n_source_classes, ROWS_AT_A_TIME):
            if time.monotonic() >= deadline:
                return
            triple_bounds(*tables, third_size, first, min(first + ROWS_AT_A_TIME, n_source_classes), bounds)
        flat_bounds = bounds.ravel()
        best = self.lower[triple]
        nodes = np.flatnonzero(flat_bounds > best)
        nodes = nodes[np.argsort(-flat_bounds[nodes], kind="stable")]
        cuts = np.concatenate([[0], np.cumsum(self.sizes[list(triple)])])
        ranks = np.hstack([self.ranks[k] for k in triple])
        n_done = 0
        while n_done < len(nodes) and flat_bounds[nodes[n_done]] > best and time.monotonic() < deadline:
            best = refine_triple(ranks, cuts, *tables, nodes[n_done : n_done + NODES_AT_A_TIME], best)
            n_done += NODES_AT_A_TIME
        highest_left = flat_bounds[nodes[n_done]] if n_done < len(nodes) else 0
        self.lower[triple] = best
        self.upper[triple] = min(self.upper[triple], max(best, highest_left))
