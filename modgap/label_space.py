"""What a sample's label can be: one class, several, or a dense target turned into pseudo-classes."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError

__all__ = ["LabelSpace", "label_space", "pseudo_classes"]

BALANCE_UNIT = 1 << 20
MOST_LABELS = 24


@dataclass(frozen=True)
class LabelSpace:
    """P(y|x) of samples as integers: entry e gives sample e's class the share weights[e] / unit.

    Attributes:
        starts: Sample i has the entries starts[i] .. starts[i + 1], shape (N + 1,).
        labels: Target class of each entry, 0..K-1, shape (E,).
        weights: Weight of each entry, positive integers, shape (E,); None for 1 each.
        unit: Weight of one sample's entries together where samples weigh the same.
        rows: Rows of the logits that these samples are, shape (N,); the others have no label.
        n_classes: K.
    """

    starts: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    unit: int
    rows: np.ndarray
    n_classes: int

    def __len__(self) -> int:
        """N, the samples with a label."""
        return len(self.rows)

    @property
    def entry_samples(self) -> np.ndarray:
        """Sample of each entry, shape (E,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @property
    def entry_weights(self) -> np.ndarray:
        """Weight of each entry, shape (E,)."""
        return np.ones(len(self.labels), np.int64) if self.weights is None else self.weights

    @property
    def rarest_labels(self) -> np.ndarray:
        """One label for each sample, its rarest, by which samples are stratified; shape (N,)."""
        frequency = np.bincount(self.labels, minlength=self.n_classes)
        order = np.lexsort((self.labels, frequency[self.labels], self.entry_samples))
        return self.labels[order][self.starts[:-1]]

    @property
    def label_set_ids(self) -> np.ndarray:
        """A number for each sample such that samples with equal labels, all of them, have equal numbers; (N,)."""
        table = np.zeros((len(self), self.n_classes), bool)
        table[self.entry_samples, self.labels] = True
        packed = np.packbits(table, axis=1)
        return np.unique(packed, axis=0, return_inverse=True)[1].ravel()

    @property
    def sample_weights(self) -> np.ndarray:
        """What each sample's entries weigh together, shape (N,)."""
        return np.add.reduceat(self.entry_weights, self.starts[:-1])

    @property
    def class_shares(self) -> np.ndarray:
        """Mean of P(y|x) over samples by class, shape (K,)."""
        shares = np.bincount(self.labels, self.entry_weights, self.n_classes)
        return shares / shares.sum()

    @property
    def floor(self) -> float:
        """Mean over samples of 1 - max P(y|x), which no map can get below."""
        weights = self.entry_weights
        return float(1 - np.maximum.reduceat(weights, self.starts[:-1]).sum() / weights.sum())

    def shares_of(self, members: np.ndarray) -> np.ndarray:
        """P(y|x) of these samples, shape (M, K)."""
        part = self.subset(members)
        shares = np.zeros((len(members), self.n_classes))
        shares[part.entry_samples, part.labels] = part.entry_weights
        return shares / shares.sum(axis=1, keepdims=True)

    def subset(self, members: np.ndarray) -> "LabelSpace":
        """The same label space with these samples alone."""
        part = self.with_labels_from(members)
        return replace(part, rows=self.rows[members])

    def with_labels_from(self, others: np.ndarray) -> "LabelSpace":
        """The same samples, where sample i has the labels that sample others[i] had."""
        sizes = np.diff(self.starts)[others]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        picked = np.repeat(self.starts[:-1][others] - starts[:-1], sizes) + np.arange(starts[-1])
        weights = None if self.weights is None else self.weights[picked]
        return replace(self, starts=starts, labels=self.labels[picked], weights=weights)

    def balanced(self) -> "LabelSpace":
        """Classes weighing the same: discrepancies become means over classes.

        Weights are integers; their rounding changes a class's share by less than one in a million.
        """
        totals = np.bincount(self.labels, self.entry_weights, self.n_classes)
        unit = min(BALANCE_UNIT, 2.0**60 / (self.n_classes * totals.max()))
        weights = np.maximum(1, np.rint(self.entry_weights * (unit * totals.max() / totals)[self.labels]))
        return replace(self, weights=weights.astype(np.int64))


def label_space(labels: ArrayLike) -> LabelSpace:
    """The label space of integer labels (N,) or of 0/1 labels (N, K), several of which may be 1.

    For multi-label data P(y|x) is uniform over the labels of a sample. Samples with none are left out.

    Raises:
        InputError: When the labels are of another kind, a class has no sample, or a sample has more
            than MOST_LABELS labels.

    Example:
        >>> space = label_space([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
        >>> space.labels, space.weights, space.unit, space.rows
        (array([0, 1, 2]), array([1, 1, 2]), 2, array([0, 1]))
    """
    array = np.asarray(labels)
    if array.ndim != 2:
        return _single(array)
    if array.dtype.kind not in "biu" and not (array.dtype.kind == "f" and np.isin(array, (0, 1)).all()):
        raise InputError(f"expected labels (N, K) of 0 and 1, got {array.dtype} {array.shape}")
    if len(array) and (array.min() < 0 or array.max() > 1):
        raise InputError(f"expected labels (N, K) of 0 and 1, got values {array.min()} to {array.max()}")
    return _multiple(array.astype(bool))


def _single(array: np.ndarray) -> LabelSpace:
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"expected integer labels of shape (N,) or 0/1 labels of shape (N, K), got {array.dtype} {array.shape}; "
            "for dense or real-valued targets use modgap.discrepancy.pseudo_classes"
        )
    found = np.unique(array)
    if len(found) and found[0] < 0:
        raise InputError(f"expected labels from 0, got {int(found[0])}; drop unlabeled samples or renumber")
    highest = int(found[-1]) if len(found) else -1
    missing = np.setdiff1d(np.arange(min(highest + 1, len(array) + 1)), found)
    if len(missing):
        raise InputError(
            f"expected labels 0..K-1 without gaps, got {len(found)} different ones up to {highest} "
            f"(first missing: {int(missing[0])}); renumber with numpy.unique(labels, return_inverse=True)"
        )
    rows = np.arange(len(array))
    return LabelSpace(np.arange(len(array) + 1), array.astype(np.int64), None, 1, rows, len(found))


