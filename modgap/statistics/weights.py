"""Weights of samples in an error: every sample, every group or every class counts equally."""

import numpy as np

from modgap.errors import unknown_name
from modgap.labels.label_space import LabelSpace

WEIGHTS = ("samples", "groups", "classes")
"""Choices of the unit that counts equally in an error."""

MOST_RELATIVE_ERROR = 1e-6
MOST_TOTAL = 2.0**60
LARGEST_EXACT = 1 << 20
"""Largest integer weight that is looked for without rounding."""


def choose_weighting(weight: str | None, groups: np.ndarray | None) -> str:
    """Return what counts equally: the user's choice, else groups where there are groups, else samples.

    Args:
        weight: One of `samples`, `groups` and `classes`; None for the default.
        groups: Group of each sample, or None if samples are independent.

    Raises:
        UsageError: If the name is unknown.
    """
    if weight is not None and weight not in WEIGHTS:
        raise unknown_name("weight", weight, WEIGHTS)
    if weight is None:
        return "samples" if groups is None else "groups"
    return "samples" if weight == "groups" and groups is None else weight


def entry_weights(space: LabelSpace, groups: np.ndarray | None, weighting: str) -> np.ndarray:
    """Return the weight of each entry of a label space in the error, shape (E,), with sum 1.

    With `samples`, each of N samples has weight 1/N. With `groups`, sample i of group g, which has n_g of the samples,
    has weight 1/(G n_g). With `classes`, the error is the mean over classes of the error of the class; with groups, the
    error of a class is the mean over its groups of the error on the group's samples of that class. A multi-label sample
    is shared evenly among its labels.

    Args:
        space: Labels of N samples.
        groups: Number of each sample's group from 0, shape (N,); None if samples are independent.
        weighting: One of `samples`, `groups` and `classes`.
    """
    samples = space.entry_samples
    shares: np.ndarray = space.entry_weights / space.unit
    if weighting == "samples" or (weighting == "groups" and groups is None):
        shares /= len(space)
        return shares
    if weighting == "groups":
        assert groups is not None
        n_samples = np.bincount(groups)
        shares /= np.count_nonzero(n_samples) * n_samples[groups[samples]]
        return shares
    return _class_weights(space, shares, None if groups is None else groups[samples])


def _class_weights(space: LabelSpace, shares: np.ndarray, entry_groups: np.ndarray | None) -> np.ndarray:
    """Return weights with equal totals for the classes and, with groups, for the groups of a class."""
    if entry_groups is None:
        totals = np.bincount(space.labels, shares, space.n_classes)
        return np.asarray(shares / (np.count_nonzero(totals) * totals[space.labels]))
    cells, cell_of_entry = np.unique(np.stack([space.labels, entry_groups], axis=1), axis=0, return_inverse=True)
    cell_of_entry = cell_of_entry.ravel()
    cell_totals = np.bincount(cell_of_entry, shares)
    groups_of_class = np.bincount(cells[:, 0], minlength=space.n_classes)
    n_classes = np.count_nonzero(groups_of_class)
    return np.asarray(shares / (n_classes * groups_of_class[space.labels] * cell_totals[cell_of_entry]))


def integer_weights(weights: np.ndarray) -> np.ndarray | None:
    """Return positive integers in the proportion of the weights, for kernels that count exactly.

    Small integers in the exact proportion are used if there are any, such as for groups of few different sizes.
    Otherwise rounding changes a weight by less than one in a million.

    Args:
        weights: Weights above 0, shape (E,).

    Returns:
        Integers of type int64, shape (E,); None if all weights are equal.

    Example:
        >>> integer_weights(np.array([1 / 6, 1 / 6, 1 / 4])).tolist()
        [2, 2, 3]
        >>> integer_weights(np.array([0.25, 0.25])) is None
        True
    """
    smallest = float(weights.min())
    ratios = weights / smallest
    distinct = np.unique(np.round(ratios, 9))
    if len(distinct) == 1:
        return None
    multiplier = _exact_multiplier(distinct)
    if multiplier is None:
        multiplier = min(1 / MOST_RELATIVE_ERROR, MOST_TOTAL / float(ratios.sum()))
    return np.asarray(np.maximum(1, np.rint(ratios * multiplier)).astype(np.int64))


def _exact_multiplier(ratios: np.ndarray) -> float | None:
    """Return the smallest integer that makes all ratios integers; None if it would be large."""
    multiplier = 1
    for ratio in ratios:
        factors = ratio * multiplier * np.arange(1, 257)
        is_integer = np.abs(factors - np.rint(factors)) < 1e-6
        if not is_integer.any():
            return None
        multiplier *= int(is_integer.argmax()) + 1
        if multiplier * ratios.max() > LARGEST_EXACT:
            return None
    return float(multiplier)
