"""Statistical inference for the estimators: held-out errors, permutation tests and spread.

`modgap.discrepancy.estimate` calls the steps in this order: `compute_held_out`, `compute_estimates`, which also makes
the permutation test, and `tested_samples`.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from modgap.discrepancy.distances import map_discrepancy
from modgap.discrepancy.estimator_chain import EstimatorInputs, Solution, fit_search_maps, run_chain, timed
from modgap.discrepancy.held_out import HeldOutProblem, fold_confusion, fold_errors, fold_predictions, held_out_problem
from modgap.discrepancy.labeled_samples import LabeledSamples
from modgap.discrepancy.permutation_test import (
    ANNOUNCED_SECONDS,
    hard_permutation_test,
    permuted_search_error,
    soft_permutation_test,
)
from modgap.discrepancy.probabilities import Probabilities, matched_temperature
from modgap.discrepancy.result import Estimate, TestedSamples
from modgap.discrepancy.soft import (
    Labeling,
    SoftMap,
    label_parts,
    leep_influences,
    soft_errors,
    soft_fold_errors,
    soft_maps_and_leep_errors,
    soft_value,
)
from modgap.errors import InputError, Progress
from modgap.labels.label_space import LabelSpace
from modgap.process.resources import describe_threads
from modgap.statistics.intervals import ErrorAverage, SampleErrors, estimate_mean
from modgap.statistics.permutations import are_ordered, count_shifts, smallest_p_value
from modgap.statistics.splits import one_fold_of_all
from modgap.statistics.weights import integer_weights

ORDERED = (
    "Samples that follow each other in a group are alike, in their labels and in the source's outputs, so the p-value "
    'of shuffled labels is too low. Pass `permutations_by="shifts"` if the samples are in the order of time.'
)
"""Warning if labels are shuffled inside groups whose samples are not exchangeable."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class InferenceTask:
    """Logits, labels and groups with the options of the inference.

    Attributes:
        inputs: Logits for the 0-1 estimators, which need only their order in each row, and options of the estimators.
        logits: The user's logits for the softmax, shape (N', C). A sample without a label has a row here too.
        labeled: Labels and groups of the N samples with a label.
        splits: Number of repeated splits; 0 for no held-out values.
        per_class: Number of samples of each class to fit on; None to fit on halves.
        permutations: Largest number of permutations; 0 for no permutation test.
        permutations_for: Estimator that the permutation test is made with: `soft`, `search` or `montecarlo`.
        spread: Number of further seeds of the Monte-Carlo trials; 0 for no spread.
        measures: Names of further distance measures.
        temperature: Temperature of their softmax.
        progress: Called with the name of a stage and the share of its work done since the last call.
        seconds: Wall time of each stage so far, in seconds, by its name. The steps add theirs while they run.
    """

    inputs: EstimatorInputs
    logits: np.ndarray
    labeled: LabeledSamples
    splits: int
    per_class: int | None
    permutations: int = 0
    permutations_for: str = "soft"
    spread: int = 0
    measures: Sequence[str] = ()
    temperature: float = 1.0
    progress: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def space(self) -> LabelSpace:
        """Labels of the N samples."""
        return self.labeled.space

    @cached_property
    def problem(self) -> HeldOutProblem | None:
        """The samples and classes that can be tested; None without splits, or with fewer than two such classes."""
        return held_out_problem(self.inputs, self.labeled, self.splits, self.per_class)

    @cached_property
    def is_ordered(self) -> bool:
        """True if samples of a group follow each other in time, so that labels must not be shuffled inside it."""
        if self.labeled.groups is None:
            return False
        return are_ordered(self.space.label_set_ids, self.labeled.groups, self.inputs.logits, self.space.rows)

    @cached_property
    def probabilities(self) -> Probabilities:
        """Softmax of all labeled samples at temperature 1, which `temperature` does not change."""
        return Probabilities(self.logits, self.space.rows, 1.0, self.inputs.threads)

    def tested_probabilities(self, problem: HeldOutProblem) -> Probabilities:
        """Return the softmax of the samples that can be tested."""
        if len(problem.samples) == len(self.space):
            return self.probabilities
        return replace(self.probabilities, rows=problem.labeling.space.rows)

    @property
    def uses_soft(self) -> bool:
        """True if the soft error is computed, because it was requested or because the permutation test uses it."""
        tests_soft = self.permutations > 0 and self.permutations_for == "soft"
        return "soft" in self.inputs.names or tests_soft

    def report(self, stage: str, share: float) -> None:
        """Report the share of a stage's work that was done since the last call."""
        if self.progress:
            self.progress(stage, share)


@dataclass(frozen=True)
class HeldOut:
    """Held-out errors of the samples.

    Attributes:
        errors: Errors of the samples by the name of the estimator.
        leep: Minus the log-probability of each sample's label less the sample's influence on that of the others, in
            nats, whose mean is minus LEEP; None if the soft error was not computed.
        matched_temperature: Temperature of `soft-matched`, see `modgap.discrepancy.probabilities.matched_temperature`;
            None if there is none, as with constant logits.
        confusion: Confusion matrix of the search: true classes by predicted classes, shape (K, K). None if the search
            was not tested.
    """

    errors: dict[str, SampleErrors] = field(default_factory=dict)
    leep: SampleErrors | None = None
    matched_temperature: float | None = None
    confusion: np.ndarray | None = None


