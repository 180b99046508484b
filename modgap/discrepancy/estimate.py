"""How far the source's knowledge is from the target's: every estimator on one set of logits."""

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from modgap.bootstrap import mean_interval
from modgap.discrepancy.bounds import lower_bound, upper_bound
from modgap.discrepancy.distances import map_discrepancy, validate_measures
from modgap.discrepancy.estimator_chain import ESTIMATORS, EstimatorInputs, EstimatorResult, HeldOut, run_chain, warm_up
from modgap.discrepancy.held_out import permute_samples, summarize_null, wilson_interval
from modgap.discrepancy.input_checks import validate_logits
from modgap.discrepancy.kway import k_way, validate_k_way
from modgap.discrepancy.predictions import confusion_matrix
from modgap.discrepancy.result import Bounds, Discrepancy, Estimate
from modgap.errors import InputError, UsageError, unknown_name
from modgap.label_space import LabelSpace, label_space, validate_class_count
from modgap.progress import Progress

__all__ = ["estimate"]

LARGEST = 1 << 62
LONG = 20.0
"""Seconds of permuted repeats that are announced before they run."""

log = logging.getLogger("modgap")


def estimate(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    estimators: Sequence[str] = ESTIMATORS,
    trials: int = 100_000,
    subsets: int = 1000,
    restarts: int = 1,
    null: int = 19,
    bootstrap: int = 1000,
    spread: int = 4,
    bound_seconds: float = 0.0,
    classes: int | None = None,
    balanced: bool = False,
    measures: Sequence[str] = (),
    temperature: float = 1.0,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Discrepancy:
    """Estimate the modality knowledge discrepancy (Definition 2.1) from source logits on target samples.

    On by default is what a value cannot be read without: the null (19 repeats, the fewest that can give
    p = 0.05), the held-out value with its interval, and the spread of the Monte-Carlo minimum. They cost
    about 20, 1 and 4 times the estimate itself; what takes long is announced before it runs.

    Args:
        logits: Source logits, finite, shape (N, C); may be memory-mapped.
        labels: Target labels 0..K-1, each class at least once, K <= C, shape (N,); or 0/1 labels (N, K),
            several of which may be 1.
        groups: Which record, subject or field a sample comes from, shape (N,). Samples of one group
            are not independent: halves, permutations and intervals keep them together.
        estimators: Of `montecarlo`, `assignment` and `search`; each starts from those before it.
        trials: Random maps of the Monte-Carlo estimator.
        subsets: Random subsets of the assignment estimator.
        restarts: Restarts of the search.
        null: Repeats with permuted labels; 0 for none.
        bootstrap: Resamples of the held-out interval for grouped, multi-label or balanced data; 0 for no
            interval. Elsewhere it is Wilson's, which needs no resamples.
        spread: Further seeds of the Monte-Carlo trials; 0 for no spread.
        bound_seconds: Time for the certified lower bound, and as much again for that of permuted labels;
            0 for neither. How high they get depends on the machine.
        classes: Compare this many target classes at a time, by random choices of them; allows K > C.
        balanced: Means over classes instead of over samples, for long-tailed classes.
        measures: Further measures at each found map, see `map_discrepancy`.
        temperature: Of the softmax that these measures are taken on.
        seed: Seed of every draw.
        threads: Worker threads; None for one a core. The result does not depend on it.
        progress: Called with a stage's name and the share of its work done since the last call.

    Returns:
        The estimates with chance, null and held-out values.

    Raises:
        InputError: When logits or labels are not as described.
        UsageError: When a number is out of range or a name is unknown.

    References:
        MoNA (ICML 2024), Definition 2.1, equations (10) and (11), Algorithm 2.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat([0, 1, 2], 40)
        >>> logits = rng.standard_normal((120, 200)).astype("float32")
        >>> logits[np.arange(120), labels + 5] += 3
        >>> result = estimate(logits, labels, null=9)
        >>> {name: round(estimate.held_out, 3) for name, estimate in result.estimates.items()}
        {'montecarlo': 0.233, 'assignment': 0.233, 'search': 0.017}
        >>> result.estimates["search"].solution.map
        (5, 6, 7)
    """
    _refuse_out_of_range(
        trials=(trials, 1), subsets=(subsets, 0), restarts=(restarts, 0), null=(null, 0), bootstrap=(bootstrap, 0),
        spread=(spread, 0), bound_seconds=(bound_seconds, 0), seed=(seed, 0), classes=(classes, 2),
    )  # fmt: skip
    if threads is not None and threads < 1:
        raise UsageError(f"expected threads of at least 1, got {threads}")
    names = _known(estimators)
    validate_measures(measures, temperature)
    array = validate_logits(logits)
    space = _checked_space(labels, len(array))
    if classes is not None:
        validate_k_way(space, classes, array.shape[1])
    codes = None if groups is None else _checked_groups(groups, len(array))[space.rows]
    if classes is None or classes > space.n_classes:
        validate_class_count(space.n_classes, array.shape[1])
    warm_up(names)
    data = EstimatorInputs(
        array, codes, names, space.n_classes, trials, subsets, restarts, seed, threads or os.cpu_count() or 1
    )  # fmt: skip
    used = space.balanced() if balanced else space
    measured = _Measures(np.asarray(logits), space, used.sample_weights, measures, temperature)
    run = _Run(data, used, measured, null, bootstrap, spread, progress)
    seconds: dict[str, float] = {}
    feasible = space.n_classes <= array.shape[1]
    estimates = run.estimates(seconds) if feasible else {}
    bounds = run.bounds(bound_seconds, seconds) if feasible else Bounds(None, None, None, None)
    chosen = k_way(data, space, classes, seconds=seconds) if classes else None
    held = next((e for e in estimates.values() if e.held_out is not None), None)
    return Discrepancy(
        n_samples=len(space),
        n_groups=None if codes is None else len(np.unique(codes)),
        n_source_classes=array.shape[1],
        n_target_classes=space.n_classes,
        n_unlabeled=len(array) - len(space),
        n_untested=len(space) - (run.tested if held else 0),
        chance=1 - 1 / space.n_classes,
        prior=float(1 - run.space.class_shares.max()),
        floor=run.space.floor,
        balanced=balanced,
        estimates=estimates,
        bounds=bounds,
        k_way=chosen,
        seed=seed,
        seconds=seconds,
        confusion=confusion_matrix(array, run.space, list(estimates.values())[-1].solution.map) if estimates else None,
    )


def _known(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in ESTIMATORS:
            raise unknown_name("estimator", name, ESTIMATORS)
    if not names:
        raise UsageError(f"expected at least one estimator of {', '.join(ESTIMATORS)}, got none")
    return tuple(name for name in ESTIMATORS if name in names)


def _refuse_out_of_range(**limits: tuple[float | None, float]) -> None:
    for name, (value, least) in limits.items():
        if value is not None and not value >= least:
            raise UsageError(f"expected {name} of at least {least}, got {value}")
        if value is not None and value >= LARGEST:
            raise UsageError(f"expected {name} below 2**62, got {value}")


def _checked_space(labels: ArrayLike, n_samples: int) -> LabelSpace:
    array = np.asarray(labels)
    if array.ndim and len(array) != n_samples:
        raise InputError(f"expected one label for each of {n_samples} rows of logits, got {len(array)}")
    space = label_space(array)
    if len(space) == 0:
        raise InputError(f"expected at least one sample with a label, got none of {n_samples}")
    return space


def _checked_groups(groups: ArrayLike, size: int) -> np.ndarray:
    codes = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if len(codes) != size:
        raise InputError(f"expected one group for each of {size} samples, got {len(codes)}")
    return codes


@dataclass(frozen=True)
class _Measures:
    """Other measures than 0-1: on the logits as they came, of which the estimators need only the order."""

    logits: np.ndarray
    space: LabelSpace
    sample_weights: np.ndarray
    names: Sequence[str]
    temperature: float

    def at(self, source_classes: Sequence[int]) -> dict[str, float]:
        """All measures under one map."""
        return {name: self._at(source_classes, name) for name in self.names}

    def _at(self, source_classes: Sequence[int], name: str) -> float:
        return map_discrepancy(
            self.logits, self.space, source_classes, name,
            temperature=self.temperature, sample_weights=self.sample_weights,
        )  # fmt: skip


@dataclass
class _Run:
    """The real labels, the permuted ones, and what is made of both."""

    data: EstimatorInputs
    space: LabelSpace
    measures: _Measures
    null: int
    bootstrap: int
    spread: int
    progress: Progress | None
    tested: int = 0

    def estimates(self, seconds: dict[str, float]) -> dict[str, Estimate]:
        """All wanted estimators, judged."""
        began = time.perf_counter()
        outcomes, own = run_chain(self.data, self.space, self.progress)
        seconds.update(own)
        if self.null * (time.perf_counter() - began) > LONG:
            log.info("about %.0f s for %d repeats with permuted labels; --null 0 leaves them out",
                     self.null * (time.perf_counter() - began), self.null)  # fmt: skip
        began = time.perf_counter()
        permuted = self._all_permuted()
        if self.null:
            seconds["null"] = time.perf_counter() - began
        began = time.perf_counter()
        spread = self._spread(outcomes) if self.spread and "montecarlo" in outcomes else None
        if spread is not None:
            seconds["spread"] = time.perf_counter() - began
        return {
            name: self._judge(outcome, [other[name] for other in permuted], spread if name == "montecarlo" else None)
            for name, outcome in outcomes.items()
        }

    def _permuted_space(self, repeat: int) -> LabelSpace:
        taken = permute_samples(self.space.label_set_ids, self.data.groups, self.data.seed, repeat)
        return self.space.with_labels_from(taken)

    def _all_permuted(self) -> list[dict[str, EstimatorResult]]:
        """One repeat a thread: nothing to wait for within a repeat, and the same numbers."""
        alone = replace(self.data, threads=1)
        if {"assignment", "search"} & set(self.data.names):
            alone.__dict__["ranking"] = self.data.ranking

        def run(repeat: int) -> dict[str, EstimatorResult]:
            outcomes, _ = run_chain(alone, self._permuted_space(repeat))
            if self.progress:
                self.progress("null", 1 / self.null)
            return outcomes

        with ThreadPoolExecutor(self.data.threads) as pool:
            return list(pool.map(run, range(self.null)))

    def _spread(self, outcomes: dict[str, EstimatorResult]) -> float:
        """Standard deviation of the Monte-Carlo minimum over seeds."""
        values = [outcomes["montecarlo"].solution.value]
        for step in range(1, self.spread + 1):
            other = replace(self.data, names=("montecarlo",), halves=False, seed=self.data.seed + (step << 32))
            values.append(run_chain(other, self.space)[0]["montecarlo"].solution.value)
        return float(np.std(values, ddof=1))

    def _judge(self, outcome: EstimatorResult, permuted: list[EstimatorResult], spread: float | None) -> Estimate:
        found = outcome.solution
        held = outcome.held_out
        floor = self.space.floor
        null = summarize_null(found.value, [other.solution.value for other in permuted]) if permuted else None
        tested = [other.held_out.value for other in permuted if other.held_out]
        self.tested = max(self.tested, len(held.tested) if held else 0)
        above = null.mean - floor if null else 0.0
        return Estimate(
            solution=found,
            null=null,
            ratio_to_null=(found.value - floor) / above if above > 0 else None,
            held_out=held.value if held else None,
            held_out_interval=self._interval(held) if held and self.bootstrap else None,
            held_out_null=summarize_null(held.value, tested) if held and tested else None,
            spread=spread,
            measures=self.measures.at(found.map),
        )

    def _interval(self, held: HeldOut) -> tuple[float, float]:
        if self.data.groups is None and self.space.weights is None:
            return wilson_interval(held.value, len(held.tested))
        groups = None if self.data.groups is None else self.data.groups[held.tested]
        return mean_interval(held.terms, held.weights, groups, resamples=self.bootstrap, seed=self.data.seed)

    def bounds(self, seconds_each: float, seconds: dict[str, float]) -> Bounds:
        """Upper bound, and lower bounds for the real labels and for permuted ones."""
        began = time.perf_counter()
        threads = self.data.threads
        upper = upper_bound(self.data.logits, self.space)
        if not seconds_each or self.space.weights is not None:
            if seconds_each:
                log.warning("the lower bound is for single labels that weigh the same; left out")
            return Bounds(None, upper, None, None)
        spaces = self.space, self._permuted_space(0)
        real, permuted = (
            lower_bound(self.data.logits, each.labels, each.n_classes, seconds=seconds_each, threads=threads)
            for each in spaces
        )
        seconds["bounds"] = time.perf_counter() - began
        return Bounds(real.value, upper, permuted.value, real.groups)
