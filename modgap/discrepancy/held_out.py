"""The samples and classes that can be tested, and the errors of maps on samples that they were not fitted on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from modgap.discrepancy.estimator_chain import EstimatorInputs
from modgap.discrepancy.labeled_samples import LabeledSamples
from modgap.discrepancy.per_class import draw_per_class
from modgap.discrepancy.predictions import predicted_classes
from modgap.discrepancy.soft import Labeling
from modgap.discrepancy.threads import share_work
from modgap.statistics.intervals import ErrorAverage, SampleErrors
from modgap.statistics.jackknife import group_blocks
from modgap.statistics.masks import Masks
from modgap.statistics.splits import Splits, per_class_splits, repeated_halves, testable_samples

BLOCK_FOLDS = 4
"""Number of folds whose maps are fitted without one block of groups after the other."""


@dataclass(frozen=True)
class HeldOutProblem:
    """The samples and classes that can be tested, with their weights and splits.

    Attributes:
        inputs: Logits and options of the estimators, for the tested classes.
        labeled: Labels and groups of M samples.
        splits: Folds of these samples.
        classes: Number of each tested class among all K classes, ascending.
        samples: Number of each sample among the N labeled samples, shape (M,).
        per_class: Number of samples a class that the folds are fitted on; None for halves.
    """

    inputs: EstimatorInputs
    labeled: LabeledSamples
    splits: Splits
    classes: np.ndarray
    samples: np.ndarray
    per_class: int | None = None

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

    @cached_property
    def without_blocks(self) -> Labeling | None:
        """Labels and weights, with four folds that are fitted without one block of groups after the other.

        Each block is a repeat of its own. Copies of samples do not merge groups here, so that all sources have the same
        blocks. None without groups, see `group_blocks`.
        """
        space, n_repeats = self.labeling.space, BLOCK_FOLDS * self.splits.n_repeats // len(self.splits)
        splits = self.splits.first(max(1, n_repeats))
        blocks = group_blocks(space.rarest_labels, self.labeled.groups, splits.seed)
        if not blocks:
            return None
        fit = Masks.pack((fold & ~block for block in blocks for fold in splits.fit), len(space))
        test = Masks.stack([splits.test] * len(blocks), len(space))
        repeats = np.repeat(np.arange(len(blocks)), len(splits))
        return Labeling(space, self.labeling.weights, Splits(fit, test, repeats, splits.seed))

    def permuted(self, repeat: int, splits: Splits) -> Labeling:
        """Return the labeling in which labels have moved between samples or groups, together with the splits."""
        permuted, donors = self.labeled.permuted(self.inputs.seed, repeat)
        groups = permuted.split_groups
        if self.per_class is not None and groups is not None:
            # Folds fit a part of some groups, and labels of whole groups move, so folds are drawn by the new labels.
            labels, n_repeats = permuted.space.labels, splits.n_repeats
            drawn = per_class_splits(labels, groups, self.per_class, n_repeats, splits.seed)
            return Labeling(permuted.space, permuted.weights, drawn)
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
    return HeldOutProblem(tested_inputs, tested, splits, classes, samples, per_class)


def fold_predictions(logits: np.ndarray, labeling: Labeling, maps: np.ndarray, threads: int = 1) -> np.ndarray:
    """Return the predicted target class of the tested samples of each fold, and -1 for other samples, shape (J, N).

    Args:
        logits: Source logits, shape (N', C).
        labeling: Labels and folds.
        maps: Source class of each target class in each fold, shape (J, K).
        threads: Number of worker threads; it does not change the result.
    """
    # Signed integers of the smallest size, because there is a value for each fold and sample.
    predicted = np.full(labeling.splits.test.shape, -1, np.min_scalar_type(-labeling.space.n_classes))

    def work(queue: Iterator[int]) -> None:
        for fold in queue:
            tested = np.flatnonzero(labeling.splits.test[fold])
            predicted[fold, tested] = predicted_classes(logits, labeling.space.rows[tested], maps[fold])

    share_work(range(len(maps)), threads, work)
    return predicted


def fold_errors(labeling: Labeling, predicted: np.ndarray) -> np.ndarray:
    """Return the error of each tested sample in each fold: equation (10), or its multi-label form, shape (J, N).

    Errors of single labels are Booleans.

    Args:
        labeling: Labels and folds.
        predicted: Predicted target class of each sample in each fold, -1 for samples that a fold does not test, (J, N).
    """
    space = labeling.space
    if space.weights is None and len(space.labels) == len(space):
        return np.asarray((predicted != space.labels) & (predicted >= 0))
    shares = labeling.entry_shares
    entry_samples = space.entry_samples
    errors = np.zeros(predicted.shape)
    for fold, classes in enumerate(predicted):
        correct = np.bincount(entry_samples, shares * (space.labels == classes[entry_samples]), len(space))
        errors[fold] = np.where(classes >= 0, 1 - correct, 0.0)
    return errors


def fold_confusion(labeling: Labeling, predicted: np.ndarray) -> np.ndarray:
    """Return the number of tested samples by label (rows) and prediction (columns), per repeat, shape (K, K).

    A sample counts once, and a multi-label sample is shared evenly among the rows of its labels.

    Args:
        labeling: Labels and folds.
        predicted: Predicted target class of each sample in each fold, -1 for samples that a fold does not test, (J, N).
    """
    space = labeling.space
    entry_samples = space.entry_samples
    shares = space.entry_weights / space.unit
    matrix = np.zeros((space.n_classes, space.n_classes))
    for classes in predicted:
        tested = np.flatnonzero(classes[entry_samples] >= 0)
        np.add.at(matrix, (space.labels[tested], classes[entry_samples[tested]]), shares[tested])
    return matrix / labeling.splits.n_repeats