def _multiple(array: np.ndarray) -> LabelSpace:
    absent = np.flatnonzero(~array.any(axis=0))
    if len(array) and len(absent):
        raise InputError(
            f"expected every class to have a sample, got none for {len(absent)} of {array.shape[1]} classes "
            f"(first: {int(absent[0])}); drop their columns"
        )
    sizes = array.sum(axis=1)
    if len(sizes) and sizes.max() > MOST_LABELS:
        raise InputError(
            f"expected at most {MOST_LABELS} labels a sample, got {int(sizes.max())}; drop the rarest labels"
        )
    kept = np.flatnonzero(sizes)
    counts = sizes[kept]
    unit = math.lcm(*(int(size) for size in np.unique(counts)))
    weights = np.repeat(unit // counts, counts) if unit > 1 else None
    starts = np.concatenate([[0], np.cumsum(counts)])
    return LabelSpace(starts, np.nonzero(array[kept])[1], weights, unit, kept, array.shape[1])


def pseudo_classes(
    targets: ArrayLike, *, train: np.ndarray | None = None, n_classes: int = 10, seed: int = 0
) -> np.ndarray:
    """Classes for dense or real-valued targets: k-means clusters of the flattened targets, as ORCA takes.

    Args:
        targets: Targets (N, ...), finite.
        train: Which samples the clusters are fitted on, boolean or indices; None for all.
        n_classes: Clusters k.
        seed: Seed of the clustering.

    Returns:
        Integer labels (N,), renumbered 0..K-1 by the clusters that occur, K <= k.

    Raises:
        InputError: When targets are not finite numbers or there are fewer training samples than clusters.

    Example:
        >>> pseudo_classes([[0.0], [0.1], [5.0], [5.2], [0.2]], n_classes=2)
        array([0, 0, 1, 1, 0])
    """
    from sklearn.cluster import KMeans

    flat = np.asarray(targets, dtype=np.float64).reshape(len(np.asarray(targets)), -1)
    if not np.isfinite(flat).all():
        raise InputError(f"expected finite targets, got NaN or infinite values in {len(flat)} samples")
    fitted = flat if train is None else flat[train]
    if len(fitted) < n_classes:
        raise InputError(
            f"expected at least {n_classes} training samples for {n_classes} pseudo-classes, got {len(fitted)}"
        )
    clusters = KMeans(n_classes, n_init=10, random_state=seed).fit(fitted).predict(flat)
    firsts = np.unique(clusters, return_index=True)[1]
    rank = np.empty(n_classes, np.int64)
    rank[clusters[np.sort(firsts)]] = np.arange(len(firsts))
    return rank[clusters]


def validate_class_count(n_classes: int, n_source_classes: int) -> None:
    """Refuse numbers of target classes that no injective map exists for, or that leave nothing to tell apart.

    Raises:
        InputError: When there is one class, or more than the source has.
    """
    if n_classes < 2:
        raise InputError("expected at least two target classes, got one; a discrepancy needs classes to tell apart")
    if n_classes > n_source_classes:
        raise InputError(
            f"expected at most as many target classes as source classes, got {n_classes} > {n_source_classes}; "
            f"compare some of the classes at a time with --classes {min(n_source_classes, 10)}, or use a source with "
            "a larger head"
        )
