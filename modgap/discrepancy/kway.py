"""Comparison of k target classes at a time, so that targets with different numbers of classes are comparable."""

from dataclasses import dataclass, replace

import numpy as np

from modgap.discrepancy.estimator_chain import EstimatorInputs, fit_search_maps, run_chain
from modgap.discrepancy.held_out import fold_errors, fold_predictions
from modgap.discrepancy.labeled_samples import LabeledSamples
from modgap.discrepancy.per_class import draw_per_class
from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.soft import Labeling, soft_errors
from modgap.errors import InputError
from modgap.labels.label_space import LabelSpace
from modgap.statistics.intervals import SampleErrors, estimate_mean, student_margin
from modgap.statistics.splits import per_class_splits, testable_samples
from modgap.statistics.weights import integer_weights

CHOICES = 20
"""Number of random choices of classes."""
REPEATS = 2
"""Number of splits of the samples of each choice."""
CHOICE_SALT = 0xE5


@dataclass(frozen=True)
class KWayEstimate:
    """One estimator's mean over random choices of k target classes.

    Attributes:
        value: Mean over the choices of the estimator's in-sample value; None for `soft`.
        interval: 95 % interval of that mean over choices of k classes alone (Student's t). It covers the variation
            between choices with these samples, not the variation between samples.
        held_out: Expected error on new samples of maps that are fitted on n samples of each of k classes, as a mean
            over classes. None for estimators without held-out errors.
        held_out_interval: 95 % interval of `held_out` over samples or groups, splits and choices of classes; None with
            fewer than 8 groups.
    """

    value: float | None
    interval: tuple[float, float] | None
    held_out: float | None
    held_out_interval: tuple[float, float] | None


@dataclass(frozen=True)
class KWay:
    """Estimates over random choices of k target classes, with maps that are fitted on n samples of each class.

    Two targets are comparable if k and n are the same.

    Attributes:
        classes: Number k of classes in each choice.
        choices: Number of choices.
        per_class: Number n of samples of each class that maps are fitted on.
        chance: Chance level 1 - 1/k.
        estimates: Estimate of each estimator, by name.
    """

    classes: int
    choices: int
    per_class: int
    chance: float
    estimates: dict[str, KWayEstimate]


