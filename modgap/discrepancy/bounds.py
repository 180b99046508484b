"""Certified bounds on the infimum of Definition 2.1."""

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy._groups import best_pair, best_partition, count_wins, refine_triple, triple_bounds
from modgap.discrepancy.ranks import Ranking, rank_columns, rank_samples
from modgap.discrepancy.search import search
from modgap.discrepancy.trials import _share

__all__ = ["LowerBound", "lower_bound", "upper_bound"]

BLOCK = 12
MEMORY = 1 << 31
ROWS_AT_A_TIME = 64
NODES_AT_A_TIME = 1024


def upper_bound(logits: np.ndarray, labels: np.ndarray, n_classes: int) -> float:
    """Upper bound on the smallest 0-1 discrepancy over all injective maps, without any search.

    A sample whose largest logit over ALL source classes is its label's class is right under every
    map that chooses this class, whatever the others. So the best assignment of target to source
    classes by those counts gets at least its own count right.

    Args:
        logits: Source logits (N, C).
        labels: Target labels 0..K-1 (N,).
        n_classes: K.

    Returns:
        A share of samples in [0, 1].

    Example:
        >>> upper_bound(np.array([[0., 1, 2], [3, 1, 0], [2, 1, 0]]), np.array([0, 1, 0]), 2)
        0.33333333333333337
    """
    counts = np.zeros((n_classes, logits.shape[1]), np.int64)
    np.add.at(counts, (labels, logits.argmax(axis=1)), 1)
    picked = linear_sum_assignment(counts, maximize=True)
    return float(1 - counts[picked].sum() / len(labels))


@dataclass(frozen=True)
class LowerBound:
    """What no injective map can fall below.

    Attributes:
        value: Share of samples that every map gets wrong at least, in [0, 1].
        groups: Partition of the target classes.
        matches: Samples of each group that no map gets right more of.
        exact: Whether each of `matches` is its group's optimum; if not, more time may raise the value.
    """

    value: float
    groups: tuple[tuple[int, ...], ...]
    matches: tuple[int, ...]
    exact: bool


def lower_bound(
    logits: np.ndarray, labels: np.ndarray, n_classes: int, *, seconds: float = 60.0, threads: int = 1
) -> LowerBound:
    """Lower bound on the smallest 0-1 discrepancy over all injective maps, from groups of target classes.

    To take competitors away only helps a class. So a map gets no more samples right than the sum, over a
    partition of the target classes into groups, of what each group could get right on its own. Optima of
    pairs come from tables of which class beats which; those of triples by branch and bound; the
    partition by dynamic programming over subsets of classes. More than BLOCK classes are cut into blocks first.
    Stopped at any time the bound is valid, only lower: what is not known yet is replaced by more.

    Args:
        logits: Source logits, finite, float32, C-contiguous, shape (N, C).
        labels: Target labels 0..K-1, shape (N,).
        n_classes: K, 2 <= K <= C.
        seconds: Wall time to stop after, but for a step in progress. How high the bound gets depends on
            the machine's speed where it does not finish.
        threads: Worker threads.

    Returns:
        The bound and its certificate. Where even the tables of one block would not fit in MEMORY or in
        the time, the trivial bound 0.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> logits, labels = rng.standard_normal((60, 9)).astype("float32"), np.repeat([0, 1, 2, 3], 15)
        >>> bound = lower_bound(logits, labels, 4)
        >>> bound.groups, bound.value <= search(logits, labels, 4).value
        (((0, 1), (2, 3)), True)
    """
    deadline = time.monotonic() + seconds
    blocks = np.array_split(np.arange(n_classes), -(-n_classes // BLOCK))
    ranking = None
    if _table_bytes(labels, len(blocks[0]), logits.shape[1]) <= MEMORY:
        ranking = rank_samples(logits, 3, threads=threads)
    groups: list[tuple[int, ...]] = []
    matches: list[int] = []
    exact = True
    for number, block in enumerate(blocks):
        now = time.monotonic()
        until = now + (deadline - now) / (len(blocks) - number)
        found = _Block(logits, labels, block, ranking, threads, until) if ranking else None
        for group, most, known in found.best() if found else [(range(len(block)), 10**18, False)]:
            members = tuple(int(block[k]) for k in group)
            groups.append(members)
            matches.append(min(most, int(np.isin(labels, members).sum())))
            exact &= known
    return LowerBound(1 - sum(matches) / len(labels), tuple(groups), tuple(matches), exact)
