"""Splits by the names that users give them, and seeded, stratified choices of samples."""

import logging
from collections.abc import Sequence

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.targets.samples import SPLITS

TRAIN = SPLITS.index("train")
VAL = SPLITS.index("val")
TEST = SPLITS.index("test")
SPLIT_OF_SPELLING = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}
"""Index into SPLITS of each name of a split, in lower case."""
KEY_STREAM = 0xD4
"""Second seed that keeps these random numbers apart from others of the same seed."""


log = logging.getLogger("modgap")


def split_numbers(names: Sequence[str], where: str, way_out: str = "") -> np.ndarray:
    """Return the index into SPLITS of each name of a split, and log how many samples each has.

    Args:
        names: Names of splits in any case: those of SPLIT_OF_SPELLING, shape (N,).
        where: Description of the names, the subject of a sentence.
        way_out: Further sentence for the message that refuses a name; empty for none.

    Raises:
        InputError: If a name is not that of a split.

    Example:
        >>> split_numbers(["Train", "validation", "test", "dev"], "The column fold of a.csv")
        array([0, 1, 2, 1])
    """
    codes = np.array([SPLIT_OF_SPELLING.get(name.strip().lower(), -1) for name in names], np.int64)
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        expected = "Expected train, val or test."
        raise InputError(f"{where} has the value {names[row]!r} in row {row}. {expected} {way_out}".rstrip())
    sizes = np.bincount(codes, minlength=len(SPLITS))
    counts = ", ".join(f"{size:,} {name}" for name, size in zip(SPLITS, sizes, strict=True) if size)
    log.info("%s gives the splits: %s.", where, counts)
    return codes


