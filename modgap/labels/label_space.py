"""Target labels of samples: one class, several classes, or dense targets turned into pseudo-classes."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError
from modgap.labels.user_arrays import to_numpy

MOST_LABELS = 24
"""Largest number of labels of a sample. The unit of weights is a common multiple of the numbers of labels, which grows
quickly with the largest one: for 1 to 24 it is 5,354,228,880."""

_RANGES: WeakValueDictionary[int, np.ndarray] = WeakValueDictionary()
"""Arrays 0..N that are in use, by N."""


@dataclass(frozen=True)
class LabelSpace:
    """The label distributions P(y|x) of N samples, stored as E integer-weighted entries.

    An entry pairs one sample with one of its classes. Entry e gives its class the share
    `weights[e] / unit` of the sample.

    Attributes:
        starts: First entry of each sample, and E at the end: sample i has the entries `starts[i]` to
            `starts[i + 1]`, exclusive; shape (N + 1,).
        labels: Target class 0..K-1 of each entry, shape (E,).
        weights: Weight of each entry, positive integers of shape (E,); None if every entry weighs 1.
        unit: Total weight of the entries of each sample.
        rows: Row of the logits that belongs to each sample, shape (N,). Rows without a label are left out.
        n_classes: Number K of target classes.
    """

    starts: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    unit: int
    rows: np.ndarray
    n_classes: int

    def __len__(self) -> int:
        """Return N, the number of samples that have a label."""
        return len(self.rows)

    @cached_property
    def entry_samples(self) -> np.ndarray:
        """Sample 0..N-1 of each entry, shape (E,)."""
        if self.has_single_labels:
            return row_numbers(len(self))
        return np.repeat(row_numbers(len(self)), np.diff(self.starts))

    @property
    def has_single_labels(self) -> bool:
        """True if every sample has one entry, so that entries and samples have the same numbers."""
        return len(self.labels) == len(self.rows)

    @property
    def entry_rows(self) -> np.ndarray:
        """Row of the logits of each entry, shape (E,)."""
        return self.rows if self.has_single_labels else self.rows[self.entry_samples]

    @property
    def entry_weights(self) -> np.ndarray:
        """Weight of each entry, shape (E,)."""
        return np.ones(len(self.labels), np.int64) if self.weights is None else self.weights

    @property
    def rarest_labels(self) -> np.ndarray:
        """The rarest label of each sample, by which samples are stratified; the lowest of equally rare ones; (N,)."""
        frequency = np.bincount(self.labels, minlength=self.n_classes)
        # The last key is the first one to sort by, so the entries stay with their samples.
        order = np.lexsort((self.labels, frequency[self.labels], self.entry_samples))
        return np.asarray(self.labels[order][self.starts[:-1]])

    @cached_property
    def label_set_ids(self) -> np.ndarray:
        """Number of each sample's set of labels, equal for two samples if all their labels are equal; shape (N,)."""
        if self.has_single_labels:
            return self.labels
        table = np.zeros((len(self), self.n_classes), bool)
        table[self.entry_samples, self.labels] = True
        packed = np.packbits(table, axis=1)
        return np.unique(packed, axis=0, return_inverse=True)[1].ravel()

    @property
    def floor(self) -> float:
        """Mean of 1 - max P(y|x) over the samples, the lowest error that any prediction from x can reach."""
        weights = self.entry_weights
        highest = np.maximum.reduceat(weights, self.starts[:-1])
        return float(1 - highest.sum() / weights.sum())

    def probabilities(self, samples: np.ndarray) -> np.ndarray:
        """Return P(y|x) of the given samples, shape (M, K).

        Args:
            samples: Numbers of M samples, shape (M,).
        """
        part = self.subset(samples)
        table = np.zeros((len(samples), self.n_classes))
        table[part.entry_samples, part.labels] = part.entry_weights
        return np.asarray(table / table.sum(axis=1, keepdims=True))

    def subset(self, samples: np.ndarray) -> "LabelSpace":
        """Return the label space of the given samples alone.

        Args:
            samples: Numbers of M samples, shape (M,).
        """
        # The samples are their own donors. Only the rows are still those of all samples.
        return replace(self.with_labels_from(samples), rows=self.rows[samples])

    def with_labels_from(self, donors: np.ndarray) -> "LabelSpace":
        """Return a label space in which sample i has the labels of sample `donors[i]`, and its own row of the logits.

        Args:
            donors: Number 0..N-1 of the sample whose labels each sample takes, shape (N,).
        """
        if self.has_single_labels:
            starts = _shared_range(len(donors))
            weights = None if self.weights is None else self.weights[donors]
            return replace(self, starts=starts, labels=self.labels[donors], weights=weights)
        sizes = np.diff(self.starts)[donors]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        entries = np.repeat(self.starts[:-1][donors] - starts[:-1], sizes) + np.arange(starts[-1])
        weights = None if self.weights is None else self.weights[entries]
        return replace(self, starts=starts, labels=self.labels[entries], weights=weights)


