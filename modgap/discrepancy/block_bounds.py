"""What the pairs and triples of a block of target classes can get right at most, refined until time is up."""

import itertools
import time
from collections.abc import Iterable

import numpy as np

from modgap.discrepancy.kernels.class_groups import best_pair, best_partition, count_wins, refine_triple, triple_bounds
from modgap.discrepancy.ranks import Ranking, rank_columns
from modgap.discrepancy.search import search
from modgap.discrepancy.threads import share_work

__all__ = ["Block", "table_bytes"]

ROWS_AT_A_TIME = 64
NODES_AT_A_TIME = 1024
SHORTEST = 0.2

Triple = tuple[int, int, int]


def _table_type(labels: np.ndarray) -> type:
    return np.int16 if np.bincount(labels).max() < 1 << 15 else np.int32


def table_bytes(labels: np.ndarray, n_classes: int, n_source_classes: int) -> int:
    """Memory that the tables of a block of so many target classes take."""
    return n_classes * n_source_classes**2 * np.dtype(_table_type(labels)).itemsize


class Block:
    """Upper bounds on the matches of all pairs and triples of some target classes.

    Attributes:
        pairs: By two increasing places in the block, (B, B); trivial until `count` has run.
        upper: By three increasing places, (B, B, B).
        lower: What a search found for each triple, (B, B, B); equal to `upper` where that is exact.
    """

    def __init__(self, logits: np.ndarray, labels: np.ndarray, ranking: Ranking, classes: np.ndarray):
        """Take the samples of these target classes; ranking is of all samples and for three classes."""
        self.logits = logits
        self.ranking = ranking
        self.size = len(classes)
        self.members = [np.flatnonzero(labels == k) for k in classes]
        sizes = np.array([len(own) for own in self.members])
        self.sizes = sizes
        self.type = _table_type(labels)
        self.pairs = sizes[:, None] + sizes
        self.upper = self.pairs[:, :, None] + sizes
        self.lower = np.zeros_like(self.upper)
        self.ranks: list[np.ndarray] = []
        self.wins: np.ndarray = np.zeros((0, 0, 0), self.type)

    def best(self) -> list[tuple[tuple[int, ...], int, bool]]:
        """The partition of least total: (places in the block, most matches, whether that is the optimum)."""
        found = []
        for group in self._partition(self.upper):
            exact = len(self.wins) > 0
            most = self.pairs[group] if len(group) == 2 else self.upper[group]
            if len(group) == 3:
                exact = bool(self.lower[group] == self.upper[group])
            found.append((group, int(most), exact))
        return found

    def refine(self, threads: int, deadline: float) -> None:
        """Tighten the bounds until time is up or the best partition consists of exact optima.

        The partition that would be the best if every triple's search were exact is refined first.
        """
        if not self._count(threads, deadline):
            return
        hopes = self._search_triples(threads, deadline)
        while time.monotonic() < deadline:
            groups = [group for group in self._partition(hopes) if len(group) == 3]
            pending = [group for group in groups if hopes[group] < self.upper[group]]
            if not pending:
                break
            now = time.monotonic()
            waves = -(-len(pending) // threads)
            until = min(deadline, now + max(SHORTEST, (deadline - now) / (2 * waves)))

            def work(queue: Iterable[Triple], span=until - now) -> None:
                for triple in queue:
                    self._refine_triple(triple, min(deadline, time.monotonic() + span))
                    # Exact or out of time: there is no more hope than this.
                    hopes[triple] = self.upper[triple]

            share_work(pending, min(threads, len(pending)), work)

    def _partition(self, weights: np.ndarray) -> list[tuple[int, ...]]:
        sets = best_partition(self.pairs, weights)
        return [tuple(k for k in range(self.size) if members >> k & 1) for members in sets]

    def _count(self, threads: int, deadline: float) -> bool:
        """Fill the tables and the pairs' optima; False when there was no time to."""
        self.ranks = [rank_columns(self.logits, self.ranking.rows[own], threads) for own in self.members]
        classes = self.ranking.n_source_classes
        wins: np.ndarray = np.zeros((self.size, classes, classes), self.type)

        def count(queue: Iterable[tuple[int, int]]) -> None:
            for k, first in queue:
                if time.monotonic() < deadline:
                    count_wins(self.ranks[k], first, min(first + ROWS_AT_A_TIME, classes), wins[k])

        def pair(queue: Iterable[tuple[int, int]]) -> None:
            for k, j in queue:
                self.pairs[k, j] = best_pair(wins[k], wins[j], self.sizes[k], self.sizes[j])

        share_work(itertools.product(range(self.size), range(0, classes, ROWS_AT_A_TIME)), threads, count)
        if time.monotonic() >= deadline:
            return False
        share_work(itertools.combinations(range(self.size), 2), threads, pair)
        self.wins = wins
        for k, j, m in itertools.combinations(range(self.size), 3):
            two = (self.pairs[k, j], self.pairs[k, m], self.pairs[j, m])
            alone = (self.sizes[m], self.sizes[j], self.sizes[k])
            self.upper[k, j, m] = min(sum(two) // 2, *(p + s for p, s in zip(two, alone, strict=True)))
        return True

    def _search_triples(self, threads: int, deadline: float) -> np.ndarray:
        """Set `lower` by a short search for each triple; where time was too short, hope for nothing."""
        hopes = self.upper.copy()

        def work(queue: Iterable[Triple]) -> None:
            for triple in queue:
                if time.monotonic() < deadline:
                    rows = np.concatenate([self.members[k] for k in triple])
                    labels = np.repeat(np.arange(3), self.sizes[list(triple)])
                    found = search(self.logits, labels, 3, ranking=self.ranking.take(rows), restarts=1, enumerable=0)
                    hopes[triple] = self.lower[triple] = round((1 - found.value) * len(rows))

        if self.size > 2:
            share_work(itertools.combinations(range(self.size), 3), threads, work)
        return hopes

    def _refine_triple(self, triple: Triple, deadline: float) -> None:
        """Branch and bound over the source classes of the triple's first two classes."""
        tables = [self.wins[k] for k in triple]
        classes = self.ranking.n_source_classes
        total = self.sizes[triple[2]]
        bounds = np.zeros((classes, classes), np.int32)
        for first in range(0, classes, ROWS_AT_A_TIME):
            if time.monotonic() >= deadline:
                return
            triple_bounds(*tables, total, first, min(first + ROWS_AT_A_TIME, classes), bounds)
        flat = bounds.ravel()
        most = self.lower[triple]
        nodes = np.flatnonzero(flat > most)
        nodes = nodes[np.argsort(-flat[nodes], kind="stable")]
        cuts = np.concatenate([[0], np.cumsum(self.sizes[list(triple)])])
        ranks = np.hstack([self.ranks[k] for k in triple])
        done = 0
        while done < len(nodes) and flat[nodes[done]] > most and time.monotonic() < deadline:
            most = refine_triple(ranks, cuts, *tables, nodes[done : done + NODES_AT_A_TIME], most)
            done += NODES_AT_A_TIME
        left = flat[nodes[done]] if done < len(nodes) else 0
        self.lower[triple] = most
        self.upper[triple] = min(self.upper[triple], max(most, left))
