"""Rows of the rankings of some targets as one list of independent jobs, of which a command can run a share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modgap.errors import UsageError
from modgap.forward.inference_setup import LogitsRequest
from modgap.jobs import Backend, Failure
from modgap.ranking.extraction import Extracted
from modgap.ranking.jobs import ErrorsJob, ExtractJob, ScoreJob, score_jobs
from modgap.ranking.plan import RankPlan
from modgap.ranking.stages import CACHED, COMPUTED, FAILED, JobMonitor
from modgap.ranking.types import RankRequest

__all__ = ["RowJob", "list_row_jobs", "parse_shard", "run_row_jobs"]

STAGE = "sources"
NOT_STORED = Failure("The results could not be written to the cache, as happens when the disk is full.")


@dataclass(frozen=True)
class RowJob:
    """Pass of one row of a ranking, and all its scores. The results are in the cache.

    Attributes:
        source: Name of the source, of its random-weights control, or of the raw values.
        requested: True if the user named the source.
        target: Keyword arguments of `modgap.targets.open_target`.
        task: Task of the target.
        scores: Names of the scores.
        request: The request of the ranking.
        passes: Samples, device and head of the pass.
    """

    source: str
    requested: bool
    target: Mapping[str, Any]
    task: str
    scores: tuple[str, ...]
    request: RankRequest
    passes: LogitsRequest

    def __call__(self) -> bool | Failure:
        """Compute what is not in the cache, and return whether that was anything, or why the row has no scores."""
        extracted = ExtractJob(self.source, self.target, self.passes)()
        if isinstance(extracted, Failure):
            # Not every target has raw values, and not every source has random weights; nobody asked for these rows.
            return replace(extracted, is_result=not self.requested)
        is_computed = not extracted.cached
        for job in self._score_jobs(extracted):
            if job.load_cached() is not None:
                continue
            is_computed = True
            result = job()
            if isinstance(result, Failure) and not result.is_result:
                return result
            if job.load_cached() is None:
                return NOT_STORED
        return is_computed

    def load_cached(self) -> bool | None:
        """Return False, as nothing has to be computed, if all results are in the cache. None if any is not."""
        extracted = ExtractJob(self.source, self.target, self.passes).load_cached()
        if extracted is None or any(job.load_cached() is None for job in self._score_jobs(extracted)):
            return None
        return False

    def _score_jobs(self, extracted: Extracted) -> Iterable[ScoreJob | ErrorsJob]:
        return (job for name in self.scores for job in score_jobs(extracted, name, self.request, self.task))


def list_row_jobs(plans: Sequence[RankPlan]) -> list[RowJob]:
    """Return a job for each row of each plan, source by source, so that equal shares of the list take about as long.

    Args:
        plans: Plans of the same sources for different targets.
    """
    n_jobs = sum(len(plan.rows) for plan in plans)
    by_target = [[_row_job(row.name, plan, n_jobs) for row in plan.rows] for plan in plans]
    return [job for of_source in zip(*by_target, strict=True) for job in of_source]


def _row_job(name: str, plan: RankPlan, n_jobs: int) -> RowJob:
    passes = plan.pass_request(n_jobs)
    return RowJob(name, name in plan.requested, plan.target_options, plan.task, plan.scores, plan.request, passes)


def run_row_jobs(jobs: Sequence[RowJob], backend: Backend, monitor: JobMonitor) -> list[bool | Failure]:
    """Return, for each job, whether anything was computed, or why its row has no scores.

    A failure is a result if nobody asked for the row, and `NOT_CACHED` if the backend is `cached`.
    """
    results: dict[int, bool | Failure] = {}
    monitor.begin(STAGE, len(jobs))
    device = jobs[0].passes.samples.device if jobs else ""
    for index, result in backend.run(jobs, device=device):
        results[index] = result
        monitor.finish(STAGE, FAILED if _is_error(result) else CACHED if result is False else COMPUTED)
    return [results[index] for index in range(len(jobs))]


def _is_error(result: bool | Failure) -> bool:
    return isinstance(result, Failure) and not result.is_result


def parse_shard(text: str) -> tuple[int, int]:
    """Return the number of a share, from 1, and the number of all shares.

    Args:
        text: Both with a slash between.

    Raises:
        UsageError: If it is not such a text.

    Example:
        >>> parse_shard("2/4")
        (2, 4)
    """
    number, slash, total = text.partition("/")
    if not slash or not number.isdecimal() or not total.isdecimal() or not 1 <= int(number) <= int(total):
        raise UsageError(
            f"`shard` is {text}. Expected I/N with I from 1 to N, such as 1/4. For a scheduler that counts from 0, add "
            '1: `shard="$((INDEX + 1))/4"`.'
        )
    return int(number), int(total)
