"""Comparable between targets with different numbers of classes: k target classes at a time."""

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
    """One estimator's mean over choices of k target classes.

    Attributes:
        value: Mean of its value.
        interval: 95 % interval of that mean over choices of k classes alone (Student's t): of what other choices
            would have given with these samples, not other samples.
        held_out: Mean over all samples tested in all choices; None where nothing could be tested.
        held_out_interval: Its 95 % interval over samples, or groups of them, and over choices of classes: the
            variances of both are added, which is on the safe side, since choices also differ by their samples.
    """

    value: float
    interval: tuple[float, float]
    held_out: float | None
    held_out_interval: tuple[float, float] | None


@dataclass(frozen=True)
class KWay:
    """The estimates on random choices of k target classes, with as many samples of each class.

    Attributes:
        classes: k.
        subsets: Choices of k classes.
        samples_per_class: Samples of each class in each choice.
        chance: 1 - 1/k.
        estimates: By estimator's name.
    """

    classes: int
    subsets: int
    samples_per_class: int
    chance: float
    estimates: dict[str, KWayEstimate]


def k_way(
    data: EstimatorInputs,
    space: LabelSpace,
    classes: int,
    *,
    subsets: int = SUBSETS,
    seconds: dict[str, float] | None = None,
) -> KWay:
    """Mean discrepancy over random choices of k target classes.

    Args:
        data: Logits and options of the estimators.
        space: Single labels of the samples.
        classes: k, at most K and at most C.
        subsets: Choices of k classes.
        seconds: Takes the wall time under `k_way`.

    Raises:
        InputError: When k is too large or the labels are not single ones.

    References:
        MoNA (ICML 2024), A.4: "the target categories being compared".
    """
    began = time.perf_counter()
    validate_k_way(space, classes, data.logits.shape[1])
    each = int(np.bincount(space.labels).min())
    own = replace(data, n_classes=classes, groups=None)
    found = {name: _Sums(data.groups, len(space)) for name in data.names}
    for part, members in _choices(data, space, classes, each, subsets):
        groups = None if data.groups is None else data.groups[members]
        for name, outcome in run_chain(_regrouped(own, groups), part)[0].items():
            found[name].add(outcome, members)
    if seconds is not None:
        seconds["k_way"] = time.perf_counter() - began
    return KWay(classes, subsets, each, 1 - 1 / classes, {name: sums.estimate() for name, sums in found.items()})


def validate_k_way(space: LabelSpace, classes: int, n_source_classes: int) -> None:
    """Refuse what cannot be compared k classes at a time.

    Raises:
        InputError: When k is too large or the labels are not single ones.
    """
    if space.weights is not None:
        raise InputError("expected single labels to compare some classes at a time, got multi-label data")
    most = min(space.n_classes, n_source_classes)
    if classes > most:
        raise InputError(
            f"expected to compare at most {most} classes at a time (target {space.n_classes}, source "
            f"{n_source_classes}), got {classes}"
        )


def _regrouped(data: EstimatorInputs, groups: np.ndarray | None) -> EstimatorInputs:
    other = replace(data, groups=groups)
    # The ranking holds for any samples and labels of k classes: make it once.
    other.__dict__["ranking"] = data.ranking
    return other


def _choices(
    data: EstimatorInputs, space: LabelSpace, classes: int, each: int, subsets: int
) -> Iterator[tuple[LabelSpace, np.ndarray]]:
    """Random choices of classes and of samples, renumbered 0..k-1, and the numbers of the samples."""
    rng = np.random.default_rng([data.seed, 0xE5])
    by_class = [np.flatnonzero(space.labels == k) for k in range(space.n_classes)]
    for _ in range(subsets):
        chosen = rng.permutation(space.n_classes)[:classes]
        members = np.concatenate([rng.permutation(by_class[k])[:each] for k in chosen])
        part = replace(space.subset(members), labels=np.repeat(np.arange(classes), each), n_classes=classes)
        yield part, members


class _Sums:
    """What the choices gave: their values, and what was tested on each sample or group of samples."""

    def __init__(self, groups: np.ndarray | None, n: int):
        self.units = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
        self.values: list[float] = []
        self.held: list[float] = []
        self.wrong = np.zeros(self.units.max() + 1)
        self.weights = np.zeros(self.units.max() + 1)

    def add(self, outcome: EstimatorResult, members: np.ndarray) -> None:
        self.values.append(outcome.solution.value)
        if (held := outcome.held_out) is None:
            return
        self.held.append(held.value)
        units = self.units[members[held.tested]]
        np.add.at(self.wrong, units, held.terms * held.weights)
        np.add.at(self.weights, units, held.weights)

    def estimate(self) -> KWayEstimate:
        values = np.array(self.values)
        reach = _quantile(len(values)) * np.sqrt(_variance_of_mean(values))
        value = float(values.mean())
        interval = (float(values.mean() - reach), float(values.mean() + reach))
        if len(self.held) < 2:
            return KWayEstimate(value, interval, None, None)
        return KWayEstimate(value, interval, *self._held_out())

    def _held_out(self) -> tuple[float, tuple[float, float]]:
        seen = self.weights > 0
        wrong = self.wrong[seen]
        weights = self.weights[seen]
        mean = float(wrong.sum() / weights.sum())
        # Of a ratio of sums over independent units.
        residuals = (wrong - mean * weights) / weights.mean()
        variance = _variance_of_mean(residuals) + _variance_of_mean(np.array(self.held))
        reach = float(_quantile(min(len(self.held), len(wrong))) * np.sqrt(variance))
        return mean, (max(0.0, mean - reach), min(1.0, mean + reach))


def _variance_of_mean(values: np.ndarray) -> float:
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def _quantile(size: int) -> float:
    return float(stats.t.ppf(0.975, max(1, size - 1)))
