"""Statistical inference for the estimators: held-out errors, permutation tests, spread and bounds."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from modgap.discrepancy.bounds import lower_bound, upper_bound
from modgap.discrepancy.estimator_chain import EstimatorInputs, Solution, fit_search_maps, run_chain
from modgap.discrepancy.held_out import fold_confusion, fold_errors, fold_predictions
from modgap.discrepancy.held_out_problem import HeldOutProblem, held_out_problem
from modgap.discrepancy.learning_curve import LearningCurvePoint, learning_curve
from modgap.discrepancy.leep import soft_maps_and_leep_errors
from modgap.discrepancy.measure_inputs import MeasureInputs
from modgap.discrepancy.permutation_test import (
    ANNOUNCED_SECONDS,
    hard_permutation_test,
    permuted_search_error,
    soft_permutation_test,
)
from modgap.discrepancy.probabilities import Probabilities, matched_temperature
from modgap.discrepancy.result import Bounds, Estimate, TestedSamples
from modgap.discrepancy.soft import Labeling, SoftMap, label_parts, soft_errors, soft_fold_errors, soft_value
from modgap.errors import InputError
from modgap.label_space import LabelSpace
from modgap.progress import Progress
from modgap.resources import describe_threads
from modgap.statistics.intervals import SampleErrors, estimate_mean
from modgap.statistics.permutations import are_ordered, count_shifts, permute_merged_groups, smallest_p_value
from modgap.statistics.splits import one_fold_of_all
from modgap.statistics.weights import entry_weights, integer_weights

__all__ = ["Inference", "InferenceOptions"]

ORDERED = (
    "Samples that follow each other in a group are alike, in their labels and in the source's outputs, so the p-value "
    'of shuffled labels is too low. Pass `permutations_by="shifts"` if the samples are in the order of time.'
)
"""Warning if labels are shuffled inside groups whose samples are not exchangeable."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class InferenceOptions:
    """Options of the inference.

    Attributes:
        names: Names of the requested estimators, in the order in which they run.
        weighting: What counts equally in an error: `samples`, `groups` or `classes`.
        splits: Number of repeated splits; 0 for no held-out values.
        per_class: Number of samples a class to fit on; None for halves.
        permutations: Largest number of permutations; 0 for no permutation test.
        permutations_for: Estimator that the permutation test is made with: `soft`, `search` or `montecarlo`.
        permutations_by: How labels move inside a group of several classes: `shuffle` or `shifts`.
        spread: Number of further seeds of the Monte-Carlo trials; 0 for no spread.
        curve: True to compute a learning curve where it is cheap.
    """

    names: tuple[str, ...]
    weighting: str
    splits: int
    per_class: int | None
    permutations: int
    permutations_for: str
    permutations_by: str
    spread: int
    curve: bool


