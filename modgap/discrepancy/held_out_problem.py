"""The samples and classes that can be tested, with their weights and splits."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from modgap.discrepancy.estimator_chain import EstimatorInputs
from modgap.discrepancy.learning_curve import draw_per_class
from modgap.discrepancy.soft import Labeling
from modgap.labels.label_space import LabelSpace, row_numbers
from modgap.statistics.intervals import ErrorAverage, SampleErrors
from modgap.statistics.permutations import permute_merged_groups
from modgap.statistics.splits import Splits, repeated_halves, testable_samples
from modgap.statistics.weights import entry_weights

__all__ = ["HeldOutProblem", "held_out_problem"]


@dataclass(frozen=True)
class HeldOutProblem:
    """The samples and classes that can be tested, with their weights and splits.

    Attributes:
        inputs: Logits and options of the estimators, for the tested classes.
        labeling: Labels, weights and splits of M samples.
        groups: Number of each sample's group, shape (M,); None if samples are independent.
        classes: Number of each tested class among all K classes, ascending.
        samples: Number of each sample among the N labeled samples, shape (M,).
        weighting: What counts equally in an error.
        permutations_by: How labels move inside a group of several classes, see `permute_samples`.
        merged_groups: Number of each sample's merged group, if copies of a sample merge groups, shape (M,); else None.
    """

    inputs: EstimatorInputs
    labeling: Labeling
    groups: np.ndarray | None
    classes: np.ndarray
    samples: np.ndarray
    weighting: str
    permutations_by: str = "shuffle"
    merged_groups: np.ndarray | None = None

    @cached_property
    def units(self) -> np.ndarray:
        """Number of each sample's merged group, or of its group, or of the sample itself, shape (M,)."""
        groups = self.split_groups
        return row_numbers(len(self.labeling.space)) if groups is None else groups

    @property
    def split_groups(self) -> np.ndarray | None:
        """Number of each sample's group that splits keep together, shape (M,); None if samples are independent."""
        return self.groups if self.merged_groups is None else self.merged_groups

    @property
    def strata(self) -> np.ndarray | None:
        """Class of each sample if the error is a mean over classes of single labels, else None."""
        space = self.labeling.space
        single = space.weights is None and len(space.labels) == len(space)
        return space.labels if self.weighting == "classes" and single else None

    def average(self, errors: np.ndarray) -> SampleErrors:
        """Return the errors (J, M) of the folds by sample and by repeat."""
        return self.average_parts([(self.labeling.splits, errors)])

    def new_average(self) -> ErrorAverage:
        """Return an average of errors to which the folds of the splits can be added in parts."""
        return ErrorAverage(self.labeling.sample_weights, self.labeling.splits.n_repeats)

    def average_parts(self, parts: Iterable[tuple[Splits, np.ndarray]]) -> SampleErrors:
        """Return the errors of all folds, which come in parts: some folds and their errors (J, M)."""
        average = self.new_average()
        for splits, errors in parts:
            average.add(errors, splits)
        return self.result(average)

    def result(self, average: ErrorAverage) -> SampleErrors:
        """Return an average of all folds."""
        return average.result(self.units, self.strata, self.labeling.splits.seed)

    def permuted(self, seed: int, repeat: int, splits: Splits) -> Labeling:
        """Return the labeling in which labels have moved between samples or groups, together with the splits."""
        space = self.labeling.space
        donors = permute_merged_groups(
            space.label_set_ids, self.groups, self.merged_groups, seed, repeat, self.permutations_by
        )
        permuted = space.with_labels_from(donors)
        return Labeling(permuted, entry_weights(permuted, self.groups, self.weighting), splits.permuted(donors))

    @property
    def prior(self) -> float:
        """Majority-class baseline: the error of always predicting the class of the largest weight."""
        space = self.labeling.space
        return float(1 - np.bincount(space.labels, self.labeling.weights, space.n_classes).max())


def held_out_problem(
    inputs: EstimatorInputs,
    space: LabelSpace,
    groups: np.ndarray | None,
    weighting: str,
    splits: int,
    per_class: int | None,
    permutations_by: str = "shuffle",
    merged_groups: np.ndarray | None = None,
) -> HeldOutProblem | None:
    """Return the samples and classes that can be tested, and their splits.

    It is None if there are not two such classes, or if no split tests a sample.

    Args:
        inputs: Logits and options of the estimators.
        space: Labels of N samples.
        groups: Number of each sample's group, shape (N,); None if samples are independent.
        weighting: What counts equally in an error: `samples`, `groups` or `classes`.
        splits: Number of repeated splits; 0 for no held-out values.
        per_class: Number of samples a class to fit on; None for halves.
        permutations_by: How labels move inside a group of several classes: `shuffle` or `shifts`.
        merged_groups: Number of each sample's merged group, if copies of a sample merge groups, shape (N,); else None.

    Raises:
        InputError: If there are too few samples for the requested number of samples a class.
    """
    split_groups = groups if merged_groups is None else merged_groups
    samples = testable_samples(space, split_groups)
    if not len(samples) or not splits:
        return None
    # Label spaces take as much memory as some columns of logits, so a second one is made only where it differs.
    tested = space if len(samples) == len(space) else space.subset(samples)
    classes = np.flatnonzero(np.bincount(tested.labels, minlength=space.n_classes))
    if len(classes) < 2:
        return None
    if len(classes) < space.n_classes:
        tested = replace(tested, labels=np.searchsorted(classes, tested.labels), n_classes=len(classes))
    tested_groups = _renumbered(groups, samples)
    tested_split_groups = _renumbered(split_groups, samples)
    if per_class is None:
        folds = repeated_halves(tested, tested_split_groups, splits, inputs.seed)
    else:
        folds = draw_per_class(tested, tested_split_groups, per_class, splits, inputs.seed)
    folds = folds.with_tests()
    if not len(folds):
        return None
    weights = entry_weights(tested, tested_groups, weighting)
    tested_inputs = replace(inputs, n_classes=len(classes))
    if len(classes) == inputs.n_classes and "search" in inputs.names:
        tested_inputs.share_ranking_of(inputs)
    labeling = Labeling(tested, weights, folds)
    tested_merged = None if merged_groups is None else tested_split_groups
    return HeldOutProblem(
        tested_inputs, labeling, tested_groups, classes, samples, weighting, permutations_by, tested_merged
    )


def _renumbered(groups: np.ndarray | None, samples: np.ndarray) -> np.ndarray | None:
    """Return the groups of some samples, with numbers from 0."""
    return None if groups is None else np.unique(groups[samples], return_inverse=True)[1]
