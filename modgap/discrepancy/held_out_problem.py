"""The samples and classes that can be tested, with their weights and splits."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from modgap.discrepancy.estimator_chain import EstimatorInputs
from modgap.discrepancy.labeled_samples import LabeledSamples
from modgap.discrepancy.learning_curve import draw_per_class
from modgap.discrepancy.soft import Labeling
from modgap.statistics.intervals import ErrorAverage, SampleErrors
from modgap.statistics.splits import Splits, repeated_halves, testable_samples

__all__ = ["HeldOutProblem", "held_out_problem"]


@dataclass(frozen=True)
class HeldOutProblem:
    """The samples and classes that can be tested, with their weights and splits.

    Attributes:
        inputs: Logits and options of the estimators, for the tested classes.
        labeled: Labels and groups of M samples.
        splits: Folds of these samples.
        classes: Number of each tested class among all K classes, ascending.
        samples: Number of each sample among the N labeled samples, shape (M,).
    """

    inputs: EstimatorInputs
    labeled: LabeledSamples
    splits: Splits
    classes: np.ndarray
    samples: np.ndarray

    @cached_property
    def labeling(self) -> Labeling:
        """Labels and weights of the samples, with all folds."""
        return Labeling(self.labeled.space, self.labeled.weights, self.splits)

    def new_average(self) -> ErrorAverage:
        """Return an average of errors to which the folds of the splits can be added in parts."""
        return ErrorAverage(self.labeling.sample_weights, self.splits.n_repeats)

    def average_parts(self, parts: Iterable[tuple[Splits, np.ndarray]]) -> SampleErrors:
        """Return the errors of all folds, which come in parts: some folds and their errors (J, M)."""
        average = self.new_average()
        for splits, errors in parts:
            average.add(errors, splits)
        return self.result(average)

    def result(self, average: ErrorAverage) -> SampleErrors:
        """Return an average of all folds."""
        return average.result(self.labeled.units, self.labeled.strata, self.splits.seed)

    def permuted(self, repeat: int, splits: Splits) -> Labeling:
        """Return the labeling in which labels have moved between samples or groups, together with the splits."""
        permuted, donors = self.labeled.permuted(self.inputs.seed, repeat)
        return Labeling(permuted.space, permuted.weights, splits.permuted(donors))


def held_out_problem(
    inputs: EstimatorInputs, labeled: LabeledSamples, n_repeats: int, per_class: int | None = None
) -> HeldOutProblem | None:
    """Return the samples and classes that can be tested, and their splits.

    It is None if there are not two such classes, or if no split tests a sample.

    Args:
        inputs: Logits and options of the estimators.
        labeled: Labels and groups of N samples.
        n_repeats: Number of repeated splits; 0 for no held-out values.
        per_class: Number of samples a class to fit on; None for halves.

    Raises:
        InputError: If there are too few samples for the requested number of samples a class.
    """
    samples = testable_samples(labeled.space, labeled.split_groups)
    if not len(samples) or not n_repeats:
        return None
    tested = labeled.subset(samples)
    classes = np.flatnonzero(np.bincount(tested.space.labels))
    if len(classes) < 2:
        return None
    tested = tested.with_classes(classes)
    if per_class is None:
        splits = repeated_halves(tested.space, tested.split_groups, n_repeats, inputs.seed)
    else:
        splits = draw_per_class(tested.space, tested.split_groups, per_class, n_repeats, inputs.seed)
    splits = splits.with_tests()
    if not len(splits):
        return None
    tested_inputs = replace(inputs, n_classes=len(classes))
    if len(classes) == inputs.n_classes and "search" in inputs.names:
        tested_inputs.share_ranking_of(inputs)
    return HeldOutProblem(tested_inputs, tested, splits, classes, samples)
