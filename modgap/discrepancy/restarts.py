"""The local search itself: seeded runs that are annealed, and climbs from the best of them and from given maps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.costs import should_search_rows
from modgap.discrepancy.kernels import dense_gains, table_gains
from modgap.discrepancy.kernels.annealing import anneal
from modgap.discrepancy.kernels.gains import restart_from
from modgap.discrepancy.kernels.hill_climbing import climb
from modgap.discrepancy.kernels.random_maps import draw_maps
from modgap.discrepancy.ranks import Ranking
from modgap.discrepancy.threads import share_work

__all__ = ["Entries", "Plan", "plan", "search_from"]

Item = TypeVar("Item")
Ended = tuple[int, np.ndarray]
"""Matches and the map (K,) that has them."""

HOT = 2.0
COLD = 0.3
"""Temperatures in samples, that a run begins and ends with."""

# With tables a step walks ranks. A run has 500 steps, but more where each of many classes must have its
# turns, and fewer where they would walk more than LONGEST (about two seconds). Where 500 do, a restart has
# several runs for up to SHORT ranks.
STEPS = 500
TABLE_TURNS = 15
RUNS = 16
SHORT = 144_000_000
LONGEST = 1_000_000_000
RANKS_PER_SAMPLE = 20

# With rows a step reads up to half of them. What serves best for the same number of steps are runs of five
# turns a class for each class there is, 20 steps for K = 2 and 500 for K = 10, and more of them: as many as
# read RUN_LOGITS together at each step, within MANY, but FEW where they read no more than half of LONG_READS
# (about .1 s). Where that is not enough for one run on all entries, it is annealed on some, at least SAMPLE:
# at N = 10,000 one run on all ended in better maps than four on 2,000 each.
ROW_TURNS = 5
FEW = 3
MANY = 24
RUN_LOGITS = 5_000_000
LONG_READS = 7_500_000_000
SAMPLE = 2000

# The trials of the Monte-Carlo estimator are counted from 0; the maps and samples of runs must not be theirs.
FIRST_RUN = 1 << 40
FIRST_SAMPLE = 1 << 41


@dataclass(frozen=True)
class Plan:
    """What a restart does: `runs` random maps, each annealed for `steps` on a sample of `sampled` entries."""

    runs: int
    steps: int
    sampled: int


@dataclass(frozen=True)
class Entries:
    """What the search counts.

    Attributes:
        logits: Source logits, shape (N, C).
        ranking: Row of each entry, and where tables are kept its leading classes too.
        labels: Target class 0..K-1 of each entry, shape (E,).
        weights: What each entry counts, shape (E,).
        n_classes: K.
    """

    logits: np.ndarray
    ranking: Ranking
    labels: np.ndarray
    weights: np.ndarray
    n_classes: int

    @property
    def by_rows(self) -> bool:
        """Whether gains come from rows of logits and not from tables."""
        return should_search_rows(len(self.logits), self.ranking.n_source_classes, self.n_classes)

    @cached_property
    def source(self) -> "dense_gains.Rows | table_gains.Ranks":
        """Logits and ranks as the kernels take them."""
        if self.by_rows:
            return dense_gains.Rows(self.logits, self.ranking.rows)
        return table_gains.ranks_of(self.logits, self.ranking)

    def take(self, members: np.ndarray) -> "Entries":
        """Some of the entries."""
        return Entries(
            self.logits, self.ranking.take(members), self.labels[members], self.weights[members], self.n_classes
        )

    def at(self, chosen: np.ndarray) -> "dense_gains.DenseState | table_gains.State":
        """A state for the kernels, at a map (K,)."""
        new_state = dense_gains.new_state if self.by_rows else table_gains.new_state
        state = new_state(self.labels, self.weights, self.n_classes, self.ranking.n_source_classes)
        restart_from(self.source, state, chosen)
        return state


def plan(entries: Entries) -> Plan:
    """A function of the sizes alone, never of the clock."""
    sizes = len(entries.labels), entries.ranking.n_source_classes, entries.n_classes
    return _plan_rows(*sizes) if entries.by_rows else _plan_tables(*sizes)


def _plan_tables(n_entries: int, n_source_classes: int, n_classes: int) -> Plan:
    touched = min(n_entries, 4 * n_entries // n_classes + 1)
    step = touched * (RANKS_PER_SAMPLE + n_source_classes // n_classes)
    steps = min(max(STEPS, TABLE_TURNS * n_classes), LONGEST // step)
    runs = max(1, min(RUNS, SHORT // (step * STEPS))) if steps == STEPS else 1
    return Plan(runs, steps, n_entries)


def _plan_rows(n_entries: int, n_source_classes: int, n_classes: int) -> Plan:
    steps = ROW_TURNS * n_classes**2
    sampled = min(n_entries, max(SAMPLE, LONG_READS // (steps * n_source_classes)))
    logits = sampled * n_source_classes
    runs = max(min(FEW, LONG_READS // (2 * steps * logits)), min(MANY, RUN_LOGITS // logits), 1)
    return Plan(runs, steps, sampled)


def search_from(entries: Entries, given: Sequence[np.ndarray], seed: int, restarts: int, threads: int):
    """Matches (S,) and maps (S, K) that the given starts and then the restarts end with."""
    todo = plan(entries)
    # Made here, once, and not by each thread.
    _ = entries.source
    best = _best_runs(entries, todo, seed, restarts, threads)
    if todo.sampled < len(entries.labels):
        ended = _climb_all(entries, [*given, *(chosen for _, chosen in best)], threads)
    else:
        ended = _climb_all(entries, given, threads) + best
    matches, maps = zip(*ended, strict=True)
    return np.array(matches), np.array(maps)


def _best_runs(entries: Entries, todo: Plan, seed: int, restarts: int, threads: int) -> list[Ended]:
    """The best run of each restart, the first of equal ones."""
    ended = _map(lambda run: _run(entries, todo, seed, run), range(restarts * todo.runs), threads)
    return [max(ended[first : first + todo.runs], key=lambda one: one[0]) for first in range(0, len(ended), todo.runs)]


def _climb_all(entries: Entries, starts: Sequence[np.ndarray], threads: int) -> list[Ended]:
    return _map(lambda start: _climb_on(entries.source, entries.at(start)), starts, threads)


def _map(work: Callable[[Item], Ended], items: Sequence[Item], threads: int) -> list[Ended]:
    """What `work` makes of each item, in order, on so many threads."""
    ended: dict[int, Ended] = {}

    def fill(queue: Iterable[tuple[int, Item]]) -> None:
        for number, item in queue:
            ended[number] = work(item)

    share_work(enumerate(items), max(1, min(threads, len(items))), fill)
    return [ended[number] for number in range(len(items))]


def _run(entries: Entries, todo: Plan, seed: int, run: int) -> Ended:
    """Anneal a random map on some entries and climb on; the matches are of all entries."""
    some = entries
    if todo.sampled < len(entries.labels):
        some = entries.take(np.sort(_draw(seed, FIRST_SAMPLE + run, todo.sampled, len(entries.labels))))
    state = some.at(_draw(seed, FIRST_RUN + run, entries.n_classes, entries.ranking.n_source_classes))
    unit = float(some.weights.mean())
    anneal(some.source, state, seed, run, HOT * unit, COLD * unit, todo.steps)
    matches, chosen = _climb_on(some.source, state)
    return (matches if some is entries else _matches(entries.at(chosen))), chosen


def _draw(seed: int, number: int, size: int, limit: int) -> np.ndarray:
    """So many different integers below a limit."""
    drawn = np.empty((1, size), np.int64)
    draw_maps(np.uint64(seed), number, drawn, np.arange(limit))
    return drawn[0]


def _matches(state) -> int:
    return int(state.confusion.trace())


def _climb_on(source, state) -> Ended:
    """Climb and re-assign until neither helps; (matches, map)."""
    while True:
        climb(source, state)
        labels, predicted = linear_sum_assignment(state.confusion, maximize=True)
        if state.confusion[labels, predicted].sum() <= _matches(state):
            return _matches(state), state.chosen.copy()
        restart_from(source, state, state.chosen[predicted])
