"""A worker: claims jobs of a list one after the other, runs them, and says what is finished."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modgap.matrix.finished_jobs import FinishedJob, FinishedJobs
from modgap.matrix.job_list import JobList, PlannedJob, read_job_list
from modgap.matrix.leases import Claim, Leases
from modgap.progress import Progress
from modgap.storage.atomic_files import writing

__all__ = ["CLAIMS_FOLDER", "FINISHED_FOLDER", "WorkSummary", "claim_name", "work"]

CLAIMS_FOLDER = "claims"
FINISHED_FOLDER = "finished"
LOST = (
    "The worker of this job was lost every time, as happens when memory or time runs out. Give workers more of it, or "
    "plan with a smaller --limit."
)
SECONDS_BETWEEN_READS = 0.5
"""Shortest time between two looks at what others have finished, within one walk through the jobs."""
SHORTEST_WAIT = 0.05
LONGEST_WAIT = 5.0
"""Seconds between two looks at the jobs of other workers."""

log = logging.getLogger("modgap")

RunJob = Callable[[PlannedJob], FinishedJob]


def claim_name(job_id: str, attempt: int) -> str:
    """Return the name under which a job is claimed; each attempt has claims of its own."""
    return f"{job_id}-{attempt}" if attempt else job_id


@dataclass(frozen=True)
class WorkSummary:
    """Numbers of jobs of a worker.

    Attributes:
        finished: Number of jobs that this worker finished.
        failed: Number of them that failed.
        elsewhere: Number of jobs of the list that others finished.
    """

    finished: int
    failed: int
    elsewhere: int


def work(
    path: Path,
    run_job: Callable[[JobList], RunJob],
    *,
    lease: float = 60.0,
    seconds: float | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> WorkSummary:
    """Run jobs of a list until all of its jobs are finished, by this worker or by others.

    Jobs that other workers have claimed are waited for: if their worker dies, its lease ends, and the job is run again,
    at most three times.

    Args:
        path: File of the list.
        run_job: Function of the list that returns the function that runs a job.
        lease: Seconds after which a job whose worker gives no sign of life is run by another.
        seconds: Begin no job after this time; None for no limit.
        retry_failed: Repeat the jobs that have failed before the worker starts. Workers that start together with it
            share these jobs.
        progress: Called with `jobs` and the share of the list that was finished since the last call.

    Raises:
        InputError: When the list cannot be read, or the folder beside it cannot be written.
    """
    jobs = read_job_list(path)
    with writing(jobs.state_folder):
        leases = Leases(jobs.state_folder / CLAIMS_FOLDER, lease)
        finished = FinishedJobs(jobs.state_folder / FINISHED_FOLDER)
    try:
        return _Worker(jobs, run_job(jobs), leases, finished, progress, retry_failed=retry_failed).run(seconds)
    finally:
        leases.close()


class _Worker:
    """The state of one worker."""

    def __init__(
        self,
        jobs: JobList,
        run_job: RunJob,
        leases: Leases,
        finished: FinishedJobs,
        progress: Progress | None,
        *,
        retry_failed: bool,
    ) -> None:
        self.jobs = jobs
        self.run_job = run_job
        self.leases = leases
        self.finished = finished
        self.progress = progress
        self.own = 0
        self.failed = 0
        self.reported = 0
        self.read_at = 0.0
        known = finished.refresh().values() if retry_failed else ()
        self.retried = {one.id: one.attempt + 1 for one in known if one.status != "done"}
        """Number of the attempt of each job that is repeated."""

    def run(self, seconds: float | None) -> WorkSummary:
        ends = None if seconds is None else time.monotonic() + seconds
        remaining = self._own_order()
        wait = SHORTEST_WAIT
        while remaining and not _is_over(ends):
            self.finished.refresh()
            remaining = [job for job in remaining if not self._is_finished(job.id)]
            self._report()
            if self._work_through(remaining, ends):
                wait = SHORTEST_WAIT
            elif remaining and not _is_over(ends):
                # All that is left is claimed by others.
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT, self.leases.seconds / 2)
        self._report()
        others = sum(job.id in self.finished.by_id for job in self.jobs.jobs) - self.own
        return WorkSummary(self.own, self.failed, others)

    def _own_order(self) -> list[PlannedJob]:
        """Return the jobs from a random one on, so that workers which start at the same time do not meet."""
        jobs = list(self.jobs.jobs)
        start = random.SystemRandom().randrange(len(jobs)) if jobs else 0
        return jobs[start:] + jobs[:start]

    def _work_through(self, jobs: Sequence[PlannedJob], ends: float | None) -> int:
        """Claim and run what is free of some jobs, and return how many this worker has run."""
        before = self.own
        for job in jobs:
            if _is_over(ends):
                break
            self._read_others()
            if self._is_finished(job.id):
                continue
            name = claim_name(job.id, self.retried.get(job.id, 0))
            claim = self.leases.claim(name)
            if claim is not None:
                self._run(job, claim)
            elif self.leases.is_given_up(name):
                self._give_up(job)
        return self.own - before

    def _is_finished(self, job_id: str) -> bool:
        known = self.finished.by_id.get(job_id)
        return known is not None and known.attempt >= self.retried.get(job_id, 0)

    def _read_others(self) -> None:
        """Read what others have finished, so that their jobs need no look at their claims and count as progress."""
        now = time.monotonic()
        if now - self.read_at > SECONDS_BETWEEN_READS:
            self.finished.refresh()
            self.read_at = now

    def _run(self, job: PlannedJob, claim: Claim) -> None:
        # The process that claimed it before may have finished it after its lease.
        if claim.number:
            self.finished.refresh()
            if self._is_finished(job.id):
                return
        try:
            with self.leases.renewed(claim):
                result = self.run_job(job)
        except BaseException:
            self.leases.release(claim)
            raise
        if self.leases.holds(claim):
            self._finish(result)

    def _give_up(self, job: PlannedJob) -> None:
        """Record that all workers that claimed a job were lost; one worker does it."""
        claim = self.leases.claim(f"{claim_name(job.id, self.retried.get(job.id, 0))}-lost")
        if claim is None:
            return
        self.finished.refresh()
        if not self._is_finished(job.id):
            self._finish(FinishedJob(job.id, "failed", LOST))

    def _finish(self, result: FinishedJob) -> None:
        with writing(self.finished.folder):
            self.finished.append(replace(result, attempt=self.retried.get(result.id, 0)))
        self.own += 1
        self.failed += result.status == "failed"
        self._report()

    def _report(self) -> None:
        if self.progress and self.jobs.jobs:
            now = len(self.finished.by_id) - sum(not self._is_finished(job_id) for job_id in self.retried)
            self.progress("jobs", (now - self.reported) / len(self.jobs.jobs))
            self.reported = now


def _is_over(ends: float | None) -> bool:
    return ends is not None and time.monotonic() >= ends
