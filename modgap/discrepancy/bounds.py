"""Certified bounds on the infimum of Definition 2.1."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.block_bounds import Block, table_bytes
from modgap.discrepancy.ranks import rank_samples
from modgap.label_space import LabelSpace, label_space
from modgap.storage.memory_map import release_pages

__all__ = ["LowerBound", "lower_bound", "upper_bound"]

BLOCK = 12
ROWS_AT_A_TIME = 256
MEMORY = 1 << 31


def upper_bound(logits: np.ndarray, labels: ArrayLike | LabelSpace) -> float:
    """Upper bound on the smallest 0-1 discrepancy over all injective maps, without any search.

    A sample whose largest logit over ALL source classes is its label's class is right under every
    map that chooses this class, whatever the others. So the best assignment of target to source
    classes by those counts gets at least its own count right.

    Args:
        logits: Source logits (N, C).
        labels: Integer labels (N,), 0/1 labels (N, K), or a label space.

    Returns:
        A share of samples in [0, 1].

    Example:
        >>> upper_bound(np.array([[0., 1, 2], [3, 1, 0], [2, 1, 0]]), [0, 1, 0])
        0.33333333333333337
    """
    space = labels if isinstance(labels, LabelSpace) else label_space(labels)
    first = _first_of_all(logits)
    counts = np.zeros((space.n_classes, logits.shape[1]), np.int64)
    np.add.at(counts, (space.labels, first[space.rows][space.entry_samples]), space.entry_weights)
    picked = linear_sum_assignment(counts, maximize=True)
    return float(1 - counts[picked].sum() / space.entry_weights.sum())


def _first_of_all(logits: np.ndarray) -> np.ndarray:
    """Source class of each row's largest logit, (N,); of a mapped file no more than a block stays resident."""
    first = np.empty(len(logits), np.int64)
    for cut in range(0, len(logits), ROWS_AT_A_TIME):
        first[cut : cut + ROWS_AT_A_TIME] = logits[cut : cut + ROWS_AT_A_TIME].argmax(1)
        release_pages(logits)
    return first


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
    partition by dynamic programming over subsets of classes. More than BLOCK classes are cut into blocks
    first. Stopped at any time the bound is valid, only lower: what is not known yet is replaced by more.

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
        >>> logits = np.eye(4, dtype="float32")[[0, 0, 1, 1, 2, 2, 2, 3]]
        >>> bound = lower_bound(logits, np.array([0, 1, 0, 1, 2, 3, 2, 3]), 4)
        >>> bound.value, bound.groups
        (0.375, ((0, 1), (2, 3)))
    """
    deadline = time.monotonic() + seconds
    blocks = np.array_split(np.arange(n_classes), -(-n_classes // BLOCK))
    if table_bytes(labels, len(blocks[0]), logits.shape[1]) > MEMORY:
        return LowerBound(0.0, (tuple(range(n_classes)),), (len(labels),), False)
    ranking = rank_samples(logits, 3, threads=threads)
    found = []
    for number, classes in enumerate(blocks):
        now = time.monotonic()
        block = Block(logits, labels, ranking, classes)
        block.refine(threads, now + (deadline - now) / (len(blocks) - number))
        found += [(tuple(int(classes[k]) for k in group), *rest) for group, *rest in block.best()]
    groups, matches, exact = zip(*found, strict=True)
    return LowerBound(1 - sum(matches) / len(labels), groups, matches, all(exact))
