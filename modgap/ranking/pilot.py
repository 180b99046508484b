"""Short fine-tuning of the first sources of a ranking, whose errors on other samples decide which is best."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.errors import count, format_duration
from modgap.jobs import Failure, failure_of, fix_threads, hold_device
from modgap.ranking.extraction import Extracted
from modgap.ranking.field_baselines import BASELINE_PREFIX, BaselineJob, baseline_errors_after_pilot
from modgap.ranking.plan import RankPlan
from modgap.ranking.scores import PILOT
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.stages import run_stage
from modgap.ranking.standings import compute_error_standings, decode_errors, error_arrays
from modgap.ranking.types import BASELINE, CONTROL, SOURCE, JobCounts, Pilot, ScoreTable, SourceRow
from modgap.sources import CONTROL_PREFIX
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import CacheEntry, Codec, cache_key, cached, find_cached
from modgap.targets import TargetRequest

if TYPE_CHECKING:
    from modgap.transfer.pilot import PilotErrors

__all__ = ["PilotJob", "run_pilot"]

KIND = "pilots"
"""Kind of the cache entries of pilots."""
TRAINING_COST = 6
"""About how many times as long a sample takes in an update as in a pass: 5 for ViT, 9 for EfficientNet."""

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class PilotJob:
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

    source: str
    kind: str
    outputs_key: str
    seed: int
    weight: str | None
    input_size: int | None
    device: str = field(compare=False)
    target: TargetRequest = field(compare=False)

    @property
    def key(self) -> str:
        """Key of the result in the cache."""
        return cache_key(self._identity())

    def _identity(self) -> dict[str, Any]:
        from modgap.transfer.pilot import PILOT_RATES, PILOT_SAMPLES, PILOT_SEEDS, SETTINGS, TEXT_SETTINGS

        named = {name: value for name, value in asdict(self).items() if name not in ("device", "target")}
        shared = {"samples": PILOT_SAMPLES, "version": 4}
        if self.kind == BASELINE:
            return {**named, **shared, "algorithms": algorithm_versions("reading")}
        settings = {"settings": [*SETTINGS, *TEXT_SETTINGS], "rates": PILOT_RATES, "seeds": PILOT_SEEDS}
        return {**named, **shared, **settings, "algorithms": algorithm_versions("reading", "inference", "training")}

    def load_cached(self) -> "PilotErrors | None":
        """Return the result from the cache. None if there is none."""
        return find_cached(KIND, self.key, self._decode)

    def _encode(self, result: "PilotErrors") -> CacheEntry:
        arrays = {"trained": np.array([result.trained]), "by_training": result.by_training}
        record = {"job": self._identity(), "settings": list(result.settings)}
        return CacheEntry(error_arrays(result.errors) | arrays, record)

    def _decode(self, entry: CacheEntry) -> "PilotErrors":
        from modgap.transfer.pilot import PilotErrors

        trained, by_training = int(entry.arrays["trained"][0]), np.array(entry.arrays["by_training"])
        errors = decode_errors(entry.arrays, self.seed)
        return PilotErrors(errors, trained, by_training, tuple(entry.metadata["settings"]))

    def __call__(self) -> "PilotErrors | Failure":
        """Return the result from the cache, or fine-tune the source, or return the reason why that failed."""
        try:
            return cached(KIND, self.key, self._compute, Codec(self._encode, self._decode))
        except Exception as error:  # Third-party models may fail in any way; the row of the source shows the reason.
            return failure_of(error)

    def _compute(self) -> "PilotErrors":
        from modgap.sources import open_source
        from modgap.transfer.pilot import short_fine_tuning

        fix_threads()
        target = self.target.open()
        if self.kind == BASELINE:
            name = self.source.removeprefix(BASELINE_PREFIX)
            return baseline_errors_after_pilot(name, target, self.seed, weight=self.weight)
        name, size = split_input_size(self.source)
        with hold_device(self.device) as device, _only_warnings():
            source = open_source(name).load(size or self.input_size, head=False)
            return short_fine_tuning(name, source, target, self.seed, device=device, weight=self.weight)


@contextmanager
def _only_warnings() -> Iterator[None]:
    """Log warnings alone within a block: the progress of the training is no message of the ranking."""
    log = logging.getLogger("modgap")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def run_pilot(
    plan: RankPlan,
    rows: Sequence[SourceRow],
    table: ScoreTable,
    extracted: Mapping[int, Extracted],
    baselines: Mapping[int, BaselineJob],
) -> tuple[Pilot, JobCounts]:
    """Fine-tune the first sources of a ranking shortly, and then measure what the best of them should beat.

    This is its random-weights control, which is fine-tuned in the same way, and the baselines.

    Args:
        plan: The plan of the ranking, whose request says how many.
        rows: The rows of the ranking.
        table: Table of the score that the sources are ranked by.
        extracted: References to the outputs of each source and control that could be run, by its index.
        baselines: Cross-validation of each baseline, by its index.

    Returns:
        Errors of the sources, and numbers of jobs.
    """
    from modgap.transfer.pilot import PILOT_EPOCHS, PILOT_RATES

    chosen = table.source_order[: plan.request.pilot]
    keys = {index: one.key for index, one in extracted.items()} | {index: job.key for index, job in baselines.items()}
    jobs = _jobs(plan, rows, chosen, keys)
    _tell_time(plan, [extracted[index] for index, job in jobs.items() if job.load_cached() is None])
    by_row, counts = _measure("pilot", plan, rows, chosen, keys)
    pilot_table = _pilot_table(rows, by_row)
    if compared := _compared(rows, pilot_table.first_source, keys):
        of_compared, more = _measure("pilot baselines", plan, rows, compared, keys)
        by_row |= of_compared
        pilot_table = _pilot_table(rows, by_row)
        counts = JobCounts(*(one + other for one, other in zip(counts, more, strict=True)))
    results = {index: result for index, result in by_row.items() if not isinstance(result, Failure)}
    one = next(iter(results.values()), None)
    trained, judged = (0, 0) if one is None else (one.trained, len(one.errors.errors))
    return Pilot(pilot_table, PILOT_EPOCHS, len(PILOT_RATES), trained, judged, results), counts


def _pilot_table(rows: Sequence[SourceRow], by_row: Mapping[int, "PilotErrors | Failure"]) -> ScoreTable:
    """Return the table of the errors of all rows, with the reason where one could not be measured."""
    measured = {index: result for index, result in by_row.items() if not isinstance(result, Failure)}
    errors = [measured[index].errors if index in measured else None for index in range(len(rows))]
    more = {index: result.training_variance for index, result in measured.items()}
    standings = compute_error_standings(PILOT, errors, more)
    failures = {index: result.reason for index, result in by_row.items() if isinstance(result, Failure)}
    reasons = tuple(failures.get(index, "") for index in range(len(rows)))
    is_source = np.array([row.kind == SOURCE for row in rows])
    return ScoreTable(PILOT.name, False, standings, standings.among(is_source), reasons, by_sample=True)


def _measure(
    stage: str,
    plan: RankPlan,
    rows: Sequence[SourceRow],
    indices: Sequence[int],
    keys: Mapping[int, str],
) -> tuple[dict[int, "PilotErrors | Failure"], JobCounts]:
    """Return the result of each of these rows, and numbers of jobs."""
    jobs = _jobs(plan, rows, indices, keys)
    results, counts = run_stage(stage, list(jobs.values()), plan.backend, plan.monitor, plan.device)
    return {index: results[job] for index, job in jobs.items()}, counts


def _jobs(
    plan: RankPlan, rows: Sequence[SourceRow], indices: Sequence[int], keys: Mapping[int, str]
) -> dict[int, PilotJob]:
    samples = plan.request.samples
    return {
        index: PilotJob(
            rows[index].name,
            rows[index].kind,
            keys[index],
            samples.seed,
            plan.request.errors.weight,
            samples.input_size,
            samples.device,
            plan.target,
        )
        for index in indices
    }


def _tell_time(plan: RankPlan, sources: Sequence[Extracted]) -> None:
    """Log how long the trainings of sources, and of the control of the best, take by the seconds of their passes."""
    limit = plan.request.samples.limit
    seconds = [_expected_seconds(source, source.samples == limit) for source in sources]
    if any(seconds):
        total = sum(seconds) / plan.side_by_side(len(seconds)) + max(seconds)
        log.info(
            "A short fine-tuning of %s, and of the random-weights control of the best, takes about %s.",
            count(len(sources), "source"),
            format_duration(total),
        )


def _expected_seconds(source: Extracted, is_limited: bool) -> float:
    """Return about how long all trainings of a source take, in seconds; 0 if the time of its pass is not known.

    Args:
        source: The source.
        is_limited: True if the target may have more samples than the pass.
    """
    from modgap.transfer.pilot import PILOT_EPOCHS, PILOT_RATES, PILOT_SAMPLES, PILOT_SEEDS

    half = (PILOT_SAMPLES if is_limited else min(PILOT_SAMPLES, source.samples)) / 2
    n_trainings = len(PILOT_RATES) + PILOT_SEEDS - 1
    return n_trainings * half * (TRAINING_COST * PILOT_EPOCHS + 1) * source.seconds / max(1, source.samples)


def _compared(rows: Sequence[SourceRow], first: int | None, keys: Mapping[int, str]) -> list[int]:
    """Return the indices of the random-weights control of the first source, and of the baselines.

    Those that are not in the ranking are left out, and all are if no source has an error.
    """
    if first is None:
        return []
    control = (f"{CONTROL_PREFIX}{rows[first].name}", CONTROL)
    return [i for i in sorted(keys) if (rows[i].name, rows[i].kind) == control or rows[i].kind == BASELINE]
