"""Statistical inference for the estimators: null distributions, held-out intervals, spread and bounds."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from modgap.discrepancy.bounds import lower_bound, upper_bound
from modgap.discrepancy.distances import map_discrepancy
from modgap.discrepancy.estimator_chain import EstimatorInputs, EstimatorResult, HeldOut, run_chain
from modgap.discrepancy.held_out import permute_samples, summarize_null, wilson_interval
from modgap.discrepancy.predictions import held_out_confusion
from modgap.discrepancy.result import Bounds, Estimate
from modgap.label_space import LabelSpace
from modgap.progress import Progress
from modgap.statistics.bootstrap import mean_interval

__all__ = ["Inference", "MeasureInputs"]

ANNOUNCED_SECONDS = 20.0
"""Expected duration from which permutations are announced before they run, in seconds."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class MeasureInputs:
    """Inputs of the distance measures other than 0-1.

    Attributes:
        logits: The user's logits, shape (N', C). The estimators need only their order, but the measures need their
            values.
        space: Labels of the N samples.
        sample_weights: Weight of each sample, shape (N,).
        names: Names of the measures.
        temperature: Temperature of the softmax.
    """

    logits: np.ndarray
    space: LabelSpace
    sample_weights: np.ndarray
    names: Sequence[str]
    temperature: float

    def values(self, source_classes: Sequence[int]) -> dict[str, float]:
        """Return the value of each measure under one map (K,), by name."""
        return {
            name: map_discrepancy(
                self.logits,
                self.space,
                source_classes,
                name,
                temperature=self.temperature,
                sample_weights=self.sample_weights,
            )
            for name in self.names
        }