@dataclass
class Inference:
    """The estimators on the real labels and on permuted ones, and the comparison of both.

    Attributes:
        inputs: Logits and options of the 0-1 estimators.
        space: Labels of the N samples.
        groups: Number of each sample's group, shape (N,); None if samples are independent.
        measures: Inputs of the further distance measures, with the user's logits.
        options: Options of the inference.
        progress: Called with the name of a stage and the share of its work done since the last call.
        merged_groups: Number of each sample's merged group, if copies of a sample merge groups, shape (N,); else None.
        seconds: Wall time by stage, in seconds.
    """

    inputs: EstimatorInputs
    space: LabelSpace
    groups: np.ndarray | None
    measures: MeasureInputs
    options: InferenceOptions
    progress: Progress | None
    merged_groups: np.ndarray | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, SampleErrors] = field(default_factory=dict, init=False)
    held_out_confusion: np.ndarray | None = field(default=None, init=False)
    permuted_error: float | None = field(default=None, init=False)
    matched_temperature: float | None = field(default=None, init=False)
    leep: SampleErrors | None = field(default=None, init=False)

    @cached_property
    def problem(self) -> HeldOutProblem | None:
        """The samples and classes that can be tested; None if there are not two such classes."""
        options = self.options
        return held_out_problem(
            self.inputs,
            self.space,
            self.groups,
            options.weighting,
            options.splits,
            options.per_class,
            options.permutations_by,
            self.merged_groups,
        )

    @cached_property
    def is_ordered(self) -> bool:
        """True if samples of a group follow each other in time, so that labels must not be shuffled inside it."""
        if self.groups is None:
            return False
        return are_ordered(self.space.label_set_ids, self.groups, self.inputs.logits, self.space.rows)

    @cached_property
    def probabilities(self) -> Probabilities:
        """Softmax of all labeled samples."""
        return Probabilities(self.measures.logits, self.space.rows, 1.0, self.inputs.threads)

    @cached_property
    def tested_probabilities(self) -> Probabilities:
        """Softmax of the samples that can be tested."""
        assert self.problem is not None
        if len(self.problem.samples) == len(self.space):
            return self.probabilities
        return replace(self.probabilities, rows=self.problem.labeling.space.rows)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def _report(self, stage: str, share: float) -> None:
        if self.progress:
            self.progress(stage, share)

    @property
    def uses_soft(self) -> bool:
        """True if the soft error is computed, because it was requested or because the permutation test uses it."""
        tests_soft = self.options.permutations > 0 and self.options.permutations_for == "soft"
        return "soft" in self.options.names or tests_soft

    def compute_errors(self) -> None:
        """Compute the held-out errors alone, of the soft map and of the search, as far as they were requested."""
        soft_maps = self._soft_errors() if self.problem and self.uses_soft else None
        if self.problem and "search" in self.options.names:
            self._search_errors(soft_maps)

    def estimates(self) -> dict[str, Estimate]:
        """Run all requested estimators and return their estimates by name."""
        self.compute_errors()
        solutions = self._solutions()
        estimates = {name: self._estimate(name, solution) for name, solution in solutions.items()}
        if self.problem and self.options.permutations:
            self._warn_of_order()
            with self._stage("permutations"):
                self._add_null(estimates, solutions)
        if self.options.spread and "montecarlo" in estimates:
            with self._stage("spread"):
                spread = self._montecarlo_spread(solutions["montecarlo"].value)
            estimates["montecarlo"] = replace(estimates["montecarlo"], spread=spread)
        return estimates

    def _warn_of_order(self) -> None:
        """Warn if shuffled labels give a p-value that is too low, or if there are few shifts to draw from."""
        if self.options.permutations_by == "shuffle":
            if self.is_ordered:
                log.warning(ORDERED)
            return
        n_shifts = count_shifts(self.space.label_set_ids, self.groups)
        if n_shifts <= self.options.permutations:
            log.warning(
                "The groups allow only %.0f different shifts of their labels, so the p-value can hardly be below %.2g.",
                n_shifts,
                smallest_p_value(int(n_shifts) - 1),
            )

    def _soft_errors(self) -> np.ndarray:
        """Compute the soft held-out errors, their matched version and LEEP; return the maps of the folds (J, K)."""
        assert self.problem is not None
        labeling = self.problem.labeling
        probabilities = self.tested_probabilities
        with self._stage("soft"):
            soft_average = self.problem.new_average()
            leep_average = self.problem.new_average()
            maps = []
            for part in label_parts(probabilities, labeling):
                part_maps, losses = soft_maps_and_leep_errors(probabilities, part)
                leep_average.add(losses, part.splits)
                del losses  # else they would be kept beside the soft errors
                soft_average.add(soft_fold_errors(probabilities, part, part_maps), part.splits)
                maps.append(part_maps)
            self.errors["soft"] = self.problem.result(soft_average)
            self.leep = self.problem.result(leep_average)
            self._report("soft", 0.5)
            try:
                temperature = matched_temperature(self.probabilities, self.space.n_classes)
            except InputError:
                temperature = None
            self.matched_temperature = temperature
            if temperature is not None:
                matched = probabilities.at_temperature(temperature)
                parts = ((part.splits, soft_errors(matched, part)[0]) for part in label_parts(matched, labeling))
                self.errors["soft-matched"] = self.problem.average_parts(parts)
            self._report("soft", 0.5)
        return np.concatenate(maps)

    def _solutions(self) -> dict[str, Solution | SoftMap]:
        """Return the solution of each estimator on all samples."""
        solutions: dict[str, Solution | SoftMap] = {}
        if self.uses_soft:
            with self._stage("soft"):
                solutions["soft"] = self._soft_solution(1.0)
                if self.matched_temperature is not None:
                    solutions["soft-matched"] = self._soft_solution(self.matched_temperature)
        if not self.inputs.names:
            return solutions
        starts = [np.asarray(solution.map) for name, solution in solutions.items() if name == "soft"]
        weights = self._integer_weights()
        chain, seconds = run_chain(self.inputs, self.space, weights, starts, self.progress)
        self.seconds.update(seconds)
        return {**chain, **solutions}

    def _integer_weights(self) -> np.ndarray | None:
        return integer_weights(entry_weights(self.space, self.groups, self.options.weighting))

    def _soft_solution(self, temperature: float) -> SoftMap:
        probabilities = self.probabilities
        if temperature != 1.0:
            probabilities = probabilities.at_temperature(temperature)
        splits = one_fold_of_all(len(self.space), self.inputs.seed)
        labeling = Labeling(self.space, entry_weights(self.space, self.groups, self.options.weighting), splits)
        errors, maps = soft_errors(probabilities, labeling)
        return SoftMap(soft_value(errors, labeling), tuple(int(c) for c in maps[0]), temperature)

    def _search_errors(self, soft_maps: np.ndarray | None) -> None:
        """Compute the held-out errors of the search, and their confusion matrix."""
        assert self.problem is not None
        labeling = self.problem.labeling
        with self._stage("held-out search"):
            maps = fit_search_maps(
                self.problem.inputs, labeling, soft_maps, self._search_progress(len(labeling.splits))
            )
            predicted = fold_predictions(self.inputs.logits, labeling, maps, self.inputs.threads)
            folds = zip(labeling.parts(1), predicted, strict=True)
            self.errors["search"] = self.problem.average_parts((f.splits, fold_errors(f, p[None])) for f, p in folds)
            self._set_confusion(predicted)

    def _search_progress(self, n_folds: int) -> Callable[[float], None]:
        """Return a function that reports progress, and announces a long computation after the first fold."""
        began = time.perf_counter()
        n_done = [0]

        def report(share: float) -> None:
            n_done[0] += 1
            expected = (time.perf_counter() - began) * n_folds / self.inputs.threads
            if n_done[0] == 1 and expected > ANNOUNCED_SECONDS:
                log.info(
                    'The search on %d parts of the samples takes about %.0f s %s. Pass `estimators="soft"` to skip it.',
                    n_folds,
                    expected,
                    describe_threads(self.inputs.threads),
                )
            self._report("held-out search", share)

        return report

    def _set_confusion(self, predicted: np.ndarray) -> None:
        assert self.problem is not None
        matrix = np.zeros((self.space.n_classes, self.space.n_classes))
        classes = self.problem.classes
        matrix[np.ix_(classes, classes)] = fold_confusion(self.problem.labeling, predicted)
        self.held_out_confusion = matrix

    def _estimate(self, name: str, solution: Solution | SoftMap) -> Estimate:
        errors = self.errors.get(name)
        mean = estimate_mean(errors) if errors else None
        return Estimate(
            solution=solution,
            held_out=mean.value if mean else None,
            held_out_interval=mean.interval if mean else None,
            held_out_se=mean.standard_error if mean else None,
            measures=self.measures.values(solution.map),
        )

    def _add_null(self, estimates: dict[str, Estimate], solutions: dict[str, Solution | SoftMap]) -> None:
        """Add the null distribution to the estimate of the estimator that the permutation test is made with."""
        assert self.problem is not None
        name = self.options.permutations_for
        permutations = self.options.permutations

        def report(drawn: int) -> None:
            self._report("permutations", drawn / permutations)

        if name == "soft":
            soft = soft_permutation_test(self.problem, self.tested_probabilities, permutations, report)
            searched = None
            if "search" in self.options.names:
                searched = permuted_search_error(self.problem, soft.null.repeats)
            self.permuted_error = soft.permuted_error if searched is None else searched
            estimates["soft"] = replace(estimates["soft"], held_out_null=soft.null)
            return
        value = solutions[name].value
        hard = hard_permutation_test(
            name, self.problem, self.inputs, self.space, (self.groups, self.merged_groups), value, permutations, report
        )
        above_floor = hard.in_sample_null.mean - self.space.floor
        held_out = estimates[name].held_out
        estimates[name] = replace(
            estimates[name],
            held_out=hard.value if held_out is None else held_out,
            held_out_null=hard.null,
            in_sample_null=hard.in_sample_null,
            in_sample_ratio_to_null=(value - self.space.floor) / above_floor if above_floor > 0 else None,
        )

    def _montecarlo_spread(self, value: float) -> float:
        """Return the standard deviation of the Monte-Carlo minimum over seeds."""
        values = [value]
        for step in range(1, self.options.spread + 1):
            inputs = replace(self.inputs, names=("montecarlo",), seed=self.inputs.seed + (step << 32))
            values.append(run_chain(inputs, self.space)[0]["montecarlo"].value)
        return float(np.std(values, ddof=1))

    def curve(self) -> tuple[LearningCurvePoint, ...]:
        """Return the learning curve, or nothing if it was not requested or would take long."""
        if not self.options.curve or not self.problem or not self.uses_soft:
            return ()
        labeling = self.problem.labeling
        with self._stage("learning curve"):
            return learning_curve(
                self.tested_probabilities,
                labeling.space,
                labeling.weights,
                self.problem.split_groups,
                self.options.splits,
                self.inputs.seed,
                self.problem.strata,
            )

    def tested_samples(self) -> TestedSamples | None:
        """Return the samples that were tested, with their errors."""
        if not self.problem or not self.errors:
            return None
        space = self.problem.labeling.space
        labels = self.problem.classes[space.rarest_labels]
        groups = None if self.groups is None else self.groups[self.problem.samples]
        multi_label = len(space.labels) > len(space)
        return TestedSamples(space.rows, labels, groups, dict(self.errors), self.leep, multi_label)

    def bounds(self, bound_seconds: float) -> Bounds:
        """Compute the upper bound, and the lower bounds for the real and for permuted labels.

        Args:
            bound_seconds: Time limit of each lower bound, in seconds; 0 for no lower bounds.
        """
        weights = entry_weights(self.space, self.groups, self.options.weighting)
        of_samples = np.bincount(self.space.entry_samples, weights)
        # The bound counts every sample once, so it says nothing about an error in which samples differ in weight.
        upper = upper_bound(self.inputs.logits, self.space) if np.allclose(of_samples, of_samples[0]) else None
        if not bound_seconds:
            return Bounds(None, upper, None, None)
        if integer_weights(weights) is not None or self.space.weights is not None:
            log.warning(
                "The lower bound is skipped. It needs one label for each sample and samples of equal weight, so it "
                "does not apply to multi-label data or to weights that differ."
            )
            return Bounds(None, upper, None, None)
        donors = permute_merged_groups(
            self.space.label_set_ids,
            self.groups,
            self.merged_groups,
            self.inputs.seed,
            0,
            self.options.permutations_by,
        )
        logits, threads = self.inputs.logits, self.inputs.threads
        with self._stage("bounds"):
            real, permuted = (
                lower_bound(logits, space.labels, space.n_classes, seconds=bound_seconds, threads=threads)
                for space in (self.space, self.space.with_labels_from(donors))
            )
        return Bounds(real.value, upper, permuted.value, real.groups)
