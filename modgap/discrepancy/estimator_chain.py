"""The random maps and the search that starts from the best of them, on all samples and on folds."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modgap.discrepancy.costs import should_search_rows
from modgap.discrepancy.kernels.moves import counter_dtype
from modgap.discrepancy.montecarlo import MonteCarlo, summarize
from modgap.discrepancy.predictions import predicted_classes
from modgap.discrepancy.problem import Problem, smallest_width
from modgap.discrepancy.ranks import Ranking, rank_samples
from modgap.discrepancy.search import Search, search
from modgap.discrepancy.soft import Labeling
from modgap.discrepancy.threads import share_work
from modgap.discrepancy.trial_costs import cheapest_kernel
from modgap.discrepancy.trials import count_trials, random_maps
from modgap.discrepancy.trials import warm_up as warm_up_trials
from modgap.labels.label_space import LabelSpace
from modgap.statistics.weights import integer_weights

HARD_ESTIMATORS = ("montecarlo", "search")
"""Estimators of the 0-1 discrepancy, in the order in which they run."""

MANY_CLASSES = 25
"""Number of target classes for which the search always uses tables."""

Solution = MonteCarlo | Search


@dataclass(frozen=True)
class EstimatorInputs:
    """Inputs of the estimators that are the same for real and for permuted labels.

    Attributes:
        logits: Source logits, float32, shape (N', C).
        names: Names of the requested estimators, those of HARD_ESTIMATORS in this order and then `soft`.
        n_classes: Number K of target classes.
        trials: Number of random maps of the Monte-Carlo estimator.
        seed: Seed of every random draw.
        threads: Number of worker threads.
    """

    logits: np.ndarray
    names: tuple[str, ...]
    n_classes: int
    trials: int = 100_000
    seed: int = 0
    threads: int = 1

    @cached_property
    def ranking(self) -> Ranking:
        """Leading source classes of all rows, which the search uses."""
        return rank_samples(self.logits, self.n_classes, threads=self.threads)

    def share_ranking_of(self, other: "EstimatorInputs") -> None:
        """Use the ranking of inputs with the same logits and number of classes, so that it is computed only once."""
        self.__dict__["ranking"] = other.ranking


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the wall time of a block, in seconds, to that of its stage."""
    began = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began


def warm_up(inputs: EstimatorInputs, weights: np.ndarray | None, trial_weights: np.ndarray | None = None) -> None:
    """Compile the kernels that the chain needs, or load them from Numba's cache, so that no timing includes it.

    Only the kernels that problems of this size use are compiled. They run on zeros of the smallest size that takes the
    same choices.

    Args:
        inputs: Logits and options of the estimators.
        weights: Integer weight of each entry that the search counts, shape (E,); None if all are 1.
        trial_weights: The same for the Monte-Carlo trials.
    """
    n_samples, n_source_classes = inputs.logits.shape
    kernel = cheapest_kernel(n_source_classes, inputs.n_classes, inputs.trials)
    warm_up_trials(n_source_classes, kernel, trial_weights is not None)
    n_classes = 2 if should_search_rows(n_samples, n_source_classes, inputs.n_classes) else MANY_CLASSES
    labels = np.arange(n_classes)
    logits = np.zeros((n_classes, smallest_width(n_source_classes, n_classes + 1)), np.float32)
    logits.flags.writeable = False
    if "search" in inputs.names:
        by_counter: list[np.ndarray | None] = [None]
        if weights is not None:
            # There are weights for each type of counter that all entries, and half of them, lead to.
            total = int(weights.sum())
            totals = {counter_dtype(np.array([part])): part for part in (total, total // 3)}
            by_counter = [np.full(n_classes, part // n_classes + 1, np.int64) for part in totals.values()]
        for some_weights in by_counter:
            search(logits, labels, n_classes, weights=some_weights)
        random_maps(0, 0, 1, 1, n_samples)
    predicted_classes(logits, labels, labels)


def run_chain(
    inputs: EstimatorInputs,
    space: LabelSpace,
    weights: np.ndarray | None = None,
    starts: Sequence[np.ndarray] = (),
    progress: Callable[[str, float], None] | None = None,
) -> tuple[dict[str, Solution], dict[str, float]]:
    """Run the requested estimators; the search starts from the best map of the trials.

    The Monte-Carlo trials always run, because the search starts from their best map.

    Args:
        inputs: Logits and options of the estimators.
        space: Labels of the N samples. The Monte-Carlo estimator counts its entries, as the paper does.
        weights: Integer weight of each entry that the search counts, shape (E,); None if all are 1.
        starts: Further maps that the search starts from, each of shape (K,).
        progress: Called with the name of a stage and the share of its work done since the last call.

    Returns:
        Solution of each requested estimator by name, and wall time by stage in seconds.
    """
    report = progress or (lambda _stage, _share: None)
    problem = _problem(inputs, space)
    counts, seconds = count_trials(
        problem,
        seed=inputs.seed,
        trials=inputs.trials,
        threads=inputs.threads,
        progress=lambda share: report("montecarlo", share),
    )
    solutions: dict[str, Solution] = {"montecarlo": summarize(problem, counts, inputs.seed)}
    if "search" in inputs.names:
        with timed(seconds, "ranks"):
            _ = inputs.ranking
        with timed(seconds, "search"):
            solutions["search"] = search(
                inputs.logits,
                problem.labels,
                problem.n_classes,
                starts=[np.asarray(solutions["montecarlo"].map), *starts],
                seed=inputs.seed,
                threads=inputs.threads,
                ranking=inputs.ranking.take(problem.rows),
                weights=weights,
            )
            report("search", 1.0)
    return {name: solution for name, solution in solutions.items() if name in inputs.names}, seconds


def _problem(inputs: EstimatorInputs, space: LabelSpace, entry_parts: np.ndarray | None = None) -> Problem:
    rows = space.entry_rows
    parts = np.zeros(len(rows), np.int64) if entry_parts is None else entry_parts
    return Problem(inputs.logits, rows, space.labels, parts, space.n_classes, int(parts.max()) + 1, space.weights)


def fit_search_maps(
    inputs: EstimatorInputs,
    labeling: Labeling,
    starts: np.ndarray | None,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Search the best map on the samples that each fold is fitted on.

    Args:
        inputs: Logits and options of the estimators.
        labeling: Labels, weights and folds.
        starts: A map to start from for each fold, shape (J, K); None for none.
        progress: Called with the share of the work done since the last call.

    Returns:
        The map of each fold, shape (J, K).
    """
    space = labeling.space
    entry_samples = space.entry_samples
    rows = space.entry_rows
    weights = integer_weights(labeling.weights)
    fits = labeling.splits.fit
    maps = np.empty((len(fits), space.n_classes), np.int64)
    _ = inputs.ranking

    def work(queue: Iterator[int]) -> None:
        for fold in queue:
            members = np.flatnonzero(fits[fold][entry_samples])
            solution = search(
                inputs.logits,
                space.labels[members],
                space.n_classes,
                starts=[] if starts is None else [starts[fold]],
                seed=inputs.seed,
                ranking=inputs.ranking.take(rows[members]),
                weights=None if weights is None else weights[members],
            )
            maps[fold] = solution.map
            if progress:
                progress(1 / len(fits))

    share_work(range(len(fits)), inputs.threads, work)
    return maps


def fit_montecarlo_maps(inputs: EstimatorInputs, labeling: Labeling) -> np.ndarray:
    """Return the best of the random maps on the samples that each fold is fitted on, shape (J, K).

    Args:
        inputs: Logits and options of the estimators.
        labeling: Labels and folds; the folds of a repeat are two halves.
    """
    space = labeling.space
    maps = np.empty((len(labeling.splits), space.n_classes), np.int64)
    for fold, fit in enumerate(labeling.splits.fit):
        problem = _problem(inputs, space, np.where(fit[space.entry_samples], 0, 1))
        counts, _ = count_trials(problem, seed=inputs.seed, trials=inputs.trials, threads=inputs.threads)
        maps[fold] = summarize(problem, counts, inputs.seed, [0]).map
    return maps
