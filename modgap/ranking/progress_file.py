"""The file in which a running ranking says how far it is, and what other processes read of it."""

import contextlib
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from modgap.ranking.monitor import StageState
from modgap.storage.json_records import read_json, write_json
from modgap.storage.locks import FOLDER_LOCK, try_lock, unlock

__all__ = ["PROGRESS_FILE", "ProgressFile", "RunningJobs", "read_progress"]

PROGRESS_FILE = "progress.json"
SECONDS_BETWEEN = 1.0
"""Shortest time between two writes."""
SCHEMA = 1


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
class RunningJobs:
    """State of a ranking that has not written its results yet, as its process has written it.

    Attributes:
        process: Number of its process.
        host: Name of its machine.
        processes: Number of jobs that run side by side. None if it is not known.
        began: Time at which it began, in seconds since 1970.
        written: Time at which it last said something, in seconds since 1970.
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


_Record = TypeAdapter(RunningJobs)


def read_progress(folder: Path) -> RunningJobs | None:
    """Return what a running or interrupted ranking has said in a folder; None if there is nothing that can be read.

    Args:
        folder: The folder of `--out`.
    """
    record: dict[str, Any] = read_json(folder / PROGRESS_FILE)
    if record.get("schema") != SCHEMA:
        return None
    try:
        found = _Record.validate_python({**record, "is_alive": _is_locked(folder)})
    except (ValidationError, RecursionError):
        return None
    return found


def _is_locked(folder: Path) -> bool:
    """Return True if a living process writes its results to a folder."""
    path = folder / FOLDER_LOCK
    if not path.exists():
        return False
    descriptor = try_lock(path)
    unlock(descriptor)
    return descriptor is None
