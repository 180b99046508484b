"""Folds for cross-validation and held-out samples, both stratified by class."""

import numpy as np

from modgap.targets.splits import stratified_keys

__all__ = ["FOLDS", "held_out_mask", "stratified_folds"]

FOLDS = 5
"""Number of folds of every cross-validation."""


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


def held_out_mask(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return a mask of the samples to hold out: this share of every class, at least one and never all, shape (n,).

    A class with one sample is not held out.

    Args:
        labels: Class of each sample, 0..K-1, shape (n,).
        share: Share of the samples of each class to hold out, in (0, 1).
        seed: Seed of the random choice.

    Example:
        >>> int(held_out_mask(np.array([0, 0, 0, 0, 1, 1, 2]), 0.25, seed=0).sum())
        2
    """
    mask = np.zeros(len(labels), bool)
    rng = np.random.default_rng(seed)
    for label in range(labels.max() + 1):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) > 1:
            size = min(max(round(share * len(rows)), 1), len(rows) - 1)
            mask[rows[:size]] = True
    return mask