def compute_held_out(task: InferenceTask) -> HeldOut:
    """Compute the held-out errors of the soft map and of the search, as far as they were requested."""
    if not task.problem:
        return HeldOut()
    held_out, soft_maps = _soft_errors(task, task.problem) if task.uses_soft else (HeldOut(), None)
    if "search" not in task.inputs.names:
        return held_out
    problem, labeling = task.problem, task.problem.labeling
    with timed(task.seconds, "held-out search"):
        maps = fit_search_maps(problem.inputs, labeling, soft_maps, _search_progress(task, len(labeling.splits)))
        predicted = fold_predictions(task.inputs.logits, labeling, maps, task.inputs.threads)
        folds = zip(labeling.parts(1), predicted, strict=True)
        errors = problem.average_parts((fold.splits, fold_errors(fold, one[None])) for fold, one in folds)
        confusion = np.zeros((task.space.n_classes, task.space.n_classes))
        confusion[np.ix_(problem.classes, problem.classes)] = fold_confusion(labeling, predicted)
    return replace(held_out, errors={**held_out.errors, "search": errors}, confusion=confusion)


def _soft_errors(task: InferenceTask, problem: HeldOutProblem) -> tuple[HeldOut, np.ndarray]:
    """Return the held-out errors of `soft` and `soft-matched`, those of LEEP, and the soft map of each fold, (J, K)."""
    labeling = problem.labeling
    probabilities = task.tested_probabilities(problem)
    with timed(task.seconds, "soft"):
        soft_average = problem.new_average()
        leep_average = problem.new_average()
        maps = []
        for part in label_parts(probabilities, labeling):
            part_maps, losses = soft_maps_and_leep_errors(probabilities, part)
            leep_average.add(losses, part.splits)
            del losses  # else they would be kept beside the soft errors
            soft_average.add(soft_fold_errors(probabilities, part, part_maps), part.splits)
            maps.append(part_maps)
        errors = {"soft": _with_jackknife(problem, probabilities, problem.result(soft_average))}
        leep = problem.result(leep_average)
        tested = leep.tested
        influences = leep_influences(probabilities, labeling)
        influences -= np.average(influences[tested], weights=leep.weights[tested])
        task.report("soft", 0.5)
        try:
            temperature = matched_temperature(task.probabilities, task.space.n_classes)
        except InputError:
            temperature = None
        if temperature is not None:
            matched = replace(probabilities, temperature=temperature)
            parts = ((part.splits, soft_errors(matched, part)[0]) for part in label_parts(matched, labeling))
            errors["soft-matched"] = _with_jackknife(problem, matched, problem.average_parts(parts))
        task.report("soft", 0.5)
    return HeldOut(errors, replace(leep, errors=leep.errors - influences), temperature), np.concatenate(maps)


def _with_jackknife(problem: HeldOutProblem, probabilities: Probabilities, errors: SampleErrors) -> SampleErrors:
    """Return soft errors with the mean errors of maps that are fitted without each block of groups."""
    labeling = problem.without_blocks
    if labeling is None:
        return errors
    average = ErrorAverage(labeling.sample_weights, labeling.splits.n_repeats)
    for part in label_parts(probabilities, labeling):
        average.add(soft_errors(probabilities, part)[0], part.splits)
    without = average.result(errors.units, errors.strata, errors.split_seed).averages
    return replace(errors, without=without) if len(without) > 1 else errors


def _search_progress(task: InferenceTask, n_folds: int) -> Callable[[float], None]:
    """Return a function that reports progress, and announces a long computation after the first fold."""
    began = time.perf_counter()
    n_done = [0]

    def report(share: float) -> None:
        n_done[0] += 1
        expected = (time.perf_counter() - began) * n_folds / task.inputs.threads
        if n_done[0] == 1 and expected > ANNOUNCED_SECONDS:
            log.info(
                'The search on %d parts of the samples takes about %.0f s %s. Pass `estimators="soft"` to skip it.',
                n_folds,
                expected,
                describe_threads(task.inputs.threads),
            )
        task.report("held-out search", share)

    return report


def compute_estimates(task: InferenceTask, held_out: HeldOut) -> tuple[dict[str, Estimate], float | None]:
    """Run all requested estimators, the permutation test, and further seeds of the Monte-Carlo trials.

    Returns:
        The estimates by name, and the mean held-out 0-1 error with permuted labels, None without a test of `soft`.
    """
    solutions = _solutions(task, held_out)
    estimates = {name: _estimate(task, solution, held_out.errors.get(name)) for name, solution in solutions.items()}
    permuted_error = None
    if task.problem and task.permutations:
        _warn_of_order(task)
        name = task.permutations_for
        with timed(task.seconds, "permutations"):
            estimates[name], permuted_error = _with_null(task, task.problem, estimates[name])
    if task.spread and "montecarlo" in estimates:
        values = [solutions["montecarlo"].value]
        with timed(task.seconds, "spread"):
            for step in range(1, task.spread + 1):
                inputs = replace(task.inputs, names=("montecarlo",), seed=task.inputs.seed + (step << 32))
                values.append(run_chain(inputs, task.space)[0]["montecarlo"].value)
        estimates["montecarlo"] = replace(estimates["montecarlo"], spread=float(np.std(values, ddof=1)))
    return estimates, permuted_error


