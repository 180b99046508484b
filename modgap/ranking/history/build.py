"""History for sources that have none: their errors on earlier targets, measured as those of the history that ships.

The targets come in the order of their time, the quickest first. In the model of `modgap.ranking.history.model` the
covariance of what source and target do not explain is the same for every target, so each tells as much about a source
as any other, and the quickest tells most in a given time. In replays no order that looks at the errors of other sources
was better for the same number of targets (docs/history.md).
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError, Progress, UsageError, count, format_duration, visible_name
from modgap.jobs import Backend, Failure, hold_device, without_raising
from modgap.ranking.cached_job import CachedJob
from modgap.ranking.history.lines import CONTROL, PILOT_OF_RATES, TRAINED, VARIABLES, HistoryLine, Setup, history_table
from modgap.ranking.history.measure import (
    ALL,
    CONTROLS,
    EPOCHS,
    HALF,
    LABELED,
    RATES,
    SETTINGS,
    TEXT_SETTINGS,
    Training,
    TrainingErrors,
    best_rate,
    line_of_trainings,
    measure_errors,
    measure_speed,
    n_seeds,
    trainings,
)
from modgap.ranking.history.sketches import TargetSketch, sketch_target
from modgap.ranking.history.store import History, add_to_history, history_folder, known_history, shipped_history
from modgap.ranking.source_patterns import split_input_size, with_input_size
from modgap.sources import absolute_name, is_control, open_source
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, cache_key
from modgap.storage.writable_cache import writable_cache
from modgap.targets import Target, TargetRequest

PACKAGED = "@packaged"
"""Name of the targets of the history that ships with modgap, as far as they are on this machine."""
VERSION = 1
WEIGHTS = ("weights", "model", "tensors", "files")
"""Entries of a source's fingerprint that do not depend on the versions of libraries."""
STAGE = "trainings for the history"
PARTS = (HALF, ALL, CONTROLS)
FEWEST_HOURS = 1 / 3600

log = logging.getLogger("modgap")


# Jobs


@dataclass(frozen=True)
class TrainingJob(CachedJob[TrainingErrors]):
    """One training, whose errors are in the cache.

    Attributes:
        training: The training.
        pair_identity: Checksum of the source's weights, the target's data and everything else that decides the errors.
        device: Device to train on.
    """

    cache_kind = "history_trainings"
    training: Training
    pair_identity: str
    device: str = field(compare=False)

    def identity(self) -> dict[str, object]:
        """Return what differs between the trainings of a pair, and the checksum of the pair."""
        varied = {name: getattr(self.training, name) for name in ("part", "seed", "rate")}
        return {**varied, "identity": self.pair_identity}

    def _compute(self) -> TrainingErrors:
        with hold_device(self.device) as device:
            return measure_errors(self.training, device)

    def _encode(self, errors: TrainingErrors) -> CacheEntry:
        counts = {"trained": errors.trained, "judged": errors.judged, "seconds": errors.seconds}
        return CacheEntry(
            {"errors": np.array([errors.errors[epoch] for epoch in EPOCHS])}, counts | {"job": asdict(self.training)}
        )

    def _decode(self, entry: CacheEntry) -> TrainingErrors:
        record, errors = entry.metadata, entry.arrays["errors"].tolist()
        errors_by_epoch = dict(zip(EPOCHS, errors, strict=True))
        return TrainingErrors(errors_by_epoch, int(record["trained"]), int(record["judged"]), float(record["seconds"]))


@without_raising
def _speed(pair: "Pair", device: str) -> float:
    """Return the seconds of a training on all labeled samples here, which is not cached: a machine may be busy."""
    with hold_device(device) as name:
        return measure_speed(pair.trained_source, pair.trained_target, name)


# The plan


