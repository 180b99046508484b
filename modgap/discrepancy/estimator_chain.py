"""All estimators on one labeling, each given what the ones before it found, on all samples and on halves."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from modgap.discrepancy.assignment import Assignment, assignment
from modgap.discrepancy.held_out import IN_BOTH_HALVES, split_halves
from modgap.discrepancy.montecarlo import MonteCarlo, half_maps, summarize
from modgap.discrepancy.predictions import error_terms
from modgap.discrepancy.problem import Problem
from modgap.discrepancy.ranks import Ranking, rank_samples
from modgap.discrepancy.search import Search, search
from modgap.discrepancy.trials import count_trials
from modgap.discrepancy.trials import warm_up as warm_up_trials
from modgap.label_space import LabelSpace, label_space

__all__ = ["ESTIMATORS", "EstimatorInputs", "EstimatorResult", "HeldOut", "Solution", "run_chain", "warm_up"]

ESTIMATORS = ("montecarlo", "assignment", "search")

Solution = MonteCarlo | Assignment | Search


@dataclass(frozen=True)
class HeldOut:
    """Maps found on one half of the samples and judged on the other, both ways.

    Attributes:
        value: Mean of the tested terms, in [0, 1]; unbiased, so comparable with chance.
        maps: The map found on half 0 and the one found on half 1.
        tested: Samples that were tested, shape (M,).
        terms: Their terms of equation (11), 0 or 1 for single labels, shape (M,).
        weights: What each term counts, shape (M,); all the same but for the balanced variant.
    """

    value: float
    maps: tuple[np.ndarray, np.ndarray]
    tested: np.ndarray = field(repr=False)
    terms: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class EstimatorResult:
    """What one estimator found on all samples, and held out; None where nothing could be tested."""

    solution: Solution
    held_out: HeldOut | None


@dataclass(frozen=True)
class EstimatorInputs:
    """What stays the same between the real labels and permuted ones.

    Attributes:
        logits: Source logits, float32, shape (N', C).
        groups: Group of each labeled sample, shape (N,), or None.
        names: Estimators wanted, in the order of ESTIMATORS.
        trials: Random maps of the Monte-Carlo estimator.
        subsets: Random subsets of the assignment estimator.
        restarts: Restarts of the search.
        seed: Seed of every draw.
        threads: Worker threads.
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
        """Leading classes of all rows, for assignment and search."""
        return rank_samples(self.logits, self.n_classes, threads=self.threads)


class _Clock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


def warm_up(names: Sequence[str]) -> None:
    """Compile the kernels that these estimators need, or load them from numba's cache."""
    warm_up_trials()
    logits = np.zeros((40, 3), np.float32)
    labels = np.arange(40) % 2
    logits.flags.writeable = False
    many = np.repeat(logits, 40, axis=1)
    many.flags.writeable = False
    if "assignment" in names:
        for some in (logits, many):
            assignment(some, labels, 2, subsets=2)
    if "search" in names:
        search(logits, labels, 2)
        for some in (logits, many):
            search(some, labels, 2, restarts=1, enumerable=0)
    error_terms(logits, label_space(labels), np.arange(40), np.arange(2))


def run_chain(
    data: EstimatorInputs, space: LabelSpace, progress: Callable[[str, float], None] | None = None
) -> tuple[dict[str, EstimatorResult], dict[str, float]]:
    """Run the wanted estimators; assignment and search start from the best maps found before them.

    The Monte-Carlo trials always run, since the others build on their winner.

    Returns:
        Outcome by estimator's name, and seconds by stage.
    """
    clock = _Clock()
    report = progress or (lambda stage, share: None)
    parts = split_halves(space.rarest_labels, data.groups, data.seed)
    entry_parts = np.repeat(parts, np.diff(space.starts))
    problem = Problem(
        data.logits, space.rows[space.entry_samples], space.labels, entry_parts, space.n_classes,
        int(parts.max()) + 1, space.weights,
    )  # fmt: skip
    counts = count_trials(
        problem, seed=data.seed, stop=data.trials, threads=data.threads,
        progress=lambda share: report("montecarlo", share),
    )  # fmt: skip
    for stage, seconds in counts.seconds.items():
        clock.add(stage, seconds)
    scopes = [np.ones(len(entry_parts), bool)]
    if data.halves and (parts < IN_BOTH_HALVES).any() and (parts == 1).any():
        scopes += [np.isin(entry_parts, (half, IN_BOTH_HALVES)) for half in (0, 1)]
    found: dict[str, list[Solution]] = {}
    winners = [summarize(problem, counts), *half_maps(problem, counts)]
    found["montecarlo"] = list(winners[: len(scopes)])
    for name, improve in (("assignment", _assign), ("search", _search)):
        if name not in data.names:
            continue
        with clock.stage("ranks"):
            _ = data.ranking
        with clock.stage(name):
            improved: list[Solution] = []
            for scope, members in enumerate(scopes):
                starts = [np.asarray(earlier[scope].map) for earlier in found.values()]
                improved.append(improve(data, problem, members, starts))
                report(name, 1 / len(scopes))
            found[name] = improved
    outcomes = {
        name: EstimatorResult(maps[0], _held_out(data, space, parts, maps[1:]) if len(scopes) > 1 else None)
        for name, maps in found.items()
        if name in data.names
    }
    return outcomes, clock.seconds


def _assign(data: EstimatorInputs, problem: Problem, members, starts) -> Assignment:
    weights = None if problem.weights is None else problem.weights[members]
    return assignment(
        data.logits, problem.labels[members], problem.n_classes, subsets=data.subsets, extra=starts,
        seed=data.seed, threads=data.threads, ranking=data.ranking.take(problem.rows[members]), weights=weights,
    )  # fmt: skip


def _search(data: EstimatorInputs, problem: Problem, members, starts) -> Search:
    weights = None if problem.weights is None else problem.weights[members]
    return search(
        data.logits, problem.labels[members], problem.n_classes, starts=starts, restarts=data.restarts,
        seed=data.seed, threads=data.threads, ranking=data.ranking.take(problem.rows[members]), weights=weights,
    )  # fmt: skip


def _held_out(data: EstimatorInputs, space: LabelSpace, parts: np.ndarray, found: list[Solution]) -> HeldOut:
    tested = np.flatnonzero(parts < IN_BOTH_HALVES)
    terms = np.empty(len(space))
    weights = np.empty(len(space))
    maps = [np.asarray(half.map) for half in found]
    for half in (0, 1):
        other = np.flatnonzero(parts == 1 - half)
        terms[other], weights[other] = error_terms(data.logits, space, other, maps[half])
    value = float(np.average(terms[tested], weights=weights[tested]))
    return HeldOut(value, (maps[0], maps[1]), tested, terms[tested], weights[tested])
