"""Splits with the same number of samples of each class to fit maps on."""

import numpy as np

from modgap.errors import InputError
from modgap.labels.label_space import LabelSpace
from modgap.statistics.splits import Splits, per_class_splits

MIN_TEST_SAMPLES = 5
"""Fewest samples of each class that are left to test on."""
MIN_TEST_GROUPS = 2
"""Fewest groups of each class that are left to test on."""


def draw_per_class(space: LabelSpace, groups: np.ndarray | None, per_class: int, n_repeats: int, seed: int) -> Splits:
    """Draw repeated splits with a number of samples of each class to fit on.

    Args:
        space: Single labels of N samples.
        groups: Number of each sample's group, shape (N,); None if samples are independent.
        per_class: Number n of samples of each class.
        n_repeats: Number of repeats.
        seed: Seed of the splits.

    Raises:
        InputError: If the target is multi-label, or a class has fewer than n + 5 samples or would have fewer than two
            groups to test on. The message names the largest n.
    """
    if space.weights is not None or not space.has_single_labels:
        raise InputError("The target is multi-label, so samples cannot be drawn by class. Remove `per_class`.")
    splits = per_class_splits(space.labels, groups, per_class, n_repeats, seed)
    if _leaves_enough(splits, space.labels, groups, per_class):
        return splits
    largest = largest_per_class(space.labels, groups, n_repeats, seed)
    units = f"{MIN_TEST_SAMPLES} samples" + ("" if groups is None else f" and {MIN_TEST_GROUPS} groups")
    way_out = f"Use at most `per_class={largest}`." if largest else "There are too few samples for `per_class`."
    raise InputError(f"`per_class` is {per_class}, which leaves fewer than {units} of some class to test on. {way_out}")


def largest_per_class(labels: np.ndarray, groups: np.ndarray | None, n_repeats: int, seed: int) -> int:
    """Return the largest number of samples a class that leaves enough to test on in all repeats; 0 if there is none.

    Args:
        labels: Class of each sample, shape (N,).
        groups: Number of each sample's group, shape (N,); None if samples are independent.
        n_repeats: Number of repeats.
        seed: Seed of the splits.
    """
    most = max(0, int(np.bincount(labels).min()) - MIN_TEST_SAMPLES)
    if groups is None:
        return most
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        splits = per_class_splits(labels, groups, middle, n_repeats, seed)
        low, most = (middle, most) if _leaves_enough(splits, labels, groups, middle) else (low, middle - 1)
    return low


def _leaves_enough(splits: Splits, labels: np.ndarray, groups: np.ndarray | None, per_class: int) -> bool:
    """Return whether each fold fits on `per_class` samples of each class and leaves enough of it to test on."""
    for fit, test in zip(splits.fit, splits.test, strict=True):
        n_classes = int(labels.max()) + 1
        if (np.bincount(labels[fit], minlength=n_classes) < per_class).any():
            return False
        if (np.bincount(labels[test], minlength=n_classes) < MIN_TEST_SAMPLES).any():
            return False
        if groups is not None:
            pairs = np.unique(np.stack([labels[test], groups[test]], axis=1), axis=0)
            if (np.bincount(pairs[:, 0], minlength=n_classes) < MIN_TEST_GROUPS).any():
                return False
    return True
