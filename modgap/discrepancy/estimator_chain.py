"""The chain of estimators on one labeling: each starts from the maps of those before it, on all samples and halves."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from modgap.discrepancy.assignment import Assignment, assignment
from modgap.discrepancy.costs import STEPS_PER_READING, should_search_rows, should_walk_ranks
from modgap.discrepancy.held_out import IN_BOTH_HALVES, split_halves
from modgap.discrepancy.kernels.moves import counter_dtype
from modgap.discrepancy.montecarlo import MonteCarlo, summarize, summarize_halves
from modgap.discrepancy.predictions import error_terms
from modgap.discrepancy.problem import Problem, smallest_width
from modgap.discrepancy.ranks import Ranking, rank_samples
from modgap.discrepancy.search import Search, is_enumerable, search
from modgap.discrepancy.trial_costs import cheapest_kernel
from modgap.discrepancy.trials import count_trials, random_maps
from modgap.discrepancy.trials import warm_up as warm_up_trials
from modgap.label_space import LabelSpace, label_space

__all__ = ["ESTIMATORS", "EstimatorInputs", "EstimatorResult", "HeldOut", "Solution", "run_chain", "warm_up"]

ESTIMATORS = ("montecarlo", "assignment", "search")

MANY_CLASSES = 25
"""Number of target classes for which the search always uses tables."""

Solution = MonteCarlo | Assignment | Search


@dataclass(frozen=True)
class HeldOut:
    """Result of maps that are chosen on one half of the samples and tested on the other half, both ways.

    Attributes:
        value: Weighted mean of the terms, in [0, 1]; unbiased, so it can be compared with the chance level.
        maps: The map chosen on half 0 and the map chosen on half 1.
        tested: Numbers of the M tested samples, shape (M,).
        halves: Half of each tested sample, 0 or 1, shape (M,). The map of the other half predicts it.
        terms: Term of equation (11) of each tested sample, 0 or 1 for single labels, shape (M,).
        weights: Weight of each term, shape (M,); all are equal except in the balanced variant.
    """

    value: float
    maps: tuple[np.ndarray, np.ndarray]
    tested: np.ndarray = field(repr=False)
    halves: np.ndarray = field(repr=False)
    terms: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class EstimatorResult:
    """Result of one estimator.

    Attributes:
        solution: Its solution on all samples.
        held_out: Its held-out result; None if no sample could be tested.
    """

    solution: Solution
    held_out: HeldOut | None


@dataclass(frozen=True)
class EstimatorInputs:
    """Inputs of the estimators that are the same for real and for permuted labels.

    Attributes:
        logits: Source logits, float32, shape (N', C).
        groups: Group of each labeled sample, shape (N,), or None if samples are independent.
        names: Names of the requested estimators, in the order of ESTIMATORS.
        n_classes: Number K of target classes.
        trials: Number of random maps of the Monte-Carlo estimator.
        subsets: Number of random subsets of the assignment estimator.
        restarts: Number of restarts of the search.
        seed: Seed of every random draw.
        threads: Number of worker threads.
        halves: True to compute held-out results too.
    """

    logits: np.ndarray
    groups: np.ndarray | None
    names: tuple[str, ...]
    n_classes: int
    trials: int = 100_000
    subsets: int = 1000
    restarts: int = 10
    seed: int = 0
    threads: int = 1
    halves: bool = True

    @cached_property
    def ranking(self) -> Ranking:
        """Leading source classes of all rows, which the assignment and the search use."""
        return rank_samples(self.logits, self.n_classes, threads=self.threads)

    def share_ranking_of(self, other: "EstimatorInputs") -> None:
        """Use the ranking of inputs with the same logits and number of classes, so that it is computed only once."""
        self.__dict__["ranking"] = other.ranking


class _Clock:
    """Wall time by stage, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


def warm_up(inputs: EstimatorInputs, weights: np.ndarray | None) -> None:
    """Compile the kernels that `run_chain` needs, or load them from Numba's cache, so that no timing includes it.

    Only the kernels that problems of this size use are compiled. They run on zeros of the smallest size that takes the
    same choices.

    Args:
        inputs: Logits and options of the estimators.
        weights: Weight of each entry, shape (E,); None if every entry weighs 1.
    """
    n_samples, n_source_classes = inputs.logits.shape
    kernel = cheapest_kernel(n_source_classes, inputs.n_classes, inputs.trials)
    warm_up_trials(n_source_classes, kernel, weights is not None)
    n_classes = 2 if should_search_rows(n_samples, n_source_classes, inputs.n_classes) else MANY_CLASSES
    walks = should_walk_ranks(n_source_classes, inputs.n_classes)
    wanted = n_classes + 1 if walks else STEPS_PER_READING * n_classes * (n_classes + 1)
    labels = np.arange(n_classes)
    logits = np.zeros((n_classes, smallest_width(n_source_classes, wanted)), np.float32)
    logits.flags.writeable = False
    if "assignment" in inputs.names:
        assignment(logits, labels, n_classes, subsets=2)
    if "search" in inputs.names and weights is None and is_enumerable(n_source_classes, inputs.n_classes):
        search(logits, labels[:2], 2)
    elif "search" in inputs.names:
        for some_weights in _weights_by_counter(weights, n_classes):
            search(logits, labels, n_classes, restarts=1, enumerable=0, weights=some_weights)
        random_maps(0, 0, 1, 1, n_samples)
    error_terms(logits, label_space(labels), labels, labels)


def _weights_by_counter(weights: np.ndarray | None, size: int) -> list[np.ndarray | None]:
    """Return weights (size,) for each type of counter that entries with these weights, and half of them, lead to."""
    if weights is None:
        return [None]
    total = int(weights.sum())
    totals = {counter_dtype(np.array([part])): part for part in (total, total // 3)}
    return [np.full(size, part // size + 1, np.int64) for part in totals.values()]


def run_chain(
    inputs: EstimatorInputs, space: LabelSpace, progress: Callable[[str, float], None] | None = None
) -> tuple[dict[str, EstimatorResult], dict[str, float]]:
    """Run the requested estimators; the assignment and the search start from the best maps before them.

    The Monte-Carlo trials always run, because the other estimators build on their best map.

    Args:
        inputs: Logits and options of the estimators.
        space: Labels of the N samples.
        progress: Called with the name of a stage and the share of its work done since the last call.

    Returns:
        Result of each requested estimator by name, and wall time by stage in seconds.
    """
    clock = _Clock()
    report = progress or (lambda _stage, _share: None)
    parts = split_halves(space.rarest_labels, inputs.groups, inputs.seed)
    problem = _problem(inputs, space, parts)
    counts = count_trials(
        problem,
        seed=inputs.seed,
        stop=inputs.trials,
        threads=inputs.threads,
        progress=lambda share: report("montecarlo", share),
    )
    for stage, seconds in counts.seconds.items():
        clock.add(stage, seconds)
    scopes = _scopes(inputs, problem, parts)
    # One solution for each scope: all entries, and where there are halves the entries of each half.
    solutions: dict[str, list[Solution]] = {}
    minima = [summarize(problem, counts), *summarize_halves(problem, counts)]
    solutions["montecarlo"] = list(minima[: len(scopes)])
    for name, improve in (("assignment", _assign), ("search", _search)):
        if name not in inputs.names:
            continue
        with clock.stage("ranks"):
            _ = inputs.ranking
        with clock.stage(name):
            improved: list[Solution] = []
            for scope, members in enumerate(scopes):
                starts = [np.asarray(earlier[scope].map) for earlier in solutions.values()]
                improved.append(improve(inputs, problem, members, starts))
                report(name, 1 / len(scopes))
            solutions[name] = improved
    results = {
        name: EstimatorResult(by_scope[0], _held_out(inputs, space, parts, by_scope[1:]) if len(scopes) > 1 else None)
        for name, by_scope in solutions.items()
        if name in inputs.names
    }
    return results, clock.seconds


def _problem(inputs: EstimatorInputs, space: LabelSpace, parts: np.ndarray) -> Problem:
    entry_parts = np.repeat(parts, np.diff(space.starts))
    rows = space.rows[space.entry_samples]
    n_parts = int(parts.max()) + 1
    return Problem(inputs.logits, rows, space.labels, entry_parts, space.n_classes, n_parts, space.weights)


def _scopes(inputs: EstimatorInputs, problem: Problem, parts: np.ndarray) -> list[np.ndarray]:
    """Return masks of entries to run the estimators on: all entries, then those of each half if both can be tested."""
    scopes = [np.ones(len(problem.parts), bool)]
    if inputs.halves and (parts < IN_BOTH_HALVES).any() and (parts == 1).any():
        scopes += [np.isin(problem.parts, (half, IN_BOTH_HALVES)) for half in (0, 1)]
    return scopes


def _assign(inputs: EstimatorInputs, problem: Problem, members: np.ndarray, starts: Sequence[np.ndarray]) -> Assignment:
    return assignment(
        inputs.logits,
        problem.labels[members],
        problem.n_classes,
        subsets=inputs.subsets,
        extra=starts,
        seed=inputs.seed,
        threads=inputs.threads,
        ranking=inputs.ranking.take(problem.rows[members]),
        weights=None if problem.weights is None else problem.weights[members],
    )


def _search(inputs: EstimatorInputs, problem: Problem, members: np.ndarray, starts: Sequence[np.ndarray]) -> Search:
    return search(
        inputs.logits,
        problem.labels[members],
        problem.n_classes,
        starts=starts,
        restarts=inputs.restarts,
        seed=inputs.seed,
        threads=inputs.threads,
        ranking=inputs.ranking.take(problem.rows[members]),
        weights=None if problem.weights is None else problem.weights[members],
    )


def _held_out(inputs: EstimatorInputs, space: LabelSpace, parts: np.ndarray, half_solutions: list[Solution]) -> HeldOut:
    """Test the map of each half on the samples of the other half."""
    tested = np.flatnonzero(parts < IN_BOTH_HALVES)
    terms = np.empty(len(space))
    weights = np.empty(len(space))
    maps = [np.asarray(solution.map) for solution in half_solutions]
    for half in (0, 1):
        other_half = np.flatnonzero(parts == 1 - half)
        terms[other_half], weights[other_half] = error_terms(inputs.logits, space, other_half, maps[half])
    value = float(np.average(terms[tested], weights=weights[tested]))
    return HeldOut(value, (maps[0], maps[1]), tested, parts[tested], terms[tested], weights[tested])
