"""Short fine-tunings of the sources of a ranking, whose errors on other samples, with a history, decide which is best.

The next steps depend on the seconds that results took where they were computed, and never on the clock, so that an
interrupted ranking takes the same steps again.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from modgap.errors import count, format_duration
from modgap.jobs import Failure, hold_device
from modgap.process.log_messages import only_messages_from
from modgap.ranking.cached_job import CachedJob
from modgap.ranking.extraction import Extracted
from modgap.ranking.field_baselines import BASELINE_PREFIX, BaselineJob, baseline_errors_after_pilot
from modgap.ranking.history.choice import TOO_SHORT, HistoryChoice, PilotError, choose_source
from modgap.ranking.history.lines import Setup, pilot_variable
from modgap.ranking.plan import RankPlan
from modgap.ranking.scores import CHANCE, FORECAST, PILOT
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.stages import run_stage
from modgap.ranking.standings import Standings, compute_error_standings, decode_errors, error_arrays
from modgap.ranking.types import ALL, BASELINE, CONTROL, SOURCE, Choice, JobCounts, Pilot, ScoreTable, SourceRow
from modgap.sources import control_name, open_source
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry
from modgap.targets import TargetRequest
from modgap.training import pilot as training
from modgap.training.pilot import PilotErrors

TRAINING_COST = 6
"""About how many times as long a sample takes in an update as in a pass: 5 for ViT, 9 for EfficientNet."""
FEW_EPOCHS = 3
"""Epochs of the pilots of all sources."""
FEWEST = 2
"""Fewest sources of pilots of all, whatever the time."""
WORTH_MORE = 0.05
"""Smallest probability of being best of sources that are worth a fine-tuning at three rates."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class PilotJob(CachedJob[PilotErrors]):
    """Short fine-tuning of one source, or the fit of a baseline to the same samples.

    Attributes:
        source: Name of the row: that of a source, or that of a baseline.
        kind: Kind of the row.
        outputs_key: Cache key of the source's outputs, which depends on its weights and on the target's data, or of the
            baseline's cross-validation.
        seed: Seed of the samples and of everything random.
        weight: What counts equally in the error. None for the default.
        input_size: Height and width of the source's input in pixels. None for its own.
        epochs: Epochs of one fine-tuning at one rate; None for ten epochs at three rates, and for baselines.
        device: Device to train on.
        target: The target as the user names it, with absolute paths.
    """

    cache_kind = "pilots"
    source: str
    kind: str
    outputs_key: str
    seed: int
    weight: str | None
    input_size: int | None
    epochs: int | None
    device: str = field(compare=False)
    target: TargetRequest = field(compare=False)

    def identity(self) -> dict[str, object]:
        """Return the fields that are compared, and the settings and versions of the training."""
        named = {name: value for name, value in asdict(self).items() if name not in ("device", "target")}
        shared = {"samples": training.PILOT_SAMPLES, "version": 7}
        if self.kind == BASELINE:
            return {**named, **shared, "algorithms": algorithm_versions("reading")}
        settings: dict[str, object] = {"settings": [*training.SETTINGS, *training.TEXT_SETTINGS]}
        settings |= {"rates": training.PILOT_RATES, "seeds": training.PILOT_SEEDS}
        return {**named, **shared, **settings, "algorithms": algorithm_versions("reading", "inference", "training")}

    def _encode(self, result: PilotErrors) -> CacheEntry:
        arrays = {"trained": np.array([result.trained]), "by_training": result.by_training}
        arrays |= {"seconds": np.array([result.seconds]), "labeled": np.array([result.labeled])}
        record = {"job": self.identity(), "settings": list(result.settings)}
        return CacheEntry(error_arrays(result.errors) | arrays, record)

    def _decode(self, entry: CacheEntry) -> PilotErrors:
        trained, by_training = int(entry.arrays["trained"][0]), np.array(entry.arrays["by_training"])
        errors, settings = decode_errors(entry.arrays, self.seed), tuple(entry.metadata["settings"])
        seconds, labeled = float(entry.arrays["seconds"][0]), int(entry.arrays["labeled"][0])
        return PilotErrors(errors, trained, by_training, settings, seconds, labeled)

    def _compute(self) -> PilotErrors:
        began = time.perf_counter()
        target = self.target.open()
        if self.kind == BASELINE:
            name = self.source.removeprefix(BASELINE_PREFIX)
            return baseline_errors_after_pilot(name, target, self.seed, weight=self.weight)
        name, size = split_input_size(self.source)
        with hold_device(self.device) as device, only_messages_from(logging.WARNING):
            source = open_source(name).load(size or self.input_size, head=False)
            options: dict[str, Any] = {"epochs": self.epochs, "device": device, "weight": self.weight}
            result = training.short_fine_tuning(name, source, target, self.seed, **options)
        return replace(result, seconds=time.perf_counter() - began)


