"""Permutation tests of held-out errors: the same statistic for real and for permuted labels."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from modgap.discrepancy.estimator_chain import EstimatorInputs, fit_montecarlo_maps, fit_search_maps, run_chain
from modgap.discrepancy.held_out import HeldOutProblem, fold_errors, fold_predictions
from modgap.discrepancy.labeled_samples import LabeledSamples
from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.soft import (
    Labeling,
    fit_soft_maps,
    folds_at_a_time,
    mass_matrices,
    soft_maps,
    soft_mean,
    soft_value,
)
from modgap.discrepancy.threads import share_work
from modgap.process.resources import describe_threads
from modgap.statistics.permutations import NullDistribution, draw_null, summarize_null
from modgap.statistics.splits import Splits
from modgap.statistics.weights import integer_weights

ANNOUNCED_SECONDS = 20.0
"""Expected duration from which permutations are announced before they run, in seconds."""
MOST_ADDITIONS = 4e10
"""Largest number of additions in a test of the soft error; it uses fewer splits on larger problems."""

LABELING_BYTES = 1 << 27
"""Size of the labels and splits of the permutations whose sums are computed in one pass over the samples."""
BYTES_PER_SAMPLE = 32

MOST_LOGITS_TO_SEARCH = 100_000
"""Largest number of logits for which permuted labels are searched beside the test of the soft error."""
MOST_SEARCHES = 19

log = logging.getLogger("modgap")


def soft_permutation_test(
    problem: HeldOutProblem,
    probabilities: Probabilities,
    permutations: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[NullDistribution, float]:
    """Test whether the soft held-out error is lower than with permuted labels.

    The statistic is the mean over all splits, or over as many of the first splits as the size of the problem allows.

    Args:
        problem: Samples, labels and splits.
        probabilities: Softmax of the tested samples.
        permutations: Largest number of permutations, at least 1.
        progress: Called with the number of permutations that were drawn since the last call.

    Returns:
        The distribution of the soft held-out error with permuted labels, and the mean 0-1 error with permuted labels
        of the maps that minimize the soft error.
    """
    labeling = problem.labeling
    additions = len(labeling.space.labels) * probabilities.n_source_classes * permutations
    splits = labeling.splits.first(max(1, min(labeling.splits.n_repeats, int(MOST_ADDITIONS / additions))))
    real = Labeling(labeling.space, labeling.weights, splits)
    began = time.perf_counter()
    value = soft_mean(probabilities, real, soft_maps(probabilities, real))
    _announce(permutations, (time.perf_counter() - began) / probabilities.threads, probabilities.threads)
    hard_errors: list[float] = []

    def statistics(repeats: range) -> list[float]:
        results = _permuted_errors(problem, probabilities, splits, repeats)
        hard_errors.extend(hard for _, hard in results)
        return [soft for soft, _ in results]

    null = draw_null(statistics, value, permutations, progress)
    return null, float(np.mean(hard_errors[: null.repeats]))


def _announce(permutations: int, seconds_per_run: float, threads: int) -> None:
    expected = permutations * seconds_per_run
    if expected > ANNOUNCED_SECONDS:
        log.info(
            "Up to %d permutations take up to %.0f s %s. Pass `permutations=0` to skip them.",
            permutations,
            expected,
            describe_threads(threads),
        )


def _permuted_errors(
    problem: HeldOutProblem, probabilities: Probabilities, splits: Splits, repeats: range
) -> list[tuple[float, float]]:
    """Return the soft error of each permutation, and the 0-1 error of the same maps on the first split.

    A labeling is made when its turn comes, because those of all permutations would take more memory than the logits.
    """
    results: dict[int, tuple[float, float]] = {}
    one_thread = probabilities.on_one_thread()

    def evaluate(repeat: int, labeling: Labeling, maps: np.ndarray) -> None:
        first = Labeling(labeling.space, labeling.weights, labeling.splits.first(1))
        predicted = fold_predictions(problem.inputs.logits, first, maps[: len(first.splits)])
        results[repeat] = soft_mean(one_thread, labeling, maps), soft_value(fold_errors(first, predicted), first)

    # Each thread works on whole permutations, so that the threads do not wait for each other.
    def work(queue: Iterator[int]) -> None:
        for repeat in queue:
            labeling = problem.permuted(repeat, splits)
            evaluate(repeat, labeling, soft_maps(one_thread, labeling))

    def work_on_masses(queue: Iterator[tuple[int, Labeling, np.ndarray]]) -> None:
        for repeat, labeling, mass in queue:
            evaluate(repeat, labeling, fit_soft_maps(mass))

    if probabilities.is_kept:
        share_work(repeats, probabilities.threads, work)
        return [results[repeat] for repeat in repeats]
    at_a_time = max(1, folds_at_a_time(probabilities, problem.inputs.n_classes) // len(splits))
    labeling_bytes = 2 * splits.fit.nbytes + BYTES_PER_SAMPLE * len(probabilities)
    at_a_time = min(at_a_time, max(probabilities.threads, LABELING_BYTES // labeling_bytes))
    for first in range(0, len(repeats), at_a_time):
        numbers = repeats[first : first + at_a_time]
        labelings = [problem.permuted(repeat, splits) for repeat in numbers]
        masses = mass_matrices(probabilities, labelings)
        share_work(zip(numbers, labelings, masses, strict=True), probabilities.threads, work_on_masses)
    return [results[repeat] for repeat in repeats]


def permuted_search_error(problem: HeldOutProblem, permutations: int) -> float | None:
    """Return the mean held-out error of the search with permuted labels, on one split; None on large problems.

    It is the error of a source that knows nothing. On few samples it lies above the chance level, because what is
    over-represented in one half of the samples is under-represented in the other.

    Args:
        problem: Samples, labels and splits.
        permutations: Number of permutations that the test drew, of which at most 19 are used.
    """
    if len(problem.labeling.space) * problem.inputs.logits.shape[1] > MOST_LOGITS_TO_SEARCH:
        return None
    splits = problem.labeling.splits.first(1)
    repeats = range(min(permutations, MOST_SEARCHES))
    errors = [_hard_error("search", problem, problem.permuted(repeat, splits)) for repeat in repeats]
    return float(np.mean(errors))


def hard_permutation_test(
    name: str,
    problem: HeldOutProblem,
    inputs: EstimatorInputs,
    labeled: LabeledSamples,
    in_sample_value: float,
    permutations: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[float, NullDistribution, NullDistribution]:
    """Test whether a 0-1 held-out error is lower than with permuted labels, on one split.

    Args:
        name: `search` or `montecarlo`.
        problem: Samples, labels and splits that can be tested.
        inputs: Logits and options of the estimators for all classes.
        labeled: Labels and groups of all N samples.
        in_sample_value: Value of the estimator with the real labels.
        permutations: Largest number of permutations, at least 1.
        progress: Called with the number of permutations that were drawn since the last call.

    Returns:
        The held-out error of the one split that the test uses, and the distributions of this error and of the
        in-sample error with permuted labels.
    """
    splits = problem.labeling.splits.first(1)
    began = time.perf_counter()
    value = _hard_error(name, problem, Labeling(problem.labeling.space, problem.labeling.weights, splits))
    _announce(permutations, 2 * (time.perf_counter() - began), inputs.threads)
    fixed = replace(inputs, names=(name,))
    if name == "search":
        fixed.share_ranking_of(inputs)
    in_sample: list[float] = []

    def statistics(repeats: range) -> list[float]:
        values = []
        for repeat in repeats:
            values.append(_hard_error(name, problem, problem.permuted(repeat, splits)))
            permuted, _ = labeled.permuted(inputs.seed, repeat)
            solutions, _ = run_chain(fixed, permuted.space, integer_weights(permuted.weights))
            in_sample.append(solutions[name].value)
        return values

    null = draw_null(statistics, value, permutations, progress)
    in_sample_null = summarize_null(in_sample_value, in_sample[: null.repeats], null.requested, sequential=False)
    return value, null, in_sample_null


def _hard_error(name: str, problem: HeldOutProblem, labeling: Labeling) -> float:
    if name == "search":
        maps = fit_search_maps(problem.inputs, labeling, None)
    else:
        maps = fit_montecarlo_maps(problem.inputs, labeling)
    predicted = fold_predictions(problem.inputs.logits, labeling, maps, problem.inputs.threads)
    return soft_value(fold_errors(labeling, predicted), labeling)