def label_space(labels: ArrayLike) -> LabelSpace:
    """Build the label space of integer labels (N,), or of 0/1 labels (N, K) with one or more ones in a row.

    P(y|x) of a multi-label sample is uniform over its labels. Samples without a label are left out.

    Args:
        labels: Integer labels 0..K-1 of shape (N,), or 0/1 labels of shape (N, K).

    Raises:
        InputError: If the labels are of another kind, a class has no sample, or a sample has more than
            MOST_LABELS labels.

    Example:
        >>> space = label_space([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
        >>> space.labels, space.weights, space.unit, space.rows
        (array([0, 1, 2]), array([1, 1, 2]), 2, array([0, 1]))
    """
    array = to_numpy(labels, "labels")
    if array.ndim != 2:
        return _single_label_space(array)
    if array.dtype.kind not in "biu" and not (array.dtype.kind == "f" and np.isin(array, (0, 1)).all()):
        raise InputError(f"Labels of shape {array.shape} have type {array.dtype}. Expected the values 0 and 1.")
    if len(array) and (array.min() < 0 or array.max() > 1):
        raise InputError(
            f"Labels of shape {array.shape} have values from {array.min()} to {array.max()}. "
            "Expected the values 0 and 1."
        )
    return _multi_label_space(array.astype(bool))


def _single_label_space(array: np.ndarray) -> LabelSpace:
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"Labels of type {array.dtype} and shape {array.shape} are not class labels. Expected integer labels of "
            "shape (N,) or 0/1 labels of shape (N, K). For dense or real-valued targets, make classes with "
            "modgap.discrepancy.pseudo_classes."
        )
    classes = np.unique(array)
    if len(classes) and classes[0] < 0:
        raise InputError(
            f"Label {int(classes[0])} is negative. Labels must start from 0. "
            "Drop unlabeled samples, or renumber the classes."
        )
    highest = int(classes[-1]) if len(classes) else -1
    missing = np.setdiff1d(np.arange(min(highest + 1, len(array) + 1)), classes)
    if len(missing):
        raise InputError(
            f"There are {len(classes)} different labels up to {highest}, and the first missing one is "
            f"{int(missing[0])}. Expected labels 0..K-1 without gaps. "
            "Renumber them with numpy.unique(labels, return_inverse=True)."
        )
    starts = _shared_range(len(array))
    return LabelSpace(
        starts, array.astype(np.int64), None, unit=1, rows=row_numbers(len(array)), n_classes=len(classes)
    )