def _solutions(task: InferenceTask, held_out: HeldOut) -> dict[str, Solution | SoftMap]:
    """Return the solution of each estimator on all samples, by name, also that of `soft` if only a test uses it."""
    solutions: dict[str, Solution | SoftMap] = {}
    if task.uses_soft:
        with timed(task.seconds, "soft"):
            solutions["soft"] = _soft_solution(task, 1.0)
            if held_out.matched_temperature is not None:
                solutions["soft-matched"] = _soft_solution(task, held_out.matched_temperature)
    if task.inputs.names == ("soft",):
        return solutions
    # The search also starts from the soft map.
    starts = [np.asarray(solutions["soft"].map)] if "soft" in solutions else []
    chain, seconds = run_chain(task.inputs, task.space, integer_weights(task.labeled.weights), starts, task.progress)
    task.seconds.update(seconds)
    return {**chain, **solutions}


def _soft_solution(task: InferenceTask, temperature: float) -> SoftMap:
    """Return the soft map that is fitted to all samples, with its in-sample error, at a temperature of the softmax."""
    probabilities = task.probabilities
    if temperature != 1.0:
        probabilities = replace(probabilities, temperature=temperature)
    labeling = Labeling(task.space, task.labeled.weights, one_fold_of_all(len(task.space), task.inputs.seed))
    errors, maps = soft_errors(probabilities, labeling)
    return SoftMap(soft_value(errors, labeling), tuple(int(c) for c in maps[0]), temperature)


def _estimate(task: InferenceTask, solution: Solution | SoftMap, errors: SampleErrors | None) -> Estimate:
    """Return an estimate without the errors of permuted labels; `errors` are its held-out errors, or None."""
    mean, space = estimate_mean(errors) if errors else None, task.space
    weights = np.bincount(space.entry_samples, task.labeled.weights, len(space))
    return Estimate(
        solution=solution,
        held_out=mean.value if mean else None,
        held_out_interval=mean.interval if mean else None,
        held_out_se=mean.standard_error if mean else None,
        measures={
            name: map_discrepancy(
                task.logits, space, solution.map, name, temperature=task.temperature, sample_weights=weights
            )
            for name in task.measures
        },
    )


def _warn_of_order(task: InferenceTask) -> None:
    """Warn if shuffled labels give a p-value that is too low, or if there are few shifts to draw from."""
    if task.labeled.permutations_by == "shuffle":
        if task.is_ordered:
            log.warning(ORDERED)
        return
    n_shifts = count_shifts(task.space.label_set_ids, task.labeled.groups)
    if n_shifts <= task.permutations:
        log.warning(
            "The groups allow only %.0f different shifts of their labels, so the p-value can hardly be below %.2g.",
            n_shifts,
            smallest_p_value(int(n_shifts) - 1),
        )


def _with_null(task: InferenceTask, problem: HeldOutProblem, estimate: Estimate) -> tuple[Estimate, float | None]:
    """Return the estimate with its null distributions, and the mean held-out error with permuted labels.

    In a test of `soft`, this 0-1 error is that of the search if it was requested and the problem is
    small enough, and else that of the maps that minimize the soft error. In other tests it is None.
    """

    def report(drawn: int) -> None:
        task.report("permutations", drawn / task.permutations)

    if task.permutations_for == "soft":
        probabilities = task.tested_probabilities(problem)
        null, permuted_error = soft_permutation_test(problem, probabilities, task.permutations, report)
        searched = permuted_search_error(problem, null.repeats) if "search" in task.inputs.names else None
        return replace(estimate, held_out_null=null), permuted_error if searched is None else searched
    value = estimate.solution.value
    held_out, held_out_null, in_sample_null = hard_permutation_test(
        task.permutations_for, problem, task.inputs, task.labeled, value, task.permutations, report
    )
    above_floor = in_sample_null.mean - task.space.floor
    tested = replace(
        estimate,
        held_out=held_out if estimate.held_out is None else estimate.held_out,
        held_out_null=held_out_null,
        in_sample_null=in_sample_null,
        in_sample_ratio_to_null=(value - task.space.floor) / above_floor if above_floor > 0 else None,
    )
    return tested, None


def tested_samples(task: InferenceTask, held_out: HeldOut) -> TestedSamples | None:
    """Return the samples that were tested, with their errors; None if there are none."""
    problem = task.problem
    if not problem or not held_out.errors:
        return None
    space = problem.labeling.space
    labels = problem.classes[space.rarest_labels]
    groups = None if task.labeled.groups is None else task.labeled.groups[problem.samples]
    multi_label = len(space.labels) > len(space)
    return TestedSamples(space.rows, labels, groups, dict(held_out.errors), held_out.leep, multi_label)