@dataclass(frozen=True)
class Pair:
    """A source and a target whose errors are to be measured.

    Attributes:
        source: Name of the source as the user wrote it, perhaps with the size of its input.
        target: Name of the target as the user wrote it.
        trained_source: The same with an absolute path, since workers may be in another folder.
        trained_target: Likewise.
        source_digest: Checksum of the source's weights.
        identity: Checksum of everything that decides the errors.
    """

    source: str
    target: str
    trained_source: str
    trained_target: str
    source_digest: str
    identity: str

    def trainings(self, results: Mapping[Training, TrainingErrors]) -> list[Training]:
        """Return the trainings of its line that can be named as long as these errors are known."""
        names = self.trained_source, self.trained_target
        halves = {rate: results.get(Training(HALF, *names, 0, rate)) for rate in RATES}
        return trainings(*names, best_rate({rate: half.last for rate, half in halves.items() if half}))

    def missing(self, results: Mapping[Training, TrainingErrors]) -> list[Training]:
        """Return those of them that are not finished."""
        return [one for one in self.trainings(results) if one not in results]


@dataclass(frozen=True)
class BuildPlan:
    """Trainings that a history is built from, and how long they take.

    Attributes:
        pairs: Sources and targets without all errors, in the order of their trainings.
        results: Errors of trainings that are finished.
        costs: Seconds of one training of each part on each target by a source of factor 1.
        factors: Time of each source as a multiple of this; NaN where it could not be measured.
        n_known: Number of sources and targets whose errors are all in the history.
        absent: Targets of the history that ships that are not on this machine.
        notes: Reasons why the time of a source is not known, by source.
        backend: Backend that runs the jobs.
        device: Name of the device to train on.
    """

    pairs: tuple[Pair, ...]
    results: Mapping[Training, TrainingErrors]
    costs: Mapping[str, Mapping[str, float]]
    factors: Mapping[str, float]
    n_known: int
    absent: tuple[str, ...]
    notes: Mapping[str, str]
    backend: Backend
    device: str

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets in order."""
        return tuple(dict.fromkeys(pair.target for pair in self.pairs))

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources in order."""
        return tuple(dict.fromkeys(pair.source for pair in self.pairs))

    @property
    def n_processes(self) -> int:
        """Number of trainings that run side by side."""
        return self.backend.side_by_side(len(self.pairs) * len(RATES), self.device)

    def training_seconds(self, pair: Pair, part: str) -> float:
        """Return about how many seconds a training of a part takes."""
        return self.factors[pair.source] * self.costs[pair.target][part]

    def seconds_left(self, pair: Pair, results: Mapping[Training, TrainingErrors]) -> float:
        """Return about how many seconds the trainings of a pair take that are not finished."""
        missing = pair.missing(results)
        parts = [one.part for one in missing]
        if any(one.part == HALF for one in missing):
            parts += [ALL] * n_seeds(pair.trained_source)
        return sum(self.training_seconds(pair, part) for part in parts)

    def hours(self, targets: int | None = None, source: str | None = None) -> float:
        """Return about how many hours the first targets take, or all, for all sources or one of them."""
        names = self.targets[:targets]
        pairs = [pair for pair in self.pairs if pair.target in names and source in (None, pair.source)]
        return sum(self.seconds_left(pair, self.results) for pair in pairs) / 3600 / self.n_processes

    def targets_within(self, hours: float) -> int:
        """Return the number of targets that all sources are expected to be trained on within some hours."""
        ends = [self.hours(number) for number in range(1, len(self.targets) + 1)]
        return sum(end <= hours for end in ends)


def plan_build(
    sources: Sequence[str],
    targets: Sequence[str] = (PACKAGED,),
    history: History | None = None,
    backend: Backend | None = None,
    device: str = "auto",
) -> BuildPlan:
    """Return what has to be trained and how long that takes, by two short epochs of each source.

    Args:
        sources: Names of the sources, each perhaps with the size of its input, as in `vit-b@128px`.
        targets: Names of the targets; `@packaged` stands for those of the history that ships.
        history: Errors that are known and not measured again. None for those that ship, and those of the user.
        backend: Backend that runs the jobs, on this machine. None for one process on each core.
        device: Device to train on.

    Raises:
        UsageError: If there is no source or no target, or one of them does not exist.
        InputError: If one of them cannot be opened, or a target has no classes.
    """
    backend = backend or Backend()
    history = known_history() if history is None else history
    opened, absent = _open_targets(targets)
    costs = _costs(list(opened))
    order = sorted(opened, key=lambda name: sum(costs[name][one.part] for one in trainings("", name, RATES[0])))
    pairs = list(_pairs(sources, {name: opened[name] for name in order}))
    if not pairs:
        raise UsageError("No source was named. Run `modgap sources` for a list of them.")
    with writable_cache(on_this_machine=backend.is_on_this_machine):
        left = [pair for pair in pairs if not _is_known(pair, history)]
        results: dict[Training, TrainingErrors] = {}
        for _ in range(2):  # The rate of some trainings comes from the errors of others.
            jobs = [TrainingJob(one, pair.identity, device) for pair in left for one in pair.missing(results)]
            results |= {job.training: found for job in jobs if (found := job.load_cached()) is not None}
        factors, notes = _factors(left, results, costs, backend, device)
    return BuildPlan(tuple(left), results, costs, factors, len(pairs) - len(left), absent, notes, backend, device)


