"""Stages of a ranking: jobs whose progress is told while they run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from modgap.errors import Progress
from modgap.jobs import Backend, Failure
from modgap.ranking.cached_job import CachedJob
from modgap.ranking.types import JobCounts

Result = TypeVar("Result")


@dataclass
class JobMonitor:
    """Tells how much of each stage is done.

    Attributes:
        progress: Called with the name of a stage and the share of its work done since the last call. None for no call.
        jobs: Number of jobs of each stage, by its name.
    """

    progress: Progress | None = None
    jobs: dict[str, int] = field(default_factory=dict)

    def begin(self, stage: str, jobs: int) -> None:
        """Begin a stage with a number of jobs."""
        self.jobs[stage] = jobs

    def finish(self, stage: str, jobs: int = 1) -> None:
        """Tell that jobs of a stage have ended."""
        if self.progress and jobs:
            self.progress(stage, jobs / self.jobs[stage])


def run_stage(
    stage: str, jobs: Sequence[CachedJob[Result]], backend: Backend, monitor: JobMonitor, device: str = ""
) -> tuple[dict[CachedJob[Result], Result | Failure], JobCounts]:
    """Return the results by job, and how many were computed, came from the cache, and failed.

    Args:
        stage: Name of the stage, for reports of progress.
        jobs: The jobs. Those in the cache are not run again.
        backend: Where the jobs run.
        monitor: Tells the progress.
        device: Name of the devices of which each job holds one. Empty for short jobs.
    """
    results: dict[CachedJob[Result], Result | Failure]
    results = {job: cached for job in jobs if (cached := job.load_cached()) is not None}
    n_cached = len(results)
    missing = [job for job in jobs if job not in results]
    monitor.begin(stage, len(jobs))
    monitor.finish(stage, n_cached)
    for index, result in backend.run(missing, device=device, short=not device):
        results[missing[index]] = result
        monitor.finish(stage)
    n_failed = sum(isinstance(result := results[job], Failure) and not result.is_result for job in missing)
    return results, JobCounts(len(missing) - n_failed, n_cached, n_failed)
