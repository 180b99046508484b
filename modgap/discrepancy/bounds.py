"""Certified bounds on the infimum of Definition 2.1."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.block_bounds import ClassBlock, table_bytes
from modgap.discrepancy.ranks import rank_samples
from modgap.labels.label_space import LabelSpace, label_space

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
    if table_bytes(labels, len(blocks[0]), logits.shape[1]) > MEMORY:
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
