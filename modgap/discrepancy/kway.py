"""Comparison of k target classes at a time, so that targets with different numbers of classes are comparable."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from modgap.discrepancy.estimator_chain import EstimatorInputs, fit_search_maps, run_chain
from modgap.discrepancy.held_out import fold_errors, fold_predictions
from modgap.discrepancy.learning_curve import draw_per_class
from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.soft import Labeling, soft_errors
from modgap.errors import InputError
from modgap.labels.label_space import LabelSpace
from modgap.statistics.intervals import SampleErrors, estimate_mean, student_quantile
from modgap.statistics.splits import Splits, per_class_splits, testable_samples
from modgap.statistics.weights import entry_weights, integer_weights

__all__ = ["CHOICES", "KWay", "KWayEstimate", "k_way", "validate_k_way"]

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
    inputs: EstimatorInputs,
    logits: np.ndarray,
    space: LabelSpace,
    groups: np.ndarray | None,
    classes: int,
    *,
    per_class: int | None = None,
    names: tuple[str, ...] = ("search", "soft"),
    merged_groups: np.ndarray | None = None,
    choices: int = CHOICES,
) -> KWay:
    """Estimate the mean discrepancy over random choices of k target classes.

    Args:
        inputs: Logits and options of the 0-1 estimators.
        logits: The user's logits for the softmax, shape (N', C).
        space: Single labels of the samples.
        groups: Number of each sample's group, shape (N,); None if samples are independent.
        classes: Number k of classes in each choice, at most K and at most C.
        per_class: Number n of samples of each class to fit on; None for half of the smallest class.
        names: Names of the estimators.
        merged_groups: Number of each sample's merged group, if copies of a sample merge groups, shape (N,); else None.
        choices: Number of choices.

    Raises:
        InputError: If k or n is too large, or a sample has more than one label.

    References:
        MoNA (ICML 2024), A.4: "the target categories being compared".
    """
    validate_k_way(space, classes, inputs.logits.shape[1])
    split_groups = groups if merged_groups is None else merged_groups
    tested = space.subset(testable_samples(space, split_groups))
    counts = np.bincount(tested.labels, minlength=space.n_classes)
    if (counts > 0).sum() < classes:
        raise InputError(
            f"Only {(counts > 0).sum()} classes have at least two samples or groups, so {classes} classes cannot be "
            "compared at a time. Use a smaller `classes`."
        )
    if per_class is not None:
        draw_per_class(space, split_groups, per_class, 1, inputs.seed)
    n_fit = per_class or max(1, int(counts[counts > 0].min()) // 2)
    sums = {name: _Sums(space, groups, split_groups, inputs.seed) for name in names}
    k_way_inputs = replace(inputs, n_classes=classes, names=tuple(name for name in names if name in inputs.names))
    for number, chosen in enumerate(_choices(np.flatnonzero(counts > 1), classes, choices, inputs.seed)):
        samples, labeling = _choice(space, groups, split_groups, chosen, n_fit, [inputs.seed, CHOICE_SALT, number])
        _add_choice(k_way_inputs, logits, samples, labeling, sums)
    estimates = {name: total.estimate() for name, total in sums.items()}
    return KWay(classes, choices, n_fit, 1 - 1 / classes, estimates)


def validate_k_way(space: LabelSpace, classes: int, n_source_classes: int) -> None:
    """Check that the target can be compared k classes at a time.

    Args:
        space: Labels of the samples.
        classes: Number k of classes in each choice.
        n_source_classes: Number C of source classes.

    Raises:
        InputError: If k is too large or a sample has more than one label.
    """
    if space.weights is not None or len(space.labels) != len(space):
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


def _choices(available: np.ndarray, classes: int, choices: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng([seed, CHOICE_SALT])
    for _ in range(choices):
        yield rng.permutation(available)[:classes]


def _choice(
    space: LabelSpace,
    groups: np.ndarray | None,
    split_groups: np.ndarray | None,
    chosen: np.ndarray,
    per_class: int,
    seed: list[int],
) -> tuple[np.ndarray, Labeling]:
    """Return the samples of one choice of classes by number, shape (M,), with labels 0..k-1, weights and splits."""
    numbers = np.full(space.n_classes, -1)
    numbers[chosen] = np.arange(len(chosen))
    samples = np.flatnonzero(numbers[space.labels] >= 0)
    part = replace(space.subset(samples), labels=numbers[space.labels[samples]], n_classes=len(chosen))
    split_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    part_groups, part_split_groups = (
        None if one is None else np.unique(one[samples], return_inverse=True)[1] for one in (groups, split_groups)
    )
    splits = per_class_splits(part.labels, part_split_groups, per_class, REPEATS, split_seed)
    return samples, Labeling(part, entry_weights(part, part_groups, "classes"), splits)


def _add_choice(
    inputs: EstimatorInputs, logits: np.ndarray, samples: np.ndarray, labeling: Labeling, sums: dict[str, "_Sums"]
) -> None:
    """Run the estimators on one choice, and add their values and errors."""
    soft_maps = None
    if "soft" in sums:
        probabilities = Probabilities(logits, labeling.space.rows, 1.0, inputs.threads)
        errors, soft_maps = soft_errors(probabilities, labeling)
        sums["soft"].add(samples, labeling, errors)
    if "search" in sums:
        maps = fit_search_maps(inputs, labeling, soft_maps)
        predicted = fold_predictions(inputs.logits, labeling, maps, inputs.threads)
        sums["search"].add(samples, labeling, fold_errors(labeling, predicted))
    if inputs.names:
        fixed = replace(inputs, restarts=inputs.restarts or 1)
        if inputs.names != ("montecarlo",):
            fixed.share_ranking_of(inputs)
        solutions, _ = run_chain(fixed, labeling.space, integer_weights(labeling.weights))
        for name, solution in solutions.items():
            sums[name].values.append(solution.value)


class _Sums:
    """Values of one estimator over the choices, and the errors that it made on each sample."""

    def __init__(
        self, space: LabelSpace, groups: np.ndarray | None, split_groups: np.ndarray | None, seed: int
    ) -> None:
        self.labels = space.labels
        self.weights = entry_weights(space, groups, "classes")
        self.units = np.arange(len(space)) if split_groups is None else split_groups
        self.seed = seed
        self.values: list[float] = []
        self.averages: list[np.ndarray] = []
        self.errors = np.zeros(len(space))
        self.times_tested = np.zeros(len(space))

    def add(self, samples: np.ndarray, labeling: Labeling, errors: np.ndarray) -> None:
        splits: Splits = labeling.splits
        test = np.asarray(splits.test)
        np.add.at(self.errors, samples, np.where(test, errors, 0.0).sum(axis=0))
        np.add.at(self.times_tested, samples, test.sum(axis=0))
        labels = labeling.space.labels
        self.averages.append(
            np.array([_class_mean(labels[tested], row[tested]) for tested, row in zip(test, errors, strict=True)])
        )

    def estimate(self) -> KWayEstimate:
        values = np.array(self.values)
        value = float(values.mean()) if len(values) else None
        interval = None
        if value is not None and len(values) > 1:
            half_width = float(student_quantile(len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
            interval = (value - half_width, value + half_width)
        if not self.averages:
            return KWayEstimate(value, interval, None, None)
        return KWayEstimate(value, interval, *self._held_out())

    def _held_out(self) -> tuple[float, tuple[float, float] | None]:
        tested = self.times_tested > 0
        errors = np.full(len(self.errors), np.nan)
        errors[tested] = self.errors[tested] / self.times_tested[tested]
        averages = np.array(self.averages)
        samples = SampleErrors(errors, self.weights, self.units, averages.ravel(), self.labels, self.seed)
        # Splits of the same choice vary as the maps do; means of choices vary as the classes do, and are averaged.
        of_maps = float(averages.var(axis=1, ddof=1).mean())
        of_choices = float(averages.mean(axis=1).var(ddof=1)) / len(averages) if len(averages) > 1 else 0.0
        mean = estimate_mean(samples, of_maps + of_choices)
        return mean.value, mean.interval


def _class_mean(labels: np.ndarray, errors: np.ndarray) -> float:
    """Return the mean over classes of the mean error of the class."""
    counts = np.bincount(labels)
    sums = np.bincount(labels, errors)
    return float((sums[counts > 0] / counts[counts > 0]).mean())