def complete_lines() -> list[HistoryLine]:
    """Return the lines of the history that ships that have all errors that a build measures, those of controls too."""
    return [line for line in shipped_history().lines if set(VARIABLES) <= set(line.errors)]


def _open_targets(names: Sequence[str]) -> tuple[dict[str, Target], tuple[str, ...]]:
    """Return the targets by name, and the names of those of complete lines that ship and are not here."""
    opened: dict[str, Target] = {}
    absent: list[str] = []
    for name in dict.fromkeys(names):
        if name != PACKAGED:
            opened[name] = TargetRequest(name).open()
            continue
        for shipped in dict.fromkeys(line.target for line in complete_lines()):
            try:
                target = TargetRequest(shipped).open()
                # The data of a package may be of another version.
                target.fingerprint  # noqa: B018
                opened[shipped] = target
            except InputError:
                absent.append(shipped)
    if not opened:
        raise UsageError(
            "No target of the history that ships with modgap is on this machine. Pass names with `targets`."
        )
    for name, target in opened.items():
        if target.manifest.task != "classification":
            raise InputError(
                f"A history needs one class for each sample, and {visible_name(name)} has the task "
                f"{target.manifest.task}. Leave it out."
            )
    return opened, tuple(absent)


def _pairs(sources: Sequence[str], targets: Mapping[str, Target]) -> Iterator[Pair]:
    """Yield all sources for one target after the other."""
    handles = {}
    for source in dict.fromkeys(sources):
        if is_control(source):
            raise UsageError(f"{source} is a random-weights control, which is trained with its source. Leave it out.")
        handles[source] = open_source(split_input_size(source)[0]).fingerprint()
    setup: dict[str, Any] = {"settings": [*SETTINGS, *TEXT_SETTINGS], "labeled": LABELED, "version": VERSION}
    setup["algorithms"] = algorithm_versions("reading", "inference", "training")
    for name, target in targets.items():
        for source, fingerprint in handles.items():
            base, size = split_input_size(source)
            weights = {entry: fingerprint[entry] for entry in WEIGHTS if entry in fingerprint}
            content = {**setup, "source": fingerprint, "input_size": size, "target": target.fingerprint}
            absolute = with_input_size(absolute_name(base), size)
            path = TargetRequest(name).absolute().name
            yield Pair(source, name, absolute, path, cache_key(weights) if weights else "", cache_key(content))


def _is_known(pair: Pair, history: History) -> bool:
    """Return True if a history has all errors of a source on a target, and its weights are the same, if it tells."""
    source, size = split_input_size(pair.source)
    setup = Setup(LABELED, EPOCHS[-1], RATES, size)
    return any(
        (line.source, line.target, line.setup) == (source, pair.target, setup)
        and line.source_digest in ("", pair.source_digest)
        and set(VARIABLES) <= set(line.errors)
        for line in history.lines
    )


