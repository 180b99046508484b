"""Folds for cross-validation and held-out samples, both stratified by class."""

import numpy as np

from modgap.statistics.masks import Masks
from modgap.statistics.splits import Splits
from modgap.statistics.units import unit_numbers
from modgap.targets.splits import stratified_keys

FOLDS = 5
"""Number of folds of a cross-validation, unless its caller says otherwise."""


def stratified_folds(labels: np.ndarray, groups: np.ndarray | None, seed: int, n_folds: int = FOLDS) -> np.ndarray:
    """Return the fold of each sample, 0 to n_folds - 1, stratified by class, with every group in one fold, shape (n,).

    Args:
        labels: Class of each sample, shape (n,). A group counts for the class of its first sample.
        groups: Record, subject or other group of each sample, shape (n,); None if samples are independent.
        seed: Seed of the random assignment.
        n_folds: Number of folds.

    Example:
        >>> np.bincount(stratified_folds(np.arange(20) % 2, None, seed=0))
        array([4, 4, 4, 4, 4])
    """
    return (stratified_keys(labels, groups, seed) * n_folds).astype(np.int64)


def repeated_folds(
    labels: np.ndarray, groups: np.ndarray | None, n_folds: int, n_repeats: int, seed: int = 0
) -> Splits:
    """Return the splits of a repeated cross-validation, stratified by class, with every group in one fold.

    Each repeat divides the samples into folds anew. A split fits on all folds but one and tests on that one, so that a
    repeat tests every sample once.

    Args:
        labels: Class of each sample, shape (n,). A group counts for the class of its first sample.
        groups: Record, subject or other group of each sample, shape (n,); None if samples are independent.
        n_folds: Number of folds, at least 2.
        n_repeats: Number of repeats.
        seed: Seed of the random assignment. The folds of a repeat depend only on the seed and its number.
    """
    tests = []
    repeats = []
    for repeat in range(n_repeats):
        folds = stratified_folds(labels, groups, seed + (repeat << 32), n_folds)
        for fold in np.unique(folds):
            tests.append(folds == fold)
            repeats.append(repeat)
    test = np.array(tests).reshape(len(tests), len(labels))
    return Splits(Masks.pack(~test), Masks.pack(test), np.array(repeats), seed)


def held_out_mask(labels: np.ndarray, share: float, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Return a mask of the samples to hold out: this share of every class, at least one and never all, shape (n,).

    A class with one sample is not held out. With groups, the share is that of the groups of every class, and samples of
    a group are held out together; a class is never held out with all its samples.

    Args:
        labels: Class of each sample, 0..K-1, shape (n,).
        share: Share of the samples or groups of each class to hold out, in (0, 1).
        seed: Seed of the random choice.
        groups: Record, subject or other group of each sample, shape (n,). A group counts for the class of its first
            sample. None if samples are independent.

    Example:
        >>> int(held_out_mask(np.array([0, 0, 0, 0, 1, 1, 2]), 0.25, seed=0).sum())
        2
        >>> held_out_mask(np.array([0, 0, 0, 0, 1, 1]), 0.5, seed=0, groups=np.array([7, 7, 8, 8, 9, 9])).tolist()
        [True, True, False, False, False, False]
    """
    units = unit_numbers(groups, len(labels))
    unit_labels = labels[np.unique(units, return_index=True)[1]]
    is_held_out = np.zeros(len(unit_labels), bool)
    rng = np.random.default_rng(seed)
    for label in range(labels.max() + 1):
        members = rng.permutation(np.flatnonzero(unit_labels == label))
        if len(members) > 1:
            size = min(max(round(share * len(members)), 1), len(members) - 1)
            is_held_out[members[:size]] = True
    mask: np.ndarray = is_held_out[units]
    without_training = np.bincount(labels[~mask], minlength=labels.max() + 1) == 0
    if without_training.any():
        # Groups of several classes may hold all samples of another class. They stay in training.
        mask &= ~np.isin(units, units[without_training[labels]])
    return mask