def run_pilots(
    plan: RankPlan,
    rows: Sequence[SourceRow],
    table: ScoreTable,
    extracted: Mapping[int, Extracted],
    baselines: Mapping[int, BaselineJob],
) -> tuple[Pilot, Choice | None, JobCounts]:
    """Fine-tune sources of a ranking shortly, and then measure what the best of them should beat.

    This is its random-weights control, which is fine-tuned in the same way, and the baselines, which are compared with
    sources after ten epochs at three rates alone: after few epochs all sources have high errors.

    Args:
        plan: The plan of the ranking, whose request says how many, and for how long.
        rows: The rows of the ranking.
        table: Table of the score that the sources are ranked by.
        extracted: References to the outputs of each source and control that could be run, by its index.
        baselines: Cross-validation of each baseline, by its index.

    Returns:
        Errors of the sources, what they tell with the history, and numbers of jobs.
    """
    request = plan.request
    pilots = _Pilots(plan, rows, extracted, baselines, table.source_order)
    if request.pilot == ALL:
        epochs, order = request.pilot_epochs or FEW_EPOCHS, pilots.order_of_pilots()
        # The first tell how long pilots take beside passes.
        pilots.measure(order if request.minutes is None else order[:FEWEST], epochs)
        if request.minutes is not None and (others := pilots.affordable(order[FEWEST:], epochs)):
            pilots.measure(others, epochs)
        if request.minutes is not None and request.pilot_epochs is None:
            while more := pilots.affordable(pilots.worth_more(), None):
                pilots.measure(more, None)
    else:
        pilots.measure(pilots.order()[: int(request.pilot)], request.pilot_epochs)
    pilots.compare()
    return pilots.result(), pilots.choice(), pilots.counts


