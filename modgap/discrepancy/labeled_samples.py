"""Samples with their labels and groups, what counts equally in an error, and equally many samples of each group."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError, UsageError, count
from modgap.labels.label_space import LabelSpace, row_numbers
from modgap.labels.user_arrays import number_groups, to_numpy
from modgap.statistics.permutations import permute_merged_groups
from modgap.statistics.weights import entry_weights

EQUAL_GROUPS_SALT = 0xE6


@dataclass(frozen=True)
class LabeledSamples:
    """Labels and groups of N samples, and what counts equally in an error.

    Attributes:
        space: Labels of the samples.
        groups: Number of each sample's group, shape (N,); None if samples are independent.
        merged_groups: Number of each sample's merged group, if copies of a sample merge groups, shape (N,); else None.
        weighting: What counts equally in an error: `samples`, `groups` or `classes`.
        permutations_by: How labels move inside a group of several classes, `shuffle` or `shifts`, see
            `permute_samples`.
    """

    space: LabelSpace
    groups: np.ndarray | None = None
    merged_groups: np.ndarray | None = None
    weighting: str = "samples"
    permutations_by: str = "shuffle"

    @cached_property
    def weights(self) -> np.ndarray:
        """Weight of each entry of the label space, shape (E,), with sum 1."""
        return entry_weights(self.space, self.groups, self.weighting)

    @property
    def split_groups(self) -> np.ndarray | None:
        """Number of each sample's group that splits keep together, shape (N,); None if samples are independent."""
        return self.groups if self.merged_groups is None else self.merged_groups

    @cached_property
    def units(self) -> np.ndarray:
        """Number of each sample's merged group, or of its group, or of the sample itself, shape (N,)."""
        groups = self.split_groups
        return row_numbers(len(self.space)) if groups is None else groups

    @property
    def strata(self) -> np.ndarray | None:
        """Class of each sample if the error is a mean over classes of single labels, else None."""
        is_single = self.space.weights is None and self.space.has_single_labels
        return self.space.labels if self.weighting == "classes" and is_single else None

    @property
    def prior(self) -> float:
        """Majority-class baseline: the error of always predicting the class of the largest weight."""
        return float(1 - np.bincount(self.space.labels, self.weights, self.space.n_classes).max())

    def subset(self, samples: np.ndarray) -> "LabeledSamples":
        """Return some of the samples, of numbers (M,), with groups that are numbered from 0."""
        # Label spaces take as much memory as some columns of logits, so another one is made only where it differs.
        space = self.space if len(samples) == len(self.space) else self.space.subset(samples)
        groups, merged_groups = (
            None if one is None else np.unique(one[samples], return_inverse=True)[1]
            for one in (self.groups, self.merged_groups)
        )
        return replace(self, space=space, groups=groups, merged_groups=merged_groups)

    def with_classes(self, classes: np.ndarray) -> "LabeledSamples":
        """Return the samples with other numbers of classes.

        Args:
            classes: Numbers of all classes that samples have; class `classes[k]` becomes class k.
        """
        if np.array_equal(classes, np.arange(self.space.n_classes)):
            return self
        numbers = np.zeros(self.space.n_classes, np.int64)
        numbers[classes] = np.arange(len(classes))
        return replace(self, space=replace(self.space, labels=numbers[self.space.labels], n_classes=len(classes)))

    def permuted(self, seed: int, repeat: int) -> tuple["LabeledSamples", np.ndarray]:
        """Return the samples after labels have moved between samples or groups, and where the labels come from.

        Args:
            seed: Seed of the permutations.
            repeat: Number of the permutation.

        Returns:
            The samples, and the number of the sample whose labels each sample takes, shape (N,).
        """
        donors = permute_merged_groups(
            self.space.label_set_ids, self.groups, self.merged_groups, seed, repeat, self.permutations_by
        )
        return replace(self, space=self.space.with_labels_from(donors)), donors


def equal_group_rows(groups: ArrayLike | None, per_group: int, seed: int) -> np.ndarray:
    """Draw the same number of samples from each group, so that groups are exchangeable whatever their sizes.

    Args:
        groups: Group of each sample, of any sortable type, shape (N,); None raises.
        per_group: Number of samples to draw from each group.
        seed: Seed of the draw.

    Returns:
        Row numbers in ascending order, shape (G * per_group,).

    Raises:
        UsageError: If there are no groups, or the number is below 1.
        InputError: If a group has fewer samples.
    """
    if per_group < 1:
        raise UsageError(f"`per_group` is {per_group}. Expected a number of at least 1.")
    if groups is None:
        raise UsageError("`per_group` needs groups, and the samples have none. Leave it out.")
    numbers = number_groups(groups, len(to_numpy(groups, "groups")))
    sizes = np.bincount(numbers)
    if sizes.min() < per_group:
        n_small = int((sizes < per_group).sum())
        raise InputError(
            f"`per_group` is {per_group}, but {count(n_small, 'group')} of {len(sizes)} have fewer samples. "
            f"The smallest group has {count(int(sizes.min()), 'sample')}. Pass `per_group={int(sizes.min())}` or less."
        )
    order = np.random.default_rng([seed, EQUAL_GROUPS_SALT]).permutation(len(numbers))
    by_group = order[np.argsort(numbers[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.sort((by_group[starts[:, None] + np.arange(per_group)]).ravel())
