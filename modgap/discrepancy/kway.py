"""Comparable between targets with different numbers of classes: k target classes at a time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from modgap.discrepancy.chain import Data, run_chain
from modgap.errors import InputError
from modgap.label_space import LabelSpace

__all__ = ["KWay", "KWayEstimate", "checked_k_way", "k_way"]

SUBSETS = 20


@dataclass(frozen=True)
class KWayEstimate:
    """One estimator's mean over choices of k target classes.

    Attributes:
        value: Mean of its value.
        interval: 95 % interval of that mean over choices of classes and samples (Student's t). Choices
            overlap, the more so the closer k is to K, and the interval is then too short.
        held_out: Mean of its held-out value; None where nothing could be tested.
        held_out_interval: Its interval.
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
    data: Data, space: LabelSpace, classes: int, *, subsets: int = SUBSETS, seconds: dict[str, float] | None = None
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
    checked_k_way(space, classes, data.logits.shape[1])
    each = int(np.bincount(space.labels).min())
    own = replace(data, n_classes=classes, groups=None)
    values: dict[str, list[tuple[float, float | None]]] = {name: [] for name in data.names}
    for part, groups in _choices(data, space, classes, each, subsets):
        for name, outcome in run_chain(_regrouped(own, groups), part)[0].items():
            values[name].append((outcome.found.value, outcome.held_out.value if outcome.held_out else None))
    if seconds is not None:
        seconds["k_way"] = time.perf_counter() - began
    return KWay(classes, subsets, each, 1 - 1 / classes, {name: _mean(found) for name, found in values.items()})


def checked_k_way(space: LabelSpace, classes: int, n_source_classes: int) -> None:
    """Refuse what cannot be compared k classes at a time.

    Raises:
        InputError: When k is too large or the labels are not single ones.
    """
    if space.weights is not None:
        raise InputError("expected single labels to compare some classes at a time, got several labels a sample")
    most = min(space.n_classes, n_source_classes)
    if classes > most:
        raise InputError(
            f"expected to compare at most {most} classes at a time (target {space.n_classes}, source "
            f"{n_source_classes}), got {classes}"
        )


def _regrouped(data: Data, groups: np.ndarray | None) -> Data:
    other = replace(data, groups=groups)
    # The ranking holds for any samples and labels of k classes: make it once.
    other.__dict__["ranking"] = data.ranking
    return other


def _choices(
    data: Data, space: LabelSpace, classes: int, each: int, subsets: int
) -> Iterator[tuple[LabelSpace, np.ndarray | None]]:
    """Random choices of classes and of samples, renumbered 0..k-1, and the groups of the samples."""
    rng = np.random.default_rng([data.seed, 0xE5])
    by_class = [np.flatnonzero(space.labels == k) for k in range(space.n_classes)]
    for _ in range(subsets):
        chosen = rng.permutation(space.n_classes)[:classes]
        members = np.concatenate([rng.permutation(by_class[k])[:each] for k in chosen])
        part = replace(space.only(members), labels=np.repeat(np.arange(classes), each), n_classes=classes)
        yield part, None if data.groups is None else data.groups[members]


def _mean(found: list[tuple[float, float | None]]) -> KWayEstimate:
    value = np.array([one for one, _ in found])
    held = np.array([other for _, other in found if other is not None])
    interval = _interval(value)
    if len(held) < 2:
        return KWayEstimate(float(value.mean()), interval, None, None)
    return KWayEstimate(float(value.mean()), interval, float(held.mean()), _interval(held))


def _interval(values: np.ndarray) -> tuple[float, float]:
    reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)
