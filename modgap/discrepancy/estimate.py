"""How far the source's knowledge is from the target's: every estimator on one set of logits."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from modgap.checks import checked_labels, checked_logits
from modgap.discrepancy.bounds import upper_bound
from modgap.discrepancy.halves import (
    MATCHED_TWICE,
    HeldOut,
    Null,
    bootstrap_interval,
    null_of,
    permuted_labels,
    split_halves,
    wilson_interval,
    wrong_under,
)
from modgap.discrepancy.montecarlo import MonteCarlo, held_out_maps, summarise
from modgap.discrepancy.problem import Problem
from modgap.discrepancy.trials import count_trials, warm_up
from modgap.errors import UsageError

__all__ = ["ESTIMATORS", "Discrepancy", "Estimate", "estimate"]

ESTIMATORS = ("montecarlo",)

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Estimate:
    """One estimator's value with what tells whether it means anything.

    Attributes:
        found: The estimator's own result, with `value` and `map`.
        null: The same estimator with permuted labels; None when switched off.
        calibrated: value / mean of the null: 1 where nothing is shared, 0 where all is; None without null.
        held_out: Map found on one half and judged on the other; the value to compare by.
        held_out_interval: 95 % interval of the held-out value; None when switched off.
        held_out_null: The null of the held-out value.
    """

    found: MonteCarlo
    null: Null | None
    calibrated: float | None
    held_out: float | None
    held_out_interval: tuple[float, float] | None
    held_out_null: Null | None

    def to_dict(self) -> dict:
        """Plain values for strict JSON."""
        own = asdict(self)
        return {**own.pop("found"), **own}


@dataclass(frozen=True)
class Discrepancy:
    """Modality knowledge discrepancy of one source and one target.

    Attributes:
        n_samples: N.
        n_source_classes: C.
        n_target_classes: K.
        chance: 1 - 1/K, the expected value of a map that knows nothing.
        prior: 1 - the largest class's share: what guessing that class gets wrong.
        estimates: Result by estimator's name.
        upper_bound: Certified upper bound on the infimum over all injective maps.
        untested: Samples that the held-out value could not test (a class in one sample or one group).
        seed: Seed of every draw.
        seconds: Wall time by stage.
    """

    n_samples: int
    n_source_classes: int
    n_target_classes: int
    chance: float
    prior: float
    estimates: dict[str, Estimate]
    upper_bound: float
    untested: int
    seed: int
    seconds: dict[str, float]

    def to_dict(self) -> dict:
        """Plain values for strict JSON, in the documented order."""
        own = {key: getattr(self, key) for key in self.__dataclass_fields__}
        own["estimates"] = {name: result.to_dict() for name, result in self.estimates.items()}
        return own


def estimate(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    trials: int = 100_000,
    null: int = 19,
    bootstrap: int = 1000,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Discrepancy:
    """Estimate the modality knowledge discrepancy (Definition 2.1) from source logits on target samples.

    Args:
        logits: Source logits, finite, shape (N, C).
        labels: Target labels 0..K-1, each class at least once, K <= C, shape (N,).
        groups: Which record, subject or field a sample comes from, shape (N,). Samples of one group
            are not independent: halves, permutations and intervals keep them together.
        trials: Random maps of the Monte-Carlo estimator.
        null: Repeats with permuted labels; 0 for none. Each costs as much as the estimate itself.
        bootstrap: Resamples of the interval where groups are given; 0 for no interval. Without groups
            the interval is Wilson's, which needs no resamples.
        seed: Seed of every draw.
        threads: Worker threads; None for one a core. The result does not depend on it.
        progress: Called with a stage's name and the share of its work done since the last call.

    Returns:
        The estimates with chance, null and held-out values.

    Raises:
        InputError: When logits or labels are not as described.
        UsageError: When a number is out of range.

    References:
        MoNA (ICML 2024), Definition 2.1, equations (10) and (11), Algorithm 2.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat([0, 1, 2], 40)
        >>> logits = rng.standard_normal((120, 20)).astype("float32")
        >>> logits[np.arange(120), labels + 5] += 4
        >>> result = estimate(logits, labels, trials=20_000, null=9)
        >>> found = result.estimates["montecarlo"].found
        >>> found.map, found.value
        ((5, 6, 7), 0.0)
        >>> round(result.estimates["montecarlo"].null.mean, 2)
        0.51
    """
    _refuse_out_of_range(trials=(trials, 1), null=(null, 0), bootstrap=(bootstrap, 0), seed=(seed, 0))
    array = checked_logits(logits)
    target, n_classes = checked_labels(labels, *array.shape)
    codes = None if groups is None else _checked_groups(groups, len(target))
    warm_up()
    run = _Run(array, codes, n_classes, trials, seed, threads or os.cpu_count() or 1, progress)
    found, held, counts_seconds = run.montecarlo(target, "montecarlo")
    began = time.perf_counter()
    permuted = [run.montecarlo(permuted_labels(target, codes, seed, r), "null", null)[:2] for r in range(null)]
    seconds = counts_seconds | ({"null": time.perf_counter() - began} if null else {})
    shares = np.bincount(target) / len(target)
    return Discrepancy(
        n_samples=len(target),
        n_source_classes=array.shape[1],
        n_target_classes=n_classes,
        chance=1 - 1 / n_classes,
        prior=float(1 - shares.max()),
        estimates={"montecarlo": _judge(run, target, found, held, permuted, bootstrap)},
        upper_bound=upper_bound(array, target, n_classes),
        untested=len(target) - (held.tested if held else 0),
        seed=seed,
        seconds=seconds,
    )


def _refuse_out_of_range(**limits: tuple[int, int]) -> None:
    for name, (value, least) in limits.items():
        if value < least:
            raise UsageError(f"expected {name} of at least {least}, got {value}")


def _checked_groups(groups: ArrayLike, size: int) -> np.ndarray:
    codes = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if len(codes) != size:
        raise UsageError(f"expected one group for each of {size} samples, got {len(codes)}")
    return codes


@dataclass(frozen=True)
class _Run:
    """What stays the same between the real labels and the permuted ones."""

    logits: np.ndarray
    groups: np.ndarray | None
    n_classes: int
    trials: int
    seed: int
    threads: int
    progress: Progress | None

    def montecarlo(self, labels: np.ndarray, stage: str, repeats: int = 1):
        """(estimate, held-out value or None, seconds) under these labels."""
        parts = split_halves(labels, self.groups, self.seed)
        problem = Problem(self.logits, np.arange(len(labels)), labels, parts, self.n_classes, int(parts.max()) + 1)
        report = self.progress

        def advance(share: float) -> None:
            if report:
                report(stage, share / repeats)

        counts = count_trials(problem, seed=self.seed, stop=self.trials, threads=self.threads, progress=advance)
        testable = problem.n_parts >= MATCHED_TWICE and bool((parts < MATCHED_TWICE).any())
        held = held_out_maps(problem, counts) if testable else None
        return summarise(problem, counts), held, counts.seconds


def _judge(run: _Run, labels, found: MonteCarlo, held: HeldOut | None, permuted, bootstrap: int) -> Estimate:
    null = null_of(found.value, [other.value for other, _ in permuted]) if permuted else None
    tested = [other.value for _, other in permuted if other]
    return Estimate(
        found=found,
        null=null,
        calibrated=found.value / null.mean if null and null.mean > 0 else None,
        held_out=held.value if held else None,
        held_out_interval=_interval(run, labels, held, bootstrap) if held and bootstrap else None,
        held_out_null=null_of(held.value, tested) if held and tested else None,
    )


def _interval(run: _Run, labels, held: HeldOut, bootstrap: int) -> tuple[float, float]:
    if run.groups is None:
        return wilson_interval(held.value, held.tested)
    parts = split_halves(labels, run.groups, run.seed)
    wrong = np.zeros(len(labels))
    for half in (0, 1):
        other = parts == 1 - half
        wrong[other] = wrong_under(run.logits[other], labels[other], held.maps[half])
    tested = parts < MATCHED_TWICE
    return bootstrap_interval(wrong[tested], run.groups[tested], bootstrap, run.seed)
