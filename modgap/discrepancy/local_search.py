"""Local search: climbs from given maps, and from the best of several random maps that are annealed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from scipy.optimize import linear_sum_assignment

from modgap.discrepancy.costs import should_search_rows
from modgap.discrepancy.kernels import dense_gains, table_gains
from modgap.discrepancy.kernels.annealing import improve
from modgap.discrepancy.kernels.mapped_rows import Rows, rows_of
from modgap.discrepancy.predictions import predicted_classes
from modgap.discrepancy.ranks import Ranking
from modgap.discrepancy.threads import share_work
from modgap.discrepancy.trials import random_maps

Item = TypeVar("Item")
RunResult = tuple[int, np.ndarray]
"""Matches, and the map (K,) that has them."""

KernelInputs = Rows | table_gains.Ranks
KernelState = dense_gains.DenseState | table_gains.State

HOT = 2.0
COLD = 0.3
"""Temperatures, in samples, at the beginning and at the end of a run."""

# With tables, a step walks ranks. A run has STEPS steps. It has more if each of many classes must have its turns, and
# fewer if they would walk more than LONGEST ranks (about two seconds). With STEPS steps, there are several runs, up to
# SHORT ranks in total.
STEPS = 500
TABLE_TURNS = 15
RUNS = 16
SHORT = 144_000_000
LONGEST = 1_000_000_000
RANKS_PER_SAMPLE = 20

# With rows, a step reads up to half of them. For the same number of steps, the best results come from runs in which
# each class has five turns for each class there is (20 steps for K = 2, 500 for K = 10), and from more of these runs:
# as many as read RUN_LOGITS together at each step, at most MANY, but at most FEW if they would read more than half of
# LONG_READS (about 0.1 s). If LONG_READS does not suffice for one run on all entries, the run is annealed on a sample
# of at least SAMPLE entries: at N = 10,000, one run on all entries ended in better maps than four on 2,000 each.
ROW_TURNS = 5
FEW = 3
MANY = 24
RUN_LOGITS = 5_000_000
LONG_READS = 7_500_000_000
SAMPLE = 2000
TWO_CLASSES_RUNS = 10
"""Factor of the runs with two target classes, where a climb ends early because only two classes can move."""

STATE_BYTES = 1 << 28
"""Total size of the states of all threads, from which on fewer threads climb at a time."""

# The Monte-Carlo estimator counts its trials from 0. The maps and samples of runs must differ from those of its trials.
FIRST_RUN = 1 << 40
FIRST_SAMPLE = 1 << 41


@dataclass(frozen=True)
class Entries:
    """Labeled entries that the search counts.

    Attributes:
        logits: Source logits, shape (N, C).
        ranking: Row of each entry, and its leading classes if the search keeps tables.
        labels: Target class 0..K-1 of each entry, shape (E,).
        weights: Weight of each entry, shape (E,).
        n_classes: Number K of target classes.
    """

    logits: np.ndarray
    ranking: Ranking
    labels: np.ndarray
    weights: np.ndarray
    n_classes: int

    @property
    def uses_rows(self) -> bool:
        """True if gains are counted from rows of logits, False if from tables."""
        return should_search_rows(len(self.logits), self.ranking.n_source_classes, self.n_classes)

    @cached_property
    def kernel_inputs(self) -> KernelInputs:
        """Logits and ranks in the form that the kernels take."""
        if self.uses_rows:
            return rows_of(self.logits, self.ranking.rows)
        return table_gains.ranks_of(self.logits, self.ranking)

    @cached_property
    def plan(self) -> tuple[int, int, int]:
        """Work of the annealing, from the sizes alone and never from the clock.

        These are the number of random maps that are annealed, the number of annealing steps of each of these runs, and
        the number of entries that a run is annealed on.
        """
        plan = _plan_rows if self.uses_rows else _plan_tables
        return plan(len(self.labels), self.ranking.n_source_classes, self.n_classes)

    @property
    def state_bytes(self) -> int:
        """Size of a state with a value for each entry, and with rows for each entry and target class."""
        size = 40 * len(self.labels)
        if self.uses_rows:
            size += self.n_classes * (8 * len(self.labels) + 4 * self._part_size)
        return size

    @property
    def _part_size(self) -> int:
        """Number of entries whose rows are read before the pages of the logits are released."""
        source = self.kernel_inputs
        return min(len(self.labels), int(source.pages.entries)) if isinstance(source, Rows) else len(self.labels)

    def take(self, members: np.ndarray) -> "Entries":
        """Return some of the entries, given by their positions (M,)."""
        return Entries(
            self.logits, self.ranking.take(members), self.labels[members], self.weights[members], self.n_classes
        )

    def new_state(self) -> KernelState:
        """Return a new state for the kernels, without a map."""
        sizes = self.n_classes, self.ranking.n_source_classes
        if self.uses_rows:
            return dense_gains.new_state(self.labels, self.weights, *sizes, self._part_size)
        return table_gains.new_state(self.labels, self.weights, *sizes)


def _plan_tables(n_entries: int, n_source_classes: int, n_classes: int) -> tuple[int, int, int]:
    ranks_per_step = _ranks_per_step(n_entries, n_source_classes, n_classes)
    steps = min(max(STEPS, TABLE_TURNS * n_classes), LONGEST // ranks_per_step)
    runs = max(1, min(RUNS, SHORT // (ranks_per_step * STEPS))) if steps == STEPS else 1
    return runs, steps, n_entries


def _ranks_per_step(n_entries: int, n_source_classes: int, n_classes: int) -> int:
    n_touched = min(n_entries, 4 * n_entries // n_classes + 1)
    return n_touched * (RANKS_PER_SAMPLE + n_source_classes // n_classes)


def _plan_rows(n_entries: int, n_source_classes: int, n_classes: int) -> tuple[int, int, int]:
    steps = ROW_TURNS * n_classes**2
    sample_size = min(n_entries, max(SAMPLE, LONG_READS // (steps * n_source_classes)))
    n_logits = sample_size * n_source_classes
    runs = max(min(FEW, LONG_READS // (2 * steps * n_logits)), min(MANY, RUN_LOGITS // n_logits), 1)
    return runs * TWO_CLASSES_RUNS if n_classes == 2 else runs, steps, sample_size


def anneal_and_climb(entries: Entries, starts: Sequence[np.ndarray], seed: int, threads: int) -> tuple[int, np.ndarray]:
    """Climb from the given maps, and anneal random maps.

    Args:
        entries: Labeled entries to count.
        starts: Maps to climb from, each of shape (K,).
        seed: Seed of the random maps and of their annealing.
        threads: Number of worker threads; it does not change the result.

    Returns:
        Matches and map (K,) of the best result; ties go to the earlier start.
    """
    # Computed here once, and not by each thread.
    _ = entries.kernel_inputs
    results = _climb_all(entries, starts, threads)
    n_runs, _, sample_size = entries.plan
    annealed = _map_on_threads(lambda run: _run(entries, seed, run), range(n_runs), threads)
    best_run = max(annealed, key=_matches_of)
    if sample_size < len(entries.labels):
        best_run = _climb_all(entries, [best_run[1]], threads)[0]
    return max([*results, best_run], key=_matches_of)


def _matches_of(result: RunResult) -> int:
    return result[0]


def _climb_all(entries: Entries, starts: Sequence[np.ndarray], threads: int) -> list[RunResult]:
    threads = max(1, min(threads, STATE_BYTES // entries.state_bytes))
    return _map_on_threads(lambda start: _climb_from(entries, entries.new_state(), start), starts, threads)


def _map_on_threads(work: Callable[[Item], RunResult], items: Sequence[Item], threads: int) -> list[RunResult]:
    """Return the result of `work` for each item, in the order of the items."""
    results: dict[int, RunResult] = {}

    def work_on_queue(queue: Iterable[tuple[int, Item]]) -> None:
        for number, item in queue:
            results[number] = work(item)

    share_work(enumerate(items), max(1, min(threads, len(items))), work_on_queue)
    return [results[number] for number in range(len(items))]


def _run(entries: Entries, seed: int, run: int) -> RunResult:
    """Anneal a random map on a sample of the entries, and climb on it; the matches are of all entries."""
    sample = entries
    _, steps, sample_size = entries.plan
    if sample_size < len(entries.labels):
        members = np.sort(random_maps(seed, FIRST_SAMPLE + run, 1, sample_size, len(entries.labels))[0])
        sample = entries.take(members)
    start = random_maps(seed, FIRST_RUN + run, 1, entries.n_classes, entries.ranking.n_source_classes)[0]
    state = sample.new_state()
    unit = float(sample.weights.mean())
    improve(sample.kernel_inputs, state, start, seed, run, HOT * unit, COLD * unit, steps)
    matches, source_classes = _permute_and_climb(sample, state)
    if sample is not entries:
        predicted = predicted_classes(entries.logits, entries.ranking.rows, source_classes)
        matches = int(entries.weights[predicted == entries.labels].sum())
    return matches, source_classes


def _n_matches(state: KernelState) -> int:
    return int(state.confusion.trace())


def _climb_from(entries: Entries, state: KernelState, start: np.ndarray) -> RunResult:
    """Climb from a map (K,), and find the best permutation and climb in turn, until neither helps."""
    improve(entries.kernel_inputs, state, start, 0, 0, 1.0, 1.0, 0)
    return _permute_and_climb(entries, state)


def _permute_and_climb(entries: Entries, state: KernelState) -> RunResult:
    """Find the best permutation and climb from it in turn, until neither helps."""
    labels, predicted = linear_sum_assignment(state.confusion, maximize=True)
    if state.confusion[labels, predicted].sum() <= _n_matches(state):
        return _n_matches(state), state.chosen.copy()
    return _climb_from(entries, state, state.chosen[predicted])
