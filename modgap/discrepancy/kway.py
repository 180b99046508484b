"""Comparison of k target classes at a time, so that targets with different numbers of classes are comparable."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from modgap.discrepancy.estimator_chain import EstimatorInputs, EstimatorResult, run_chain
from modgap.errors import InputError
from modgap.label_space import LabelSpace

__all__ = ["KWay", "KWayEstimate", "k_way", "validate_k_way"]

SUBSETS = 20


@dataclass(frozen=True)
class KWayEstimate:
    """One estimator's mean over random choices of k target classes.

    Attributes:
        value: Mean of the estimator's value over the choices.
        interval: 95 % interval of that mean over choices of k classes alone (Student's t). It covers the variation
            between choices with these samples, not the variation between samples.
        held_out: Mean held-out error over all samples that are tested in any choice; None if no sample could be
            tested.
        held_out_interval: 95 % interval of `held_out` over samples, or groups of samples, and over choices of classes.
            The variances of both are added, which is conservative, because choices also differ by their samples.
    """

    value: float
    interval: tuple[float, float]
    held_out: float | None
    held_out_interval: tuple[float, float] | None


@dataclass(frozen=True)
class KWay:
    """Estimates over random choices of k target classes, with the same number of samples from each class.

    Attributes:
        classes: Number k of classes in each choice.
        subsets: Number of choices.
        samples_per_class: Number of samples of each class in each choice.
        chance: Chance level 1 - 1/k.
        estimates: Estimate of each estimator, by name.
    """

    classes: int
    subsets: int
    samples_per_class: int
    chance: float
    estimates: dict[str, KWayEstimate]


def k_way(
    inputs: EstimatorInputs,
    space: LabelSpace,
    classes: int,
    *,
    subsets: int = SUBSETS,
    seconds: dict[str, float] | None = None,
) -> KWay:
    """Estimate the mean discrepancy over random choices of k target classes.

    Args:
        inputs: Logits and options of the estimators.
        space: Single labels of the samples.
        classes: Number k of classes in each choice, at most K and at most C.
        subsets: Number of choices.
        seconds: Receives the wall time in seconds under `k_way`; None to discard it.

    Raises:
        InputError: If k is too large or a sample has more than one label.

    References:
        MoNA (ICML 2024), A.4: "the target categories being compared".
    """
    began = time.perf_counter()
    validate_k_way(space, classes, inputs.logits.shape[1])
    samples_per_class = int(np.bincount(space.labels).min())
    k_way_inputs = replace(inputs, n_classes=classes, groups=None)
    sums = {name: _Sums(inputs.groups, len(space)) for name in inputs.names}
    for part, samples in _choices(space, inputs.seed, classes, samples_per_class, subsets):
        groups = None if inputs.groups is None else inputs.groups[samples]
        # The ranking holds for any samples and labels of k classes, so it is computed once.
        part_inputs = replace(k_way_inputs, groups=groups)
        part_inputs.share_ranking_of(k_way_inputs)
        for name, result in run_chain(part_inputs, part)[0].items():
            sums[name].add(result, samples)
    if seconds is not None:
        seconds["k_way"] = time.perf_counter() - began
    estimates = {name: one.estimate() for name, one in sums.items()}
    return KWay(classes, subsets, samples_per_class, 1 - 1 / classes, estimates)


def validate_k_way(space: LabelSpace, classes: int, n_source_classes: int) -> None:
    """Check that the target can be compared k classes at a time.

    Args:
        space: Labels of the samples.
        classes: Number k of classes in each choice.
        n_source_classes: Number C of source classes.

    Raises:
        InputError: If k is too large or a sample has more than one label.
    """
    if space.weights is not None:
        raise InputError(
            "The target is multi-label. Only targets with one label for each sample can be compared some classes at a "
            "time. Remove --classes."
        )
    most = min(space.n_classes, n_source_classes)
    if classes > most:
        raise InputError(
            f"Cannot compare {classes} classes at a time: the target has {space.n_classes} classes and the source "
            f"{n_source_classes}. Compare at most {most} classes at a time (--classes {most})."
        )


def _choices(
    space: LabelSpace, seed: int, classes: int, samples_per_class: int, subsets: int
) -> Iterator[tuple[LabelSpace, np.ndarray]]:
    """Yield random choices of classes and samples: their label space, renumbered 0..k-1, and the samples' numbers."""
    rng = np.random.default_rng([seed, 0xE5])
    by_class = [np.flatnonzero(space.labels == k) for k in range(space.n_classes)]
    labels = np.repeat(np.arange(classes), samples_per_class)
    for _ in range(subsets):
        chosen = rng.permutation(space.n_classes)[:classes]
        samples = np.concatenate([rng.permutation(by_class[k])[:samples_per_class] for k in chosen])
        yield replace(space.subset(samples), labels=labels, n_classes=classes), samples


class _Sums:
    """Values of one estimator over the choices, and the errors that it made on each sample or group of samples."""

    def __init__(self, groups: np.ndarray | None, n_samples: int) -> None:
        self.groups = np.arange(n_samples) if groups is None else np.unique(groups, return_inverse=True)[1]
        self.values: list[float] = []
        self.held_out_values: list[float] = []
        self.errors = np.zeros(self.groups.max() + 1)
        self.weights = np.zeros(self.groups.max() + 1)

    def add(self, result: EstimatorResult, samples: np.ndarray) -> None:
        self.values.append(result.solution.value)
        held_out = result.held_out
        if held_out is None:
            return
        self.held_out_values.append(held_out.value)
        groups = self.groups[samples[held_out.tested]]
        np.add.at(self.errors, groups, held_out.terms * held_out.weights)
        np.add.at(self.weights, groups, held_out.weights)

    def estimate(self) -> KWayEstimate:
        values = np.array(self.values)
        half_width = _quantile(len(values)) * np.sqrt(_variance_of_mean(values))
        value = float(values.mean())
        interval = (float(value - half_width), float(value + half_width))
        if len(self.held_out_values) < 2:
            return KWayEstimate(value, interval, None, None)
        return KWayEstimate(value, interval, *self._held_out())

    def _held_out(self) -> tuple[float, tuple[float, float]]:
        is_tested = self.weights > 0
        errors = self.errors[is_tested]
        weights = self.weights[is_tested]
        mean = float(errors.sum() / weights.sum())
        # Linearized residuals of a ratio of sums over independent groups.
        residuals = (errors - mean * weights) / weights.mean()
        variance = _variance_of_mean(residuals) + _variance_of_mean(np.array(self.held_out_values))
        half_width = float(_quantile(min(len(self.held_out_values), len(errors))) * np.sqrt(variance))
        return mean, (max(0.0, mean - half_width), min(1.0, mean + half_width))


def _variance_of_mean(values: np.ndarray) -> float:
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def _quantile(size: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution for a mean of `size` values."""
    return float(stats.t.ppf(0.975, max(1, size - 1)))
