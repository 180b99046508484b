"""Seeded, stratified choices of samples."""

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.targets.samples import SPLITS

__all__ = [
    "complete_splits",
    "draw_test_split",
    "hold_out_validation",
    "stratification_labels",
    "stratified_keys",
    "stratified_subset",
]


def stratified_keys(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
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


def stratification_labels(labels: np.ndarray) -> np.ndarray:
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
    keys = stratified_keys(labels, None, seed)
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
        done[stratified_keys(labels, groups, seed) >= 1 - test] = held
    if not (done == val).any():
        rows = np.flatnonzero(done == train)
        own = None if groups is None else groups[rows]
        done[rows[stratified_keys(labels[rows], own, seed + 1) >= 1 - validation]] = val
    return done


def hold_out_validation(splits: np.ndarray, validation: float | str | None, at: str = "end") -> np.ndarray:
    """Splits with some of the training samples moved to validation, as benchmarks do by position.

    Args:
        splits: Index into SPLITS of each sample, shape (N,).
        validation: A share of the training samples below 1, a number of them, `as-test` for as many as there are
            test samples, or None to move none.
        at: `start` or `end` of the training samples.

    Raises:
        InputError: When that leaves no training sample, or none for validation.

    Example:
        >>> held_out(np.array([0, 0, 0, 0, 0, 2]), 0.4)
        array([0, 0, 0, 1, 1, 2])
    """
    train, val, test = (SPLITS.index(name) for name in SPLITS)
    rows = np.flatnonzero(splits == train)
    if validation is None:
        return splits
    if validation == "as-test":
        size = int((splits == test).sum())
    elif isinstance(validation, int | float) and not isinstance(validation, bool) and at in ("start", "end"):
        # As the originals round: the training samples that stay, down.
        size = int(validation) if validation >= 1 else len(rows) - int((1 - validation) * len(rows))
    else:
        raise InputError(
            f"expected validation to be a number or as-test, at start or end, got {validation!r} at {at!r}"
        )
    if not 0 < size < len(rows):
        raise InputError(f"expected to hold some of {len(rows)} training samples for validation, got {size}")
    done = splits.copy()
    done[rows[:size] if at == "start" else rows[-size:]] = val
    return done


def draw_test_split(size: int, share: float, seed: int) -> np.ndarray:
    """Splits in which test samples are drawn as scikit-learn's `train_test_split` draws them, the others train.

    Raises:
        InputError: When the share leaves no sample for one of the two.
    """
    from sklearn.model_selection import train_test_split

    try:
        _, test = train_test_split(np.arange(size), test_size=share, random_state=seed)
    except ValueError as error:
        raise InputError(f"expected to draw a share of {share} of {size} samples for test: {error}") from error
    splits = np.full(size, SPLITS.index("train"))
    splits[test] = SPLITS.index("test")
    return splits