@dataclass
class Inference:
    """The estimators on the real labels and on permuted ones, and the comparison of both.

    Attributes:
        inputs: Logits and options of the estimators.
        space: Labels of the N samples, balanced if that was requested.
        measures: Inputs of the further distance measures.
        null: Number of permutations; 0 for no null distribution.
        bootstrap: Number of bootstrap resamples; 0 for no interval.
        spread: Number of further seeds of the Monte-Carlo trials; 0 for no spread.
        progress: Called with the name of a stage and the share of its work done since the last call.
        n_tested: Number of samples that a held-out value tests; set by `estimates`.
        held_out_confusion: Confusion matrix of the last estimator's held-out predictions, shape (K, K); set by
            `estimates`, None if no sample could be tested.
    """

    inputs: EstimatorInputs
    space: LabelSpace
    measures: MeasureInputs
    null: int
    bootstrap: int
    spread: int
    progress: Progress | None
    n_tested: int = field(default=0, init=False)
    held_out_confusion: np.ndarray | None = field(default=None, init=False)

    def estimates(self, seconds: dict[str, float]) -> dict[str, Estimate]:
        """Run all requested estimators and return their estimates by name.

        Args:
            seconds: Receives the wall time by stage, in seconds.
        """
        began = time.perf_counter()
        results, chain_seconds = run_chain(self.inputs, self.space, self.progress)
        seconds.update(chain_seconds)
        self._announce_permutations(time.perf_counter() - began)
        began = time.perf_counter()
        permuted = self._run_permutations()
        if self.null:
            seconds["null"] = time.perf_counter() - began
        spread = None
        if self.spread and "montecarlo" in results:
            began = time.perf_counter()
            spread = self._montecarlo_spread(results["montecarlo"])
            seconds["spread"] = time.perf_counter() - began
        self.held_out_confusion = self._held_out_confusion(list(results.values())[-1].held_out)
        return {
            name: self._estimate(result, [other[name] for other in permuted], spread if name == "montecarlo" else None)
            for name, result in results.items()
        }

    def _held_out_confusion(self, held_out: HeldOut | None) -> np.ndarray | None:
        if held_out is None:
            return None
        # The labels without balancing, so that a sample counts as one sample in every class.
        return held_out_confusion(
            self.inputs.logits, self.measures.space, held_out.tested, held_out.halves, held_out.maps
        )

    def _announce_permutations(self, seconds_per_run: float) -> None:
        expected = self.null * seconds_per_run
        if expected > ANNOUNCED_SECONDS:
            log.info(
                "The %d runs with permuted labels take about %.0f s. Pass --null 0 to skip them.", self.null, expected
            )

    def _permuted_space(self, repeat: int) -> LabelSpace:
        donors = permute_samples(self.space.label_set_ids, self.inputs.groups, self.inputs.seed, repeat)
        return self.space.with_labels_from(donors)

    def _run_permutations(self) -> list[dict[str, EstimatorResult]]:
        """Run the estimators on permuted labels, one permutation on each thread.

        The threads do not wait for each other within a permutation, and the numbers are the same as with one thread.
        """
        inputs = replace(self.inputs, threads=1)
        if {"assignment", "search"} & set(self.inputs.names):
            inputs.share_ranking_of(self.inputs)

        def run(repeat: int) -> dict[str, EstimatorResult]:
            results, _ = run_chain(inputs, self._permuted_space(repeat))
            if self.progress:
                self.progress("null", 1 / self.null)
            return results

        with ThreadPoolExecutor(self.inputs.threads) as pool:
            return list(pool.map(run, range(self.null)))

    def _montecarlo_spread(self, result: EstimatorResult) -> float:
        """Return the standard deviation of the Monte-Carlo minimum over seeds."""
        values = [result.solution.value]
        for step in range(1, self.spread + 1):
            seed = self.inputs.seed + (step << 32)
            inputs = replace(self.inputs, names=("montecarlo",), halves=False, seed=seed)
            values.append(run_chain(inputs, self.space)[0]["montecarlo"].solution.value)
        return float(np.std(values, ddof=1))

    def _estimate(self, result: EstimatorResult, permuted: list[EstimatorResult], spread: float | None) -> Estimate:
        """Compare one estimator's result with its results on permuted labels."""
        solution = result.solution
        held_out = result.held_out
        null = summarize_null(solution.value, [other.solution.value for other in permuted]) if permuted else None
        permuted_held_out = [other.held_out.value for other in permuted if other.held_out]
        self.n_tested = max(self.n_tested, len(held_out.tested) if held_out else 0)
        null_above_floor = null.mean - self.space.floor if null else 0.0
        return Estimate(
            solution=solution,
            null=null,
            ratio_to_null=(solution.value - self.space.floor) / null_above_floor if null_above_floor > 0 else None,
            held_out=held_out.value if held_out else None,
            held_out_interval=self._interval(held_out) if held_out and self.bootstrap else None,
            held_out_null=(
                summarize_null(held_out.value, permuted_held_out) if held_out and permuted_held_out else None
            ),
            spread=spread,
            measures=self.measures.values(solution.map),
        )

    def _interval(self, held_out: HeldOut) -> tuple[float, float]:
        """Return the 95 % interval of a held-out value: Wilson's for independent 0-1 terms, else the bootstrap's."""
        if self.inputs.groups is None and self.space.weights is None:
            # The terms are 0 or 1 and weigh the same, so that their sum is the number of errors.
            return wilson_interval(round(held_out.terms.sum()), len(held_out.tested))
        groups = None if self.inputs.groups is None else self.inputs.groups[held_out.tested]
        return mean_interval(held_out.terms, held_out.weights, groups, resamples=self.bootstrap, seed=self.inputs.seed)

    def bounds(self, bound_seconds: float, seconds: dict[str, float]) -> Bounds:
        """Compute the upper bound, and the lower bounds for the real and for permuted labels.

        Args:
            bound_seconds: Time limit of each lower bound, in seconds; 0 for no lower bounds.
            seconds: Receives the wall time of the bounds, in seconds.
        """
        upper = upper_bound(self.inputs.logits, self.space)
        if not bound_seconds:
            return Bounds(None, upper, None, None)
        if self.space.weights is not None:
            log.warning(
                "The lower bound is skipped. It needs one label for each sample and samples of equal weight, so it "
                "does not apply to multi-label or balanced data."
            )
            return Bounds(None, upper, None, None)
        began = time.perf_counter()
        real, permuted = (
            lower_bound(
                self.inputs.logits,
                space.labels,
                space.n_classes,
                seconds=bound_seconds,
                threads=self.inputs.threads,
            )
            for space in (self.space, self._permuted_space(0))
        )
        seconds["bounds"] = time.perf_counter() - began
        return Bounds(real.value, upper, permuted.value, real.groups)
