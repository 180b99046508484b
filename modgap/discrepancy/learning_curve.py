"""Held-out errors by the number of samples a class that maps are fitted on."""

from dataclasses import dataclass

import numpy as np

from modgap.discrepancy.labeled_samples import LabeledSamples
from modgap.discrepancy.montecarlo import one_two_five
from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.soft import Labeling, soft_errors
from modgap.errors import InputError
from modgap.labels.label_space import LabelSpace
from modgap.statistics.intervals import average_errors, estimate_mean
from modgap.statistics.splits import Splits, per_class_splits

MIN_TEST_SAMPLES = 5
"""Fewest samples of each class that are left to test on."""
MIN_TEST_GROUPS = 2
"""Fewest groups of each class that are left to test on."""
MOST_ADDITIONS = 4e9
"""Largest number of additions, to fit its maps, for which a learning curve is computed."""
MOST_TESTS = 5e7
"""Largest number of tested samples, over all splits and points, for which a learning curve is computed."""


@dataclass(frozen=True)
class LearningCurvePoint:
    """Held-out error of maps that are fitted on a number of samples a class.

    Attributes:
        per_class: Number n of samples of each class that maps are fitted on.
        estimator: Name of the estimator.
        held_out: Expected error of such maps on new samples.
        held_out_interval: 95 % interval; None with fewer than 8 groups.
    """

    per_class: int
    estimator: str
    held_out: float
    held_out_interval: tuple[float, float] | None


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


def learning_curve(
    probabilities: Probabilities, labeled: LabeledSamples, n_repeats: int, seed: int
) -> tuple[LearningCurvePoint, ...]:
    """Compute the soft held-out error for 5, 10, 20, 50, ... samples a class, as far as the samples reach.

    The curve is empty for multi-label targets, and where it would take long.

    Args:
        probabilities: Softmax of N samples.
        labeled: Labels and groups of the samples.
        n_repeats: Number of repeats of each point.
        seed: Seed of the splits.
    """
    space = labeled.space
    groups = labeled.split_groups
    if space.weights is not None or not space.has_single_labels:
        return ()
    largest = largest_per_class(space.labels, groups, n_repeats, seed)
    sizes = [size for size in one_two_five(largest) if size >= 5]
    additions = n_repeats * sum(sizes) * space.n_classes * probabilities.n_source_classes
    if additions > MOST_ADDITIONS or n_repeats * len(sizes) * len(space) > MOST_TESTS:
        return ()
    points = []
    for per_class in sizes:
        splits = per_class_splits(space.labels, groups, per_class, n_repeats, seed)
        labeling = Labeling(space, labeled.weights, splits)
        errors, _ = soft_errors(probabilities, labeling)
        average = average_errors(errors, splits, labeling.sample_weights, labeled.units, labeled.strata)
        mean = estimate_mean(average)
        points.append(LearningCurvePoint(per_class, "soft", mean.value, mean.interval))
    return tuple(points)