def _multi_label_space(array: np.ndarray) -> LabelSpace:
    empty_classes = np.flatnonzero(~array.any(axis=0))
    if len(array) and len(empty_classes):
        raise InputError(
            f"There is no sample for {len(empty_classes)} of {array.shape[1]} classes (first: column "
            f"{int(empty_classes[0])}). Every class needs a sample. Drop the empty columns."
        )
    sizes = array.sum(axis=1)
    if len(sizes) and sizes.max() > MOST_LABELS:
        raise InputError(
            f"Sample {int(sizes.argmax())} has {int(sizes.max())} labels. A sample can have at most {MOST_LABELS} "
            "labels. Drop the rarest labels."
        )
    rows = np.flatnonzero(sizes)
    counts = sizes[rows]
    # With this unit, the share of each label of any sample is a whole number.
    unit = math.lcm(*(int(size) for size in np.unique(counts)))
    weights = np.repeat(unit // counts, counts) if unit > 1 else None
    starts = np.concatenate([[0], np.cumsum(counts)])
    return LabelSpace(starts, np.nonzero(array[rows])[1], weights, unit=unit, rows=rows, n_classes=array.shape[1])


def row_numbers(n_rows: int) -> np.ndarray:
    """Return the numbers 0..N-1, shape (N,), as a view of one array that all callers share while it is in use."""
    return np.asarray(_shared_range(n_rows)[:-1])


def _shared_range(n_rows: int) -> np.ndarray:
    """Return the numbers 0..N, shape (N + 1,), as one array that all callers share, so nobody may change it.

    With millions of samples, an array for each caller would take a large part of the memory.
    """
    numbers = _RANGES.get(n_rows)
    if numbers is None:
        numbers = np.arange(n_rows + 1)
        _RANGES[n_rows] = numbers
    return numbers


def pseudo_classes(
    targets: ArrayLike, *, train: np.ndarray | None = None, n_classes: int = 10, seed: int = 0
) -> np.ndarray:
    """Cluster dense or real-valued targets into classes with k-means on the flattened targets, as ORCA does.

    Args:
        targets: Finite targets, shape (N, ...).
        train: Samples that the clusters are fitted on, as a boolean mask or indices; None for all samples.
        n_classes: Number k of clusters.
        seed: Seed of the clustering.

    Returns:
        Integer labels of all samples, shape (N,). The K <= k clusters that occur are numbered 0..K-1 in the order of
        their first samples.

    Raises:
        InputError: If targets are not finite numbers, or there are fewer training samples than clusters.

    Example:
        >>> pseudo_classes([[0.0], [0.1], [5.0], [5.2], [0.2]], n_classes=2)
        array([0, 0, 1, 1, 0])
    """
    from sklearn.cluster import KMeans

    values = to_numpy(targets, "targets").astype(np.float64)
    flat = values.reshape(len(values), -1)
    if not np.isfinite(flat).all():
        n_invalid = int((~np.isfinite(flat).all(axis=1)).sum())
        raise InputError(
            f"Targets are NaN or infinite in {n_invalid} of {len(flat)} samples. Expected finite targets. "
            "Drop these samples."
        )
    fitted = flat if train is None else flat[train]
    if len(fitted) < n_classes:
        raise InputError(
            f"There are {len(fitted)} training samples for {n_classes} pseudo-classes. "
            f"Expected at least {n_classes} training samples. Use fewer pseudo-classes or more samples."
        )
    clusters = KMeans(n_classes, n_init=10, random_state=seed).fit(fitted).predict(flat)
    firsts = np.unique(clusters, return_index=True)[1]
    numbers = np.empty(n_classes, np.int64)
    numbers[clusters[np.sort(firsts)]] = np.arange(len(firsts))
    return np.asarray(numbers[clusters])


def validate_class_count(n_classes: int, n_source_classes: int) -> None:
    """Check that there are two target classes to distinguish, and a source class of its own for each of them.

    Args:
        n_classes: Number K of target classes.
        n_source_classes: Number C of source classes.

    Raises:
        InputError: If there is only one target class, or there are more target than source classes.
    """
    if n_classes < 2:
        raise InputError("The target has one class. At least two target classes are needed.")
    if n_classes > n_source_classes:
        raise InputError(
            f"The target has {n_classes} classes, but the source has only {n_source_classes}. Expected at most as many "
            "target classes as source classes. Compare some of the classes at a time with "
            f"`classes={min(n_source_classes, 10)}`, or use a source with a larger head."
        )