def _costs(targets: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the seconds of a training of each part, as the geometric mean over the sources of the history that ships.

    Of other targets it is the median.
    """
    table = history_table(complete_lines(), Setup(LABELED, EPOCHS[-1], RATES))
    columns = [VARIABLES.index(name) for name in (PILOT_OF_RATES, TRAINED, CONTROL)]
    seconds = np.exp(np.nanmean(np.log(table.seconds[:, :, columns]), axis=0)) / (len(RATES), 1, 1)
    by_name = dict(zip(table.targets, seconds.tolist(), strict=True))
    median = np.median(seconds, axis=0).tolist()
    return {name: dict(zip(PARTS, by_name.get(name, median), strict=True)) for name in targets}


def _factors(
    pairs: Sequence[Pair],
    results: Mapping[Training, TrainingErrors],
    costs: Mapping[str, Mapping[str, float]],
    backend: Backend,
    device: str,
) -> tuple[dict[str, float], dict[str, str]]:
    """Return how many times as long each source takes, by its finished trainings or else by a short one now."""
    factors, notes = {}, {}
    quickest: dict[str, Pair] = {}
    for pair in pairs:
        quickest.setdefault(pair.source, pair)
    for source in quickest:
        done = [(one, p.target) for p in pairs if p.source == source for one in p.trainings(results) if one in results]
        if done:
            expected = sum(costs[target][one.part] for one, target in done)
            factors[source] = sum(results[one].seconds for one, _ in done) / expected
    unknown = [pair for source, pair in quickest.items() if source not in factors]
    jobs = [partial(_speed, pair, device) for pair in unknown]
    for index, seconds in backend.run(jobs, device=device):
        pair = unknown[index]
        if isinstance(seconds, Failure):
            notes[pair.source] = seconds.reason
        else:
            factors[pair.source] = seconds / costs[pair.target][ALL]
    return {source: factors.get(source, np.nan) for source in quickest}, notes


# The run


@dataclass
class BuildResult:
    """A run of a plan: errors and failures so far, what was added to the history, and what it took.

    Attributes:
        plan: The plan.
        folder: Folder of the history.
        results: Errors of the trainings that are finished.
        failures: Reason of each failure by the names of source and target.
        added: The line of each pair with all errors that are known now.
        described: A line of each target without errors, and the sketch of the target.
        n_trained: Number of trainings of this run.
        expected: Seconds on one core that the trainings of this run were expected to take.
        spent: Seconds on one core that they took.
        seconds: Seconds of the run.
    """

    plan: BuildPlan
    folder: Path
    results: dict[Training, TrainingErrors]
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    added: dict[Pair, HistoryLine] = field(default_factory=dict)
    described: dict[str, tuple[HistoryLine, TargetSketch]] = field(default_factory=dict)
    n_trained: int = 0
    expected: float = 0.0
    spent: float = 0.0
    seconds: float = 0.0

    @property
    def lines(self) -> tuple[HistoryLine, ...]:
        """The lines with all errors that are known now."""
        return tuple(self.added.values())

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets on which all sources are finished, in order."""
        unfinished = {pair.target for pair in self.left()} | {target for _, target in self.failures}
        return tuple(target for target in self.plan.targets if target not in unfinished)

    @property
    def n_left(self) -> int:
        """Number of sources and targets without all errors; after the run, because the hours were spent."""
        return len(self.left())

    def ready(self, budget: float) -> list[tuple[Pair, Training]]:
        """Return the next trainings: one for each process, or all of a target if they are expected to end in time.

        Args:
            budget: Seconds on one core that this run may spend.
        """
        if self.spent >= budget:
            return []
        waiting = [(pair, one) for pair in self.left() for one in pair.missing(self.results)]
        of_target = [(pair, one) for pair, one in waiting if pair.target == waiting[0][0].target]
        expected = sum(self.plan.training_seconds(pair, one.part) for pair, one in of_target)
        n_of_target = len(of_target) if self.spent + expected <= budget else 0
        return waiting[: max(self.plan.n_processes, n_of_target)]

    def finish(self, pair: Pair, training: Training, result: TrainingErrors | Failure) -> None:
        """Record a training that ended, and add its errors to the history."""
        if isinstance(result, Failure):
            self.failures[pair.source, pair.target] = result.reason
            return
        self.n_trained += 1
        self.expected += self.plan.training_seconds(pair, training.part)
        self.spent += result.seconds
        self.results[training] = result
        self.add(pair)

    def add(self, pair: Pair) -> None:
        """Add the errors of a pair that are known to the history, unless it has them."""
        try:
            of_target, sketch = self._describe(pair)
        except InputError as error:
            self.failures[pair.source, pair.target] = str(error)
            return
        source, size = split_input_size(pair.source)
        trained = replace(of_target, source=split_input_size(pair.trained_source)[0])
        line = line_of_trainings(trained, self.results, size)
        line = replace(line, source=source, target=pair.target, source_digest=pair.source_digest)
        before = self.added.get(pair)
        if line.errors and (before is None or before.errors != line.errors):
            add_to_history(self.folder, History((line,), {sketch.digest: sketch}))
            self.added[pair] = line

    def _describe(self, pair: Pair) -> tuple[HistoryLine, TargetSketch]:
        """Return a line of the target of a pair without errors, and the sketch of the target, which is read once."""
        source, size = split_input_size(pair.trained_source)
        if pair.target not in self.described:
            target = TargetRequest(pair.trained_target).open()
            table, kind = target.read(), target.manifest.input.kind
            sketch, n_classes = sketch_target(table.samples), len(np.unique(np.asarray(table.class_labels)))
            setup = Setup(LABELED, EPOCHS[-1], RATES, size)
            line = HistoryLine(source, pair.trained_target, kind, len(table), n_classes, setup, {})
            self.described[pair.target] = replace(line, target_digest=sketch.digest), sketch
        return self.described[pair.target]

    def left(self) -> list[Pair]:
        """Return the pairs that did not fail and have trainings left."""
        pairs = [pair for pair in self.plan.pairs if (pair.source, pair.target) not in self.failures]
        return [pair for pair in pairs if pair.missing(self.results)]


def run_build(
    plan: BuildPlan, folder: Path | None = None, hours: float | None = None, progress: Progress | None = None
) -> BuildResult:
    """Do the trainings of a plan, and add their errors to a history as soon as each of them is finished.

    A run that was interrupted goes on where it ended if it is planned again, since finished trainings are in the cache.

    Args:
        plan: The plan.
        folder: Folder of the history. None for the user's.
        hours: Hours after which no training begins, by the seconds of those that are finished. None for no limit.
        progress: Called with the name of the stage and the share of its work done since the last call.

    Raises:
        UsageError: If the hours are less than one second.
    """
    if hours is not None and not hours >= FEWEST_HOURS:
        raise UsageError(f"`hours` is {hours:g}, but it must be at least one second.")
    began = time.perf_counter()
    run = BuildResult(plan, history_folder() if folder is None else folder, dict(plan.results))
    budget = np.inf if hours is None else 3600 * hours * plan.n_processes
    total = sum(plan.seconds_left(pair, run.results) for pair in plan.pairs)
    with writable_cache(on_this_machine=plan.backend.is_on_this_machine), plan.backend:
        for pair in plan.pairs:
            if any(one in run.results for one in pair.trainings(run.results)):
                run.add(pair)
        n_finished = len(run.targets)
        while ready := run.ready(budget):
            jobs = [TrainingJob(training, pair.identity, plan.device) for pair, training in ready]
            for index, result in plan.backend.run(jobs, device=plan.device):
                pair, training = ready[index]
                run.finish(pair, training, result)
                if progress and np.isfinite(total):
                    progress(STAGE, plan.training_seconds(pair, training.part) / total)
            if len(finished := run.targets) > n_finished:
                n_finished = len(finished)
                _tell(run, finished[-1], n_finished, time.perf_counter() - began)
    run.seconds = time.perf_counter() - began
    return run


def _tell(run: BuildResult, target: str, n_finished: int, seconds: float) -> None:
    """Log how far a run is, and about how long the rest takes at the speed so far."""
    left = sum(run.plan.seconds_left(pair, run.results) for pair in run.left()) / run.plan.n_processes
    rest = f", about {format_duration(left * run.spent / run.expected)} left" if left and run.expected > 0 else ""
    log.info(
        "%s is finished for %s: %s of %s after %s%s.",
        target,
        count(len(run.plan.sources), "source"),
        n_finished,
        count(len(run.plan.targets), "target"),
        format_duration(seconds),
        rest if np.isfinite(left) else "",
    )
