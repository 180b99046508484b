"""How far the workers of a list of jobs are."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modgap.matrix.finished_jobs import FinishedJob, FinishedJobs
from modgap.matrix.job_list import JobList
from modgap.matrix.leases import DEFAULT_LEASE, lease_of
from modgap.matrix.worker import CLAIMS_FOLDER, FINISHED_FOLDER, claim_name

__all__ = ["PlanStatus", "plan_status"]


@dataclass(frozen=True)
class PlanStatus:
    """Numbers of jobs of a list.

    Attributes:
        jobs: Number of all jobs.
        computed: Number of finished jobs that were computed.
        cached: Number of finished jobs whose results were all in the cache.
        failed: Number of finished jobs that failed.
        undefined: Number of finished jobs of rows that do not exist for their target, such as raw values of texts.
        running: Number of jobs that a worker has claimed, and given a sign of life of.
        seconds_left: About how long the running number of workers takes for the rest. None if nothing runs, or if no
            job was computed yet.
    """

    jobs: int
    computed: int
    cached: int
    failed: int
    undefined: int
    running: int
    seconds_left: float | None

    @property
    def waiting(self) -> int:
        """Number of jobs that are not finished and not running."""
        return self.jobs - self.computed - self.cached - self.failed - self.undefined - self.running


def plan_status(jobs: JobList) -> PlanStatus:
    """Return how far the workers of a list of jobs are. Nothing is written.

    Args:
        jobs: The list.
    """
    finished = _finished(jobs)
    claimed = _claimed(jobs.state_folder / CLAIMS_FOLDER, finished)
    repeated = {
        job_id
        for job_id, one in finished.items()
        if one.status != "done" and claim_name(job_id, one.attempt + 1) in claimed
    }
    left = [job for job in jobs.jobs if job.id not in finished or job.id in repeated]
    running = sum(job.id in repeated or job.id in claimed for job in left)
    results = [finished[job.id] for job in jobs.jobs if job.id in finished and job.id not in repeated]
    failed = sum(one.status == "failed" for one in results)
    undefined = sum(one.status == "undefined" for one in results)
    cached = sum(one.status == "done" and not one.computed for one in results)
    seconds = _seconds_of(jobs, finished)
    return PlanStatus(
        len(jobs.jobs),
        len(results) - failed - undefined - cached,
        cached,
        failed,
        undefined,
        running,
        sum(seconds(job.seconds) for job in left) / running if running and seconds else None,
    )


def _finished(jobs: JobList) -> Mapping[str, FinishedJob]:
    folder = jobs.state_folder / FINISHED_FOLDER
    return FinishedJobs(folder).refresh() if folder.is_dir() else {}


def _claimed(folder: Path, finished: Mapping[str, FinishedJob]) -> set[str]:
    """Return the names of the claims, but those of finished jobs, that were renewed within their lease.

    The time is that of this machine's clock.
    """
    claimed = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            job = name.partition(".")[0]
            if job in finished:
                continue
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime <= lease_of(path, DEFAULT_LEASE):
                    claimed.add(job)
    return claimed


def _seconds_of(jobs: JobList, finished: Mapping[str, FinishedJob]) -> Callable[[float | None], float] | None:
    """Return the function from the estimate of a job to its expected seconds; None if no job was computed.

    Estimates are scaled by the ratio of the seconds that the finished jobs took to their estimates. A job without one
    is expected to take the mean of the finished jobs.
    """
    taken = [(finished[job.id].seconds, job.seconds) for job in jobs.jobs if _is_computed(finished.get(job.id))]
    if not taken:
        return None
    mean = sum(seconds for seconds, _ in taken) / len(taken)
    estimated = [(seconds, estimate) for seconds, estimate in taken if estimate]
    total = sum(estimate for _, estimate in estimated)
    ratio = sum(seconds for seconds, _ in estimated) / total if total else None
    return lambda estimate: mean if not estimate or ratio is None else ratio * estimate


def _is_computed(job: FinishedJob | None) -> bool:
    return job is not None and job.status == "done" and job.computed
