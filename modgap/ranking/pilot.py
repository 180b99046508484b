"""Short fine-tunings of the first known sources of a ranking, whose errors on other samples decide which is best."""

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
from modgap.ranking.plan import RankPlan
from modgap.ranking.scores import PILOT
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.stages import run_stage
from modgap.ranking.standings import compute_error_standings, decode_errors, error_arrays
from modgap.ranking.types import ALL, BASELINE, CONTROL, SOURCE, JobCounts, Pilot, ScoreTable, SourceRow
from modgap.sources import control_name, open_source
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry
from modgap.targets import TargetRequest
from modgap.training import pilot as training
from modgap.training.pilot import PilotErrors

TRAINING_COST = 6
"""About how many times as long a sample takes in an update as in a pass: 5 for ViT, 9 for EfficientNet."""

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
    device: str = field(compare=False)
    target: TargetRequest = field(compare=False)

    def identity(self) -> dict[str, object]:
        """Return the fields that are compared, and the settings and versions of the training."""
        named = {name: value for name, value in asdict(self).items() if name not in ("device", "target")}
        shared = {"samples": training.PILOT_SAMPLES, "version": 8}
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
            options: dict[str, Any] = {"device": device, "weight": self.weight}
            result = training.short_fine_tuning(name, source, target, self.seed, **options)
        return replace(result, seconds=time.perf_counter() - began)


def run_pilots(
    plan: RankPlan,
    rows: Sequence[SourceRow],
    extracted: Mapping[int, Extracted],
    baselines: Mapping[int, BaselineJob],
) -> tuple[Pilot, JobCounts]:
    """Fine-tune the first known sources of a ranking shortly, and then measure what the best of them should beat.

    This is its random-weights control, which is fine-tuned in the same way, and the baselines.

    Args:
        plan: The plan of the ranking, whose request says how many sources, and whose known sources say which.
        rows: The rows of the ranking.
        extracted: References to the outputs of each source and control that could be run, by its index.
        baselines: Cross-validation of each baseline, by its index.

    Returns:
        Errors of the sources, of the control and of the baselines, and numbers of jobs.
    """
    sources = {rows[index].name: index for index in extracted if rows[index].kind == SOURCE}
    in_order = [sources[name] for name in plan.known.order(list(sources))]
    number = len(in_order) if plan.request.pilot == ALL else int(plan.request.pilot)
    keys = {index: one.key for index, one in extracted.items()} | {index: one.key for index, one in baselines.items()}
    results: dict[int, PilotErrors] = {}
    failures: dict[int, Failure] = {}
    counts = []

    def run(stage: str, indices: Sequence[int]) -> None:
        jobs = {index: _job(plan, rows[index], keys[index]) for index in indices}
        if stage == "pilot":
            _tell_time(plan, {index: extracted[index] for index in indices}, jobs, rows)
        found, of_stage = run_stage(stage, list(jobs.values()), plan.backend, plan.monitor, plan.device)
        counts.append(of_stage)
        for index, job in jobs.items():
            if isinstance(result := found[job], Failure):
                failures[index] = result
            else:
                results[index] = result

    run("pilot", in_order[:number])
    first = _table(rows, results, failures, in_order).first_source
    if first is not None:
        control = (control_name(rows[first].name), CONTROL)
        compared = [index for index in extracted if (rows[index].name, rows[index].kind) == control]
        if compared := [*compared, *baselines]:
            run("pilot baselines", compared)
    one = next(iter(results.values()), None)
    trained, judged = (0, 0) if one is None else (one.trained, len(one.errors.errors))
    numbers = (training.PILOT_EPOCHS, len(training.PILOT_RATES), trained, judged)
    pilot = Pilot(_table(rows, results, failures, in_order), *numbers, results)
    return pilot, JobCounts(*(sum(column) for column in zip(*counts, strict=True)))


def _job(plan: RankPlan, row: SourceRow, key: str) -> PilotJob:
    samples = plan.request.samples
    options = samples.seed, plan.request.errors.weight, samples.input_size
    return PilotJob(row.name, row.kind, key, *options, samples.device, plan.target)


def _tell_time(
    plan: RankPlan, extracted: Mapping[int, Extracted], jobs: Mapping[int, PilotJob], rows: Sequence[SourceRow]
) -> None:
    """Log how long the fine-tunings of sources, and of the control of the best, will take."""
    missing = [index for index, job in jobs.items() if job.load_cached() is None]
    seconds = [_expected_seconds(extracted[index], plan) for index in missing]
    if any(seconds):
        with_control = plan.request.controls
        side_by_side = max(sum(seconds) / plan.side_by_side(len(seconds)), max(seconds))
        log.info(
            "A fine-tuning of %s (%s) for ten epochs at three rates%s takes about %s.",
            count(len(missing), "source"),
            ", ".join(rows[index].name for index in missing),
            ", and of the random-weights control of the best," if with_control else "",
            format_duration(side_by_side + (max(seconds) if with_control else 0.0)),
        )


def _table(
    rows: Sequence[SourceRow],
    results: Mapping[int, PilotErrors],
    failures: Mapping[int, Failure],
    in_order: Sequence[int],
) -> ScoreTable:
    """Return the table of errors, with the reason where there is none; equal errors are in a given order."""
    numbers = range(len(rows))
    places = np.full(len(numbers), len(numbers))
    places[list(in_order)] = range(len(in_order))
    errors = [results[index].errors if index in results else None for index in numbers]
    more = {index: result.training_variance for index, result in results.items()}
    standings = replace(compute_error_standings(PILOT, errors, more), places=places)
    reasons = [failures[index].reason if index in failures else "" for index in numbers]
    return ScoreTable.of_rows(PILOT.name, rows, standings, reasons, by_sample=True)


def _expected_seconds(source: Extracted, plan: RankPlan) -> float:
    """Return about how long all trainings of a source take, in seconds; 0 if the time of its pass is not known."""
    # With a limit, the target may have more samples than the pass.
    is_limited = source.samples == plan.request.samples.limit
    half = (training.PILOT_SAMPLES if is_limited else min(training.PILOT_SAMPLES, source.samples)) / 2
    n_trainings = len(training.PILOT_RATES) + training.PILOT_SEEDS - 1
    passes = n_trainings * half * (TRAINING_COST * training.PILOT_EPOCHS + 1)
    return passes * source.seconds / max(1, source.samples)