def k_way(
    inputs: EstimatorInputs, logits: np.ndarray, labeled: LabeledSamples, classes: int, per_class: int | None = None
) -> KWay:
    """Estimate the mean discrepancy over random choices of k target classes.

    Args:
        inputs: Logits and options of the estimators.
        logits: The user's logits for the softmax, shape (N', C).
        labeled: Single labels and groups of the samples.
        classes: Number k of classes in each choice, at most K and at most C.
        per_class: Number n of samples of each class to fit on; None for half of the smallest class.

    Raises:
        InputError: If too few classes have two samples or groups, or n is too large.

    References:
        MoNA (ICML 2024), A.4: "the target categories being compared".
    """
    space = labeled.space
    labeled = replace(labeled, weighting="classes")
    tested = labeled.subset(testable_samples(space, labeled.split_groups))
    counts = np.bincount(tested.space.labels, minlength=space.n_classes)
    if (counts > 0).sum() < classes:
        raise InputError(
            f"Only {(counts > 0).sum()} classes have at least two samples or groups, so {classes} classes cannot be "
            "compared at a time. Use a smaller `classes`."
        )
    if per_class is not None:
        tested = tested.with_classes(np.flatnonzero(counts))
        draw_per_class(tested.space, tested.split_groups, per_class, 1, inputs.seed)
    n_fit = per_class or max(1, int(counts[counts > 0].min()) // 2)
    sums = {name: _Sums(labeled, inputs.seed) for name in inputs.names}
    k_way_inputs = replace(inputs, n_classes=classes)
    rng = np.random.default_rng([inputs.seed, CHOICE_SALT])
    for number in range(CHOICES):
        chosen = rng.permutation(np.flatnonzero(counts > 1))[:classes]
        samples = np.flatnonzero(np.isin(space.labels, chosen))
        part = labeled.subset(samples).with_classes(chosen)
        seed = int(np.random.SeedSequence([inputs.seed, CHOICE_SALT, number]).generate_state(1)[0])
        splits = per_class_splits(part.space.labels, part.split_groups, n_fit, REPEATS, seed)
        labeling = Labeling(part.space, part.weights, splits)
        soft_maps = None
        if "soft" in sums:
            probabilities = Probabilities(logits, part.space.rows, 1.0, inputs.threads)
            errors, soft_maps = soft_errors(probabilities, labeling)
            sums["soft"].add(samples, labeling, errors)
        if "search" in sums:
            maps = fit_search_maps(k_way_inputs, labeling, soft_maps)
            predicted = fold_predictions(inputs.logits, labeling, maps, inputs.threads)
            sums["search"].add(samples, labeling, fold_errors(labeling, predicted))
        if inputs.names != ("soft",):
            solutions, _ = run_chain(k_way_inputs, part.space, integer_weights(labeling.weights))
            for name, solution in solutions.items():
                sums[name].values.append(solution.value)
    estimates = {name: total.estimate() for name, total in sums.items()}
    return KWay(classes, CHOICES, n_fit, 1 - 1 / classes, estimates)


def validate_k_way(space: LabelSpace, classes: int, n_source_classes: int) -> None:
    """Check that the target can be compared k classes at a time.

    Args:
        space: Labels of the samples.
        classes: Number k of classes in each choice.
        n_source_classes: Number C of source classes.

    Raises:
        InputError: If k is too large or a sample has more than one label.
    """
    if space.weights is not None or not space.has_single_labels:
        raise InputError(
            "The target is multi-label. Only targets with one label for each sample can be compared some classes at a "
            "time. Remove `classes`."
        )
    most = min(space.n_classes, n_source_classes)
    if classes > most:
        raise InputError(
            f"Cannot compare {classes} classes at a time: the target has {space.n_classes} classes and the source "
            f"{n_source_classes}. Compare at most {most} classes at a time (`classes={most}`)."
        )


class _Sums:
    """Values of one estimator over the choices, and the errors that it made on each sample."""

    def __init__(self, labeled: LabeledSamples, seed: int) -> None:
        self.labeled = labeled
        self.seed = seed
        self.values: list[float] = []
        self.averages: list[np.ndarray] = []
        self.errors = np.zeros(len(labeled.space))
        self.times_tested = np.zeros(len(labeled.space))

    def add(self, samples: np.ndarray, labeling: Labeling, errors: np.ndarray) -> None:
        test = np.asarray(labeling.splits.test)
        np.add.at(self.errors, samples, np.where(test, errors, 0.0).sum(axis=0))
        np.add.at(self.times_tested, samples, test.sum(axis=0))
        averages = []
        for tested, row in zip(test, errors, strict=True):
            counts = np.bincount(labeling.space.labels[tested])
            means = np.bincount(labeling.space.labels[tested], row[tested])[counts > 0] / counts[counts > 0]
            averages.append(float(means.mean()) if len(means) else np.nan)
        # With few groups of several classes, a split may have no class in both parts, and then it tests nothing.
        if np.isfinite(averages).all():
            self.averages.append(np.array(averages))

    def estimate(self) -> KWayEstimate:
        values = np.array(self.values)
        value = float(values.mean()) if len(values) else None
        interval = None
        if value is not None and len(values) > 1:
            margin = student_margin(values)
            interval = (value - margin, value + margin)
        if not self.averages:
            return KWayEstimate(value, interval, None, None)
        tested = self.times_tested > 0
        errors = np.full(len(self.errors), np.nan)
        errors[tested] = self.errors[tested] / self.times_tested[tested]
        averages = np.array(self.averages)
        labeled = self.labeled
        samples = SampleErrors(
            errors, labeled.weights, labeled.units, averages.ravel(), labeled.space.labels, self.seed
        )
        # Splits of the same choice vary as the maps do; means of choices vary as the classes do, and are averaged.
        of_maps = float(averages.var(axis=1, ddof=1).mean())
        of_choices = float(averages.mean(axis=1).var(ddof=1)) / len(averages) if len(averages) > 1 else 0.0
        mean = estimate_mean(samples, of_maps + of_choices)
        return KWayEstimate(value, interval, mean.value, mean.interval)