@dataclass
class _Pilots:
    """Pilots of a ranking, as far as they were run.

    Attributes:
        plan: The plan of the ranking.
        rows: The rows of the ranking.
        extracted: References to the outputs of sources and controls, by the index of the row.
        baselines: Cross-validation of each baseline, by its index.
        by_score: Indices of the sources that have a value by the score, best first.
        results: By epochs (None for ten at three rates), the result of each row that has one, by its index.
        failures: The same of rows whose trainings failed.
        counts: Numbers of jobs.
    """

    plan: RankPlan
    rows: Sequence[SourceRow]
    extracted: Mapping[int, Extracted]
    baselines: Mapping[int, BaselineJob]
    by_score: Sequence[int]
    results: dict[int | None, dict[int, PilotErrors]] = field(default_factory=dict)
    failures: dict[int | None, dict[int, Failure]] = field(default_factory=dict)
    counts: JobCounts = field(default_factory=lambda: JobCounts(0, 0))
    _latest: tuple[int, HistoryChoice | None] | None = None

    # The next steps

    def order_of_pilots(self) -> list[int]:
        """Return the sources in the order in which pilots of few of them tell most."""
        choice, sources = self._told(), self._sources()
        return [sources[number] for number in choice.pilots_first] if choice else list(self.by_score)

    def order(self) -> list[int]:
        """Return the sources by what is known, the best first: history and pilots, or else the pilots or the score."""
        choice, sources = self._told(), self._sources()
        if choice is not None and not self._pilots_decide(choice):
            return [sources[number] for number in choice.order]
        measured = [self._table(epochs).source_order for epochs in sorted(self.results, key=_most_epochs)]
        return list(dict.fromkeys(index for order in (*measured, self.by_score) for index in order if index in sources))

    def _pilots_decide(self, choice: HistoryChoice) -> bool:
        """Return True if the history is too short, and sources were fine-tuned at three rates."""
        return choice.status == TOO_SHORT and bool(self._table(None).source_order)

    def worth_more(self) -> list[int]:
        """Return the sources that could be the best and were not yet fine-tuned at three rates, the best first."""
        done, choice = self.results.get(None, {}), self._told()
        chances = dict(zip(self._sources(), choice.after.best.tolist(), strict=True)) if choice else {}
        return [index for index in self.order() if index not in done and chances.get(index, 1) >= WORTH_MORE]

    def affordable(self, indices: Sequence[int], epochs: int | None) -> list[int]:
        """Return the first of some sources whose pilots end within the request's minutes, by expected seconds.

        The control of one of them has to end too.

        Args:
            indices: Indices of the sources.
            epochs: Epochs of one fine-tuning; None for ten at three rates.
        """
        minutes = self.plan.request.minutes
        if minutes is None:
            return list(indices)
        seconds = [self.expected_seconds(index, epochs) for index in indices]
        left = 60 * minutes - self.spent_seconds()
        costs = [self._side_by_side(seconds[:n]) + max(seconds[:n]) for n in range(1, len(seconds) + 1)]
        return list(indices[: sum(cost <= left for cost in costs)])

    # Time

    def expected_seconds(self, index: int, epochs: int | None) -> float:
        """Return about how long the trainings of a source take: by its pass, and by how pilots compare with passes."""
        times = [
            (result.seconds, _seconds_by_pass(self.extracted[row], self.plan, of_epochs))
            for of_epochs, by_row in self.results.items()
            for row, result in by_row.items()
            if row in self.extracted and result.seconds
        ]
        measured, expected = (sum(column) for column in zip(*times, strict=True)) if times else (1.0, 1.0)
        ratio = measured / expected if expected else 1.0
        return ratio * _seconds_by_pass(self.extracted[index], self.plan, epochs)

    def spent_seconds(self) -> float:
        """Return how long the passes and pilots took where they were computed, side by side as they run here."""
        pilots = [result.seconds for by_row in self.results.values() for result in by_row.values()]
        return self._side_by_side([one.seconds for one in self.extracted.values()]) + self._side_by_side(pilots)

    def _side_by_side(self, seconds: Sequence[float]) -> float:
        return max(sum(seconds) / self.plan.side_by_side(len(seconds)), max(seconds)) if seconds else 0.0

    def _tell_time(self, indices: Sequence[int], epochs: int | None) -> None:
        """Log how long the trainings of sources, and of the control of the best, take."""
        jobs = self._jobs(indices, epochs)
        seconds = [self.expected_seconds(index, epochs) for index, job in jobs.items() if job.load_cached() is None]
        if any(seconds):
            has_controls = any(self.rows[index].kind == CONTROL for index in self.extracted)
            total = self._side_by_side(seconds) + (max(seconds) if has_controls else 0.0)
            limit = 60 * (self.plan.request.minutes or np.inf) - self.spent_seconds()
            log.info(
                "A fine-tuning of %s %s%s takes about %s.%s",
                count(len(seconds), "source"),
                "for ten epochs at three rates" if epochs is None else f"for {count(epochs, 'epoch')}",
                ", and of the random-weights control of the best," if has_controls else "",
                format_duration(total),
                " That is above the limit, but fewer sources cannot be compared." if total > limit else "",
            )

    # Pilots

    def measure(self, indices: Sequence[int], epochs: int | None) -> None:
        """Fine-tune some sources, or take their results from the cache."""
        self._tell_time(indices, epochs)
        self._run("more pilots" if self.results else "pilot", indices, epochs)

    def compare(self) -> None:
        """Measure what the best source should beat: its random-weights control, and the baselines after ten epochs."""
        first, epochs = self._first(), self._deciding_epochs()
        if first is None or first not in self.results[epochs]:
            return
        control = (control_name(self.rows[first].name), CONTROL)
        baselines = self.baselines if epochs is None else {}
        indices = [i for i in self.extracted if (self.rows[i].name, self.rows[i].kind) == control]
        if compared := [*indices, *baselines]:
            self._run("pilot baselines", compared, epochs)

    def _run(self, stage: str, indices: Sequence[int], epochs: int | None) -> None:
        jobs = self._jobs(indices, epochs)
        results, counts = run_stage(stage, list(jobs.values()), self.plan.backend, self.plan.monitor, self.plan.device)
        measured, failures = self.results.setdefault(epochs, {}), self.failures.setdefault(epochs, {})
        for index, job in jobs.items():
            if isinstance(result := results[job], Failure):
                failures[index] = result
            else:
                measured[index] = result
        self.counts = JobCounts(*(one + other for one, other in zip(self.counts, counts, strict=True)))

    def _jobs(self, indices: Sequence[int], epochs: int | None) -> dict[int, PilotJob]:
        samples, weight = self.plan.request.samples, self.plan.request.errors.weight
        keys = {index: one.key for index, one in self.extracted.items()}
        keys |= {index: one.key for index, one in self.baselines.items()}
        jobs = {}
        for index in indices:
            row = self.rows[index]
            options = samples.seed, weight, samples.input_size, None if row.kind == BASELINE else epochs
            jobs[index] = PilotJob(row.name, row.kind, keys[index], *options, samples.device, self.plan.target)
        return jobs

    # Results

    def result(self) -> Pilot:
        """Return the errors after the number of epochs that decides, with those after another one."""
        epochs = self._deciding_epochs()
        others = [self._pilot(other) for other in self.results if other != epochs]
        return replace(self._pilot(epochs), other=others[0] if others else None)

    def choice(self) -> Choice | None:
        """Return what the history and the pilots tell. None without a history."""
        told = self._told()
        if told is None:
            return None
        rows, more = tuple(self._sources()), self.worth_more()
        seconds = self._side_by_side([self.expected_seconds(index, None) for index in more])
        next_ones = (len(more), seconds) if seconds else (0, 0.0)
        table = None if self._pilots_decide(told) else _choice_table(told, rows, self.rows)
        return Choice(told, rows, table, next_ones)

    def _told(self) -> HistoryChoice | None:
        n_results = sum(map(len, self.results.values())) + sum(map(len, self.failures.values()))
        if self._latest is None or self._latest[0] != n_results:
            choice, sketch = None, self.plan.sketch
            names = {index: self.rows[index].name for index in self._sources()}
            if sketch is not None and len(names) > 1:
                pilots = {name: one for index, name in names.items() if (one := self._pilot_error(index))}
                about = self.plan.target.name, sketch, self.plan.request.samples.seed
                choice = choose_source(self.plan.history, list(names.values()), self._setup(), pilots, *about)
            self._latest = n_results, choice
        return self._latest[1]

    def _sources(self) -> list[int]:
        """Return the indices of the sources that could be run, and whose pilots did not fail."""
        failed = {index for by_row in self.failures.values() for index in by_row}
        return [i for i in self.extracted if self.rows[i].kind == SOURCE and i not in failed]

    def _pilot_error(self, index: int) -> PilotError | None:
        """Return the errors of the first trainings of a source, as those of a history are."""
        errors, held_out = {}, 0
        for epochs, by_row in self.results.items():
            if result := by_row.get(index):
                errors[pilot_variable(epochs)] = float(np.clip(result.by_training[0], 0, 1))
                held_out = len(result.errors.errors)
        return PilotError(errors, held_out) if errors else None

    def _setup(self) -> Setup:
        results = [one for by_row in self.results.values() for one in by_row.values()]
        most_samples = max((one.samples for one in self.extracted.values()), default=training.PILOT_SAMPLES)
        labeled = max((one.labeled for one in results), default=0) or min(training.PILOT_SAMPLES, most_samples)
        return Setup(max(1, labeled), training.PILOT_EPOCHS, training.PILOT_RATES)

    def _first(self) -> int | None:
        """Return the source that is best by what is known; None if none has an error."""
        measured = {index for table in map(self._table, self.results) for index in table.source_order}
        first = next(iter(self.order()), None)
        return first if measured else None

    def _deciding_epochs(self) -> int | None:
        """Return the largest number of epochs after which the best source was judged."""
        first = self._first()
        by_epochs = sorted(self.results, key=_most_epochs)
        with_first = [epochs for epochs in by_epochs if first in self.results[epochs]]
        return next(iter([*with_first, *by_epochs]), None)

    def _table(self, epochs: int | None) -> ScoreTable:
        """Return the table of errors, with the reason where one could not be measured.

        Sources with equal errors are in the order that the history tells.
        """
        choice, sources = self._told(), self._sources()
        order = [sources[number] for number in choice.order] if choice else sources
        measured, failures = self.results.get(epochs, {}), self.failures.get(epochs, {})
        numbers = range(len(self.rows))
        places = np.full(len(numbers), len(numbers))
        places[order] = range(len(order))
        errors = [measured[index].errors if index in measured else None for index in numbers]
        more = {index: result.training_variance for index, result in measured.items()}
        standings = replace(compute_error_standings(PILOT, errors, more), places=places)
        reasons = [failures[index].reason if index in failures else "" for index in numbers]
        return ScoreTable.of_rows(PILOT.name, self.rows, standings, reasons, by_sample=True)

    def _pilot(self, epochs: int | None) -> Pilot:
        results = self.results.get(epochs, {})
        one = next(iter(results.values()), None)
        trained, judged = (0, 0) if one is None else (one.trained, len(one.errors.errors))
        length, rates = (training.PILOT_EPOCHS, len(training.PILOT_RATES)) if epochs is None else (epochs, 1)
        return Pilot(self._table(epochs), length, rates, trained, judged, results)


