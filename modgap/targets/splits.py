"""Seeded, stratified choices of samples."""

import numpy as np

from modgap.errors import UsageError
from modgap.targets.samples import SPLITS

__all__ = ["complete_splits", "strata", "stratified_order", "stratified_subset"]


def stratified_order(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """A key in [0, 1) for each sample such that the lowest keys are a stratified random choice.

    Within each class the samples, or the groups (which take the class of their first sample and get
    one key together), are shuffled and spread evenly over [0, 1).
    """
    rng = np.random.default_rng([seed, 0xD4])
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    unit_labels = labels[np.unique(units, return_index=True)[1]]
    keys = np.empty(len(unit_labels))
    for label in np.unique(unit_labels):
        members = rng.permutation(np.flatnonzero(unit_labels == label))
        keys[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return keys[units]


def strata(labels: np.ndarray) -> np.ndarray:
    """One integer a sample to stratify by: its class, or its rarest class."""
    if labels.ndim == 1:
        return labels
    frequency = labels.sum(axis=0)
    return np.where(labels > 0, frequency, frequency.sum() + 1).argmin(axis=1)


def stratified_subset(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Indices of `size` samples in order, by class in proportion, each class at least once.

    Raises:
        UsageError: When `size` is smaller than the number of classes.

    Example:
        >>> stratified_subset(np.array([0] * 8 + [1] * 4 + [2]), 7, seed=0)
        array([ 0,  1,  2,  6,  8, 10, 12])
    """
    n_classes = len(np.unique(labels))
    if size < n_classes:
        raise UsageError(f"expected a limit of at least {n_classes}, one sample a class, got {size}")
    keys = stratified_order(labels, None, seed)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        keys[members[keys[members].argmin()]] = -1
    return np.sort(np.argsort(keys, kind="stable")[:size])


def complete_splits(
    splits: np.ndarray | None,
    labels: np.ndarray,
    groups: np.ndarray | None,
    *,
    validation: float,
    test: float,
    seed: int,
) -> np.ndarray:
    """Index into SPLITS of each sample, with the parts that the data does not name drawn by seed."""
    train, val, held = (SPLITS.index(name) for name in SPLITS)
    done = np.full(len(labels), train) if splits is None else splits.copy()
    if splits is None:
        done[stratified_order(labels, groups, seed) >= 1 - test] = held
    if not (done == val).any():
        rows = np.flatnonzero(done == train)
        own = None if groups is None else groups[rows]
        done[rows[stratified_order(labels[rows], own, seed + 1) >= 1 - validation]] = val
    return done
