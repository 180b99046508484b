"""Stages of a ranking: jobs that are counted while they run, in bars and in a file that other processes read."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from modgap.errors import Progress
from modgap.jobs import Backend, Failure
from modgap.ranking.cached_job import CachedJob
from modgap.ranking.types import JobCounts
from modgap.storage.json_records import read_json, write_json
from modgap.storage.locks import FOLDER_LOCK, try_lock, unlock

COMPUTED = "computed"
CACHED = "cached"
FAILED = "failed"
"""How a job ends."""
PROGRESS_FILE = "progress.json"
SECONDS_BETWEEN = 1.0
"""Shortest time between two writes of the file."""
SCHEMA = 1

Result = TypeVar("Result")


@dataclass(frozen=True)
class StageState:
    """Jobs of one stage of a running ranking.

    Attributes:
        stage: Name of the stage.
        jobs: Number of jobs that are known so far.
        computed: Number of jobs that were computed.
        cached: Number of jobs whose results came from the cache.
        failed: Number of jobs that ended with an error, or were not run because another one failed.
        began: Time at which the stage began, in seconds since 1970.
    """

    stage: str
    jobs: int
    computed: int = 0
    cached: int = 0
    failed: int = 0
    began: float = 0.0

    @property
    def done(self) -> int:
        """Number of jobs that have ended."""
        return self.computed + self.cached + self.failed

    def seconds_left(self, now: float) -> float | None:
        """Return about how long the stage still takes, at the rate of the jobs that were computed or failed so far.

        Jobs from the cache do not count, because they take no time.

        Args:
            now: Time in seconds since 1970.

        Returns:
            Seconds. None as long as no job was computed or failed.
        """
        if self.done >= self.jobs:
            return 0.0
        n_run = self.computed + self.failed
        return (self.jobs - self.done) * max(0.0, now - self.began) / n_run if n_run else None


StagesListener = Callable[[tuple[StageState, ...]], None]


@dataclass
class JobMonitor:
    """Counts jobs by stage, and tells others.

    Attributes:
        progress: Called with the name of a stage and the share of its work done since the last call. None for no call.
        listener: Called with all stages whenever a job ends. None for no call.
        stages: The stages by name.
        prefix: Text before the names of the stages that this monitor begins.
    """

    progress: Progress | None = None
    listener: StagesListener | None = None
    stages: dict[str, StageState] = field(default_factory=dict)
    prefix: str = ""

    def begin(self, stage: str, jobs: int) -> None:
        """Begin a stage with a number of jobs."""
        name = self.prefix + stage
        self.stages[name] = StageState(name, jobs, began=time.time())
        self._tell()

    def finish(self, stage: str, outcome: str, jobs: int = 1) -> None:
        """Count jobs of a stage that have ended.

        Args:
            stage: Name of the stage.
            outcome: `computed`, `cached` or `failed`.
            jobs: Their number.
        """
        name = self.prefix + stage
        state = self.stages[name]
        self.stages[name] = replace(state, **{outcome: getattr(state, outcome) + jobs})
        if self.progress and jobs:
            self.progress(name, jobs / state.jobs)
        self._tell()

    def _tell(self) -> None:
        if self.listener:
            self.listener(tuple(self.stages.values()))


def run_stage(
    stage: str, jobs: Sequence[CachedJob[Result]], backend: Backend, monitor: JobMonitor, device: str = ""
) -> tuple[dict[CachedJob[Result], Result | Failure], JobCounts]:
    """Return the results by job, and how many were computed, came from the cache, and failed.

    Args:
        stage: Name of the stage, for reports of progress.
        jobs: The jobs. Those in the cache are not run again.
        backend: Where the jobs run.
        monitor: Counts the jobs.
        device: Name of the devices of which each job holds one. Empty for short jobs.
    """
    results: dict[CachedJob[Result], Result | Failure]
    results = {job: cached for job in jobs if (cached := job.load_cached()) is not None}
    n_cached = len(results)
    missing = [job for job in jobs if job not in results]
    monitor.begin(stage, len(jobs))
    monitor.finish(stage, CACHED, n_cached)
    for index, result in backend.run(missing, device=device, short=not device):
        results[missing[index]] = result
        monitor.finish(stage, FAILED if is_error(result) else COMPUTED)
    n_failed = sum(is_error(results[job]) for job in missing)
    return results, JobCounts(len(missing) - n_failed, n_cached, n_failed)


def is_error(result: object) -> bool:
    """Return True for a failure that is not a result."""
    return isinstance(result, Failure) and not result.is_result


# The file of progress


class ProgressFile:
    """Writes the stages of a ranking to a folder, at most once a second.

    Call it with the stages whenever a job has ended. The file is left when the process is killed, so that its state
    can be read; `remove` removes it when the results are written.
    """

    def __init__(self, folder: Path, processes: int | None) -> None:
        """Write nothing yet.

        Args:
            folder: An existing folder.
            processes: Number of jobs that run side by side. None if it is not known, as on a cluster.
        """
        self._path = folder / PROGRESS_FILE
        self._processes = processes
        self._began = time.time()
        self._written = 0.0

    def __call__(self, stages: tuple[StageState, ...]) -> None:
        """Write the stages, unless they were written within the last second and jobs are left."""
        now = time.time()
        if now - self._written < SECONDS_BETWEEN and any(stage.done < stage.jobs for stage in stages):
            return
        self._written = now
        record = {
            "schema": SCHEMA,
            "process": os.getpid(),
            "host": socket.gethostname(),
            "processes": self._processes,
            "began": self._began,
            "written": now,
            "stages": [asdict(stage) for stage in stages],
        }
        # The results do not depend on this file, so a full disk does not end the ranking here.
        with contextlib.suppress(OSError):
            write_json(self._path, record)

    def remove(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True)
class RankingProgress:
    """State of a ranking that has not written its results yet, as its process has written it.

    Attributes:
        process: ID of its process.
        host: Name of its machine.
        processes: Number of jobs that run side by side. None if it is not known.
        began: Time at which it began, in seconds since 1970.
        written: Time at which this state was written, in seconds since 1970.
        stages: Its stages so far; all but the last are finished.
        is_alive: False if its process has ended.
    """

    process: int
    host: str
    processes: int | None
    began: float
    written: float
    stages: tuple[StageState, ...]
    is_alive: bool = True

    def running(self, stage: StageState) -> int | None:
        """Return the number of jobs of a stage that run now; None if it is not known."""
        left = stage.jobs - stage.done
        if not self.is_alive or not left:
            return 0
        return None if self.processes is None else min(self.processes, left)


_Record = TypeAdapter(RankingProgress)


def read_progress(folder: Path) -> RankingProgress | None:
    """Return the state that a running or interrupted ranking wrote to a folder; None if there is none to be read.

    Args:
        folder: The folder of `--out`.
    """
    record: dict[str, Any] = read_json(folder / PROGRESS_FILE)
    if record.get("schema") != SCHEMA:
        return None
    # A living process holds the lock of the folder that it writes its results to.
    lock, is_alive = folder / FOLDER_LOCK, False
    if lock.exists():
        descriptor = try_lock(lock)
        unlock(descriptor)
        is_alive = descriptor is None
    try:
        return _Record.validate_python({**record, "is_alive": is_alive})
    except (ValidationError, RecursionError):
        return None