def _most_epochs(epochs: int | None) -> float:
    """Return a key that sorts numbers of epochs, with the most trainings first."""
    return -np.inf if epochs is None else -epochs


def _choice_table(told: HistoryChoice, indices: Sequence[int], rows: Sequence[SourceRow]) -> ScoreTable:
    """Return the table of expected errors, or of probabilities of being best where errors cannot be told."""
    n_rows, score = len(rows), FORECAST if told.tells_errors else CHANCE
    values, intervals = np.full(n_rows, np.nan), np.full((n_rows, 2), np.nan)
    values[list(indices)] = told.after.error if told.tells_errors else told.decisive.best
    if told.tells_errors:
        intervals[list(indices)] = told.after.interval(0.95)
    unknown = np.full((n_rows, n_rows), np.nan)
    standings = Standings(values, intervals, np.stack([unknown, unknown], axis=-1), unknown, score.higher_is_better)
    return ScoreTable.of_rows(score.name, rows, standings, [""] * n_rows, by_sample=False)


def _seconds_by_pass(source: Extracted, plan: RankPlan, epochs: int | None) -> float:
    """Return about how long all trainings of a source take, in seconds; 0 if the time of its pass is not known.

    Args:
        source: The source.
        plan: The plan of the ranking.
        epochs: Epochs of one fine-tuning; None for ten at three rates.
    """
    # With a limit, the target may have more samples than the pass.
    is_limited = source.samples == plan.request.samples.limit
    half = (training.PILOT_SAMPLES if is_limited else min(training.PILOT_SAMPLES, source.samples)) / 2
    rates, seeds = len(training.PILOT_RATES), training.PILOT_SEEDS
    n_trainings, length = (rates + seeds - 1, training.PILOT_EPOCHS) if epochs is None else (1, epochs)
    return n_trainings * half * (TRAINING_COST * length + 1) * source.seconds / max(1, source.samples)