def stratified_keys(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Return a key in [0, 1) for each sample such that the samples with the lowest keys are a stratified choice.

    Within each class the samples are shuffled and spread evenly over [0, 1). The samples of a group share one
    key; a group has the class of its first sample.

    Args:
        labels: Class of each sample, shape (N,).
        groups: Group of each sample, shape (N,). None if every sample is a group.
        seed: Seed of the shuffling.
    """
    rng = np.random.default_rng([seed, KEY_STREAM])
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    unit_labels = labels[np.unique(units, return_index=True)[1]]
    keys = np.empty(len(unit_labels))
    for label in np.unique(unit_labels):
        members = rng.permutation(np.flatnonzero(unit_labels == label))
        keys[members] = (np.arange(len(members)) + rng.random()) / len(members)
    sample_keys: np.ndarray = keys[units]
    return sample_keys


def stratification_labels(labels: np.ndarray) -> np.ndarray:
    """Return one integer for each sample to stratify by: its class, or for 0/1 labels (N, K) its rarest class."""
    if labels.ndim == 1:
        return labels
    frequency = labels.sum(axis=0)
    rarest: np.ndarray = np.where(labels > 0, frequency, frequency.sum() + 1).argmin(axis=1)
    return rarest


def stratified_subset(labels: np.ndarray, size: int, seed: int, *, every_class: bool = True) -> np.ndarray:
    """Return sorted numbers of `size` samples, with classes in proportion and at least one sample of each class.

    Args:
        labels: Class of each sample, shape (N,).
        size: Number of samples.
        seed: Seed of the draw.
        every_class: False to draw in proportion alone if there are more classes than `size`.

    Raises:
        UsageError: When `size` is smaller than the number of classes, and every class must have a sample.

    Example:
        >>> stratified_subset(np.array([0] * 8 + [1] * 4 + [2]), 7, seed=0)
        array([ 0,  1,  2,  6,  8, 10, 12])
    """
    n_classes = len(np.unique(labels))
    if size < n_classes and every_class:
        raise UsageError(f"expected a limit of at least {n_classes}, one sample for each class, got {size}")
    keys = stratified_keys(labels, None, seed)
    for label in np.unique(labels) if size >= n_classes else ():
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
    """Return the index into SPLITS of each sample, with the splits that the data does not define drawn at random.

    No draw takes all training samples of a class: one of its samples or groups stays.

    Args:
        splits: Index into SPLITS of each sample, shape (N,). None if the data defines no splits.
        labels: Classes to stratify by, shape (N,).
        groups: Group of each sample, shape (N,). A drawn split does not divide a group. None if there are none.
        validation: Fraction of the training samples drawn for validation.
        test: Fraction of all samples drawn for test.
        seed: Seed of the draws.
    """
    completed = np.full(len(labels), TRAIN) if splits is None else splits.copy()
    if splits is None:
        completed[_drawn(labels, groups, test, seed)] = TEST
    if not (completed == VAL).any():
        rows = np.flatnonzero(completed == TRAIN)
        row_groups = None if groups is None else groups[rows]
        completed[rows[_drawn(labels[rows], row_groups, validation, seed + 1)]] = VAL
    return completed


def _drawn(labels: np.ndarray, groups: np.ndarray | None, fraction: float, seed: int) -> np.ndarray:
    """Return True for the samples that are drawn, a fraction of each class, of which at least one unit is not drawn."""
    units = np.arange(len(labels)) if groups is None else groups
    keys = stratified_keys(labels, groups, seed)
    drawn: np.ndarray = keys >= 1 - fraction
    for label in np.setdiff1d(labels, labels[~drawn]):
        first = np.where(labels == label, keys, 1.0).argmin()
        drawn[units == units[first]] = False
    return drawn


def splits_of_few(
    labels: np.ndarray, groups: np.ndarray | None, validation: float, test: float, seed: int
) -> np.ndarray:
    """Return splits of few samples as `complete_splits` does, but with one sample or group at least in each split.

    Args:
        labels: Class of each sample, (N,); zeros where there are none.
        groups: Group of each sample, (N,); None if samples are independent.
        validation: Fraction of the training samples for validation.
        test: Fraction of all samples for the test.
        seed: Seed of the draws.
    """
    splits = complete_splits(None, labels, groups, validation=validation, test=test, seed=seed)
    return fill_split(fill_split(splits, TEST, labels, groups, seed), VAL, labels, groups, seed)


def fill_split(splits: np.ndarray, split: int, labels: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Return splits in which an empty one has a training sample or group, if all classes have others.

    Args:
        splits: Number of the split of each sample, (N,).
        split: The split that is filled if it is empty.
        labels: Class of each sample, (N,); zeros where there are none.
        groups: Group of each sample, (N,); None if samples are independent.
        seed: Seed of the draw.
    """
    if (splits == split).any():
        return splits
    rows = np.flatnonzero(splits == TRAIN)
    units = rows if groups is None else groups[rows]
    keys = stratified_keys(labels[rows], None if groups is None else units, seed + split)
    filled = splits.copy()
    for unit in dict.fromkeys(units[np.argsort(-keys, kind="stable")].tolist()):
        left = rows[units != unit]
        if len(left) and len(np.unique(labels[left])) == len(np.unique(labels[rows])):
            filled[rows[units == unit]] = split
            break
    return filled


def hold_out_validation(
    splits: np.ndarray | None, validation: float | str | None, position: str = "end"
) -> np.ndarray | None:
    """Return splits with some of the training samples moved to validation, by their position as benchmarks do.

    Args:
        splits: Index into SPLITS of each sample, shape (N,). None if the data defines no splits, which stays so.
        validation: A fraction of the training samples below 1, a number of samples, `size-of-test` for the number of
            test samples, or None to move none.
        position: `start` or `end` of the training samples.

    Raises:
        InputError: When no sample would be left for training or for validation.

    Example:
        >>> hold_out_validation(np.array([0, 0, 0, 0, 0, 2]), 0.4)
        array([0, 0, 0, 1, 1, 2])
    """
    if splits is None or validation is None:
        return splits
    rows = np.flatnonzero(splits == TRAIN)
    if validation == "size-of-test":
        size = int((splits == TEST).sum())
    elif isinstance(validation, int | float) and not isinstance(validation, bool) and position in ("start", "end"):
        # The original benchmarks round down the number of samples that stay in training.
        size = int(validation) if validation >= 1 else len(rows) - int((1 - validation) * len(rows))
    else:
        raise InputError(
            f"expected validation to be a number or size-of-test, at start or end, got {validation!r} at {position!r}"
        )
    if not 0 < size < len(rows):
        raise InputError(f"expected to move some of the {len(rows)} training samples to validation, got {size}")
    completed = splits.copy()
    completed[rows[:size] if position == "start" else rows[-size:]] = VAL
    return completed


def draw_test_split(size: int, fraction: float, seed: int) -> np.ndarray:
    """Return splits with test samples drawn as scikit-learn's `train_test_split` draws them; the others are train.

    Args:
        size: Number of samples.
        fraction: Fraction of the samples that is drawn for test.
        seed: Seed of the draw.

    Raises:
        InputError: When one of the two splits would be empty.
    """
    from sklearn.model_selection import train_test_split

    try:
        _, test = train_test_split(np.arange(size), test_size=fraction, random_state=seed)
    except ValueError as error:
        raise InputError(f"cannot draw a fraction of {fraction} of {size} samples for test: {error}") from error
    splits = np.full(size, TRAIN)
    splits[test] = TEST
    return splits
