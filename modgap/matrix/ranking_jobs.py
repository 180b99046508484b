"""Jobs of many rankings: which there are, how long they take, and how a worker runs one."""

import functools
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from modgap.errors import InputError, first_line
from modgap.forward.inference_setup import LogitsRequest
from modgap.matrix.finished_jobs import FinishedJob
from modgap.matrix.job_list import JobList, PlannedJob
from modgap.ranking.backends import Backend
from modgap.ranking.devices import list_devices
from modgap.ranking.extraction import Extracted
from modgap.ranking.failure import Failure
from modgap.ranking.jobs import ExtractJob
from modgap.ranking.plan import CONTROL_PREFIX, RankPlan, list_rows, plan_ranking
from modgap.ranking.raw_values import RAW
from modgap.ranking.score_tables import score_jobs
from modgap.ranking.source_patterns import split_input_size
from modgap.ranking.types import RankRequest
from modgap.sources import SourceInfo, source_infos

__all__ = ["estimate_seconds", "plan_jobs", "ranking_runner"]

SAMPLES = 2000
"""Number of samples of a target whose size is not known before it is read."""
SECONDS_PER_PARAMETER = {"image": 1e-8, "sound": 7e-9, "text": 4e-10}
"""Seconds of one core for one sample and one parameter, by the kind of the source's input.

They are the middle of what the packaged sources take: 1.2e-8 (efficientnet-lite0) and 2.5e-8 (ppocr) for images, 3e-9
(crepe) to 1.3e-8 (resemblyzer) for sound, and 4e-10 (minilm) for sentences. Convolutional networks use a parameter at
many places of their input, so that their time grows with its size.
"""
NOT_STORED = Failure("The results could not be written to the cache, as happens when the disk is full.")
SECONDS_PER_JOB = 5.0
"""Seconds of a job besides the pass: reading, loading, and scores."""


def plan_jobs(targets: Sequence[str], sources: Sequence[str], request: RankRequest) -> tuple[PlannedJob, ...]:
    """Return one job for each row of each ranking: sources, their random-weights controls, and raw values.

    Raises:
        UsageError: If there are no sources, or if a source has the name of the raw values.
    """
    rows = [row.name for row in list_rows(sources, request)]
    seconds = {name: estimate_seconds(name, request) for name in rows}
    return tuple(PlannedJob(target, name, seconds[name]) for target in targets for name in rows)


def estimate_seconds(source: str, request: RankRequest) -> float | None:
    """Return about how many seconds of one core a job of a source takes; None if its size is not known.

    The estimate is proportional to the numbers of samples and of parameters, and to the area of images.
    """
    if source == RAW:
        return SECONDS_PER_JOB
    name, size = split_input_size(source.removeprefix(CONTROL_PREFIX))
    info = _infos().get(name)
    if info is None:
        return None
    rate = SECONDS_PER_PARAMETER.get(info.input.split(",")[0].split()[0], SECONDS_PER_PARAMETER["sound"])
    own_size = re.search(r"(\d+) px", info.input)
    area = (size / int(own_size[1])) ** 2 if size and own_size else 1.0
    return SECONDS_PER_JOB + (request.samples.limit or SAMPLES) * info.parameters * rate * area


@functools.cache
def _infos() -> dict[str, SourceInfo]:
    """Return the descriptions of the sources with a short name."""
    return {info.name: info for info in source_infos()}


def ranking_runner(jobs: JobList) -> Callable[[PlannedJob], FinishedJob]:
    """Return the function that runs the jobs of a list in this process.

    Raises:
        UsageError: If this machine lacks the device of the jobs, so that all of them would fail.
    """
    list_devices(jobs.request.samples.device)
    sources = tuple(dict.fromkeys(job.source for job in jobs.jobs if job.source != RAW))
    return _Runner(jobs, sources).run


@dataclass
class _Runner:
    """Runs jobs, and keeps what it knows of the targets."""

    jobs: JobList
    sources: tuple[str, ...]
    plans: dict[str, RankPlan] = field(default_factory=dict)

    def run(self, job: PlannedJob) -> FinishedJob:
        """Compute the pass and the scores of a job, as far as they are not in the cache."""
        start = time.perf_counter()
        plan = self._plan(job.target)
        if isinstance(plan, Failure):
            return FinishedJob(job.id, "failed", plan.reason, time.perf_counter() - start)
        extracted = ExtractJob(job.source, plan.target_options, _pass_request(plan))()
        if isinstance(extracted, Failure):
            # Not every target has raw values, and not every source has random weights; nobody asked for these rows.
            is_extra = job.source == RAW or job.source.startswith(CONTROL_PREFIX)
            status: Literal["undefined", "failed"] = "undefined" if is_extra else "failed"
            return FinishedJob(job.id, status, extracted.reason, time.perf_counter() - start)
        result = _score(extracted, plan)
        seconds = time.perf_counter() - start
        if isinstance(result, Failure):
            return FinishedJob(job.id, "failed", result.reason, seconds)
        return FinishedJob(job.id, "done", "", seconds, result)

    def _plan(self, target: str) -> RankPlan | Failure:
        """Return what is known of a target, or why it cannot be read now; a later job tries again."""
        if target not in self.plans:
            try:
                options = {"name": target, "pseudo_classes": self.jobs.pseudo_classes_of(target)}
                self.plans[target] = plan_ranking(options, self.sources[:1], self.jobs.request, Backend("serial"))
            except InputError as error:
                return Failure(str(error))
        return self.plans[target]


def _score(extracted: Extracted, plan: RankPlan) -> bool | Failure:
    """Compute the scores of a source; return False if these and the pass were in the cache."""
    computed = not extracted.cached
    try:
        for name in plan.scores:
            for job in score_jobs(extracted, name, plan):
                if job.load_cached() is not None:
                    continue
                computed = True
                result = job()
                if isinstance(result, Failure) and not result.is_result:
                    return result
                if job.load_cached() is None:
                    return NOT_STORED
    except Exception as error:  # A library may fail in any way; the other jobs go on.
        return Failure(f"{type(error).__name__}: {first_line(error)}")
    return computed


def _pass_request(plan: RankPlan) -> LogitsRequest:
    return LogitsRequest(plan.request.samples, plan.request.head, surrogate=plan.needs_surrogate)
