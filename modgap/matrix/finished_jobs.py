"""Finished jobs: each worker appends lines of JSON to a file of its own, and all workers read the files of all."""

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from modgap.storage.json_records import format_json

__all__ = ["FinishedJob", "FinishedJobs"]

SUFFIX = ".jsonl"
LONGEST_SECONDS = 1e9
LONGEST_REASON = 500
"""Characters of a reason that are kept."""


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FinishedJob:
    """The result of one job.

    Attributes:
        id: Name of the job.
        status: `done`; `failed` if the source cannot be used with the target; or `undefined` if a row that belongs to
            every target, such as raw values, does not exist for this one.
        reason: Sentence that says why it failed; empty if it did not.
        seconds: Time that the job took.
        computed: False if everything was in the cache before.
        attempt: Number of times that the job had failed before, and was repeated on request.
    """

    id: str
    status: Literal["done", "failed", "undefined"]
    reason: str = ""
    seconds: float = Field(default=0.0, ge=0, le=LONGEST_SECONDS)
    computed: bool = True
    attempt: int = Field(default=0, ge=0)


_ADAPTER = TypeAdapter(FinishedJob)


@dataclass
class FinishedJobs:
    """The finished jobs of all workers that share a folder, as far as they have been read.

    Attributes:
        folder: The folder, which is created.
        by_id: Results by the name of the job. That of the last attempt counts, and of its results one that is done.
    """

    folder: Path

    def __post_init__(self) -> None:
        """Create the folder, and name this worker's file.

        Raises:
            OSError: When the folder cannot be created.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.by_id: dict[str, FinishedJob] = {}
        self._offsets: dict[str, int] = {}
        self._is_torn = False
        self._own = self.folder / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"

    def refresh(self) -> Mapping[str, FinishedJob]:
        """Read what all workers have added since the last call, and return all finished jobs."""
        for entry in os.scandir(self.folder):
            if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                for line in self._new_lines(Path(entry.path)):
                    self._add(line)
        return self.by_id

    def append(self, job: FinishedJob) -> None:
        """Add a finished job.

        Raises:
            OSError: When the file cannot be written.
        """
        # Names of files may have bytes that are no text.
        reason = job.reason[:LONGEST_REASON].encode("utf-8", "replace").decode()
        line = format_json({**asdict(job), "reason": reason}, indent=None).encode() + b"\n"
        # After half a line, which a full disk may leave, the next one starts anew.
        with self._own.open("ab", buffering=0) as stream:
            if self._is_torn:
                line = b"\n" + line
            self._is_torn = True
            while line:
                line = line[stream.write(line) :]
            self._is_torn = False
        self._keep(job)

    def _new_lines(self, path: Path) -> Iterator[bytes]:
        """Yield the complete lines of a file after those read before; a killed process may leave half a line."""
        start = self._offsets.get(path.name, 0)
        with path.open("rb") as stream:
            stream.seek(start)
            content = stream.read()
        end = content.rfind(b"\n") + 1
        self._offsets[path.name] = start + end
        yield from content[:end].splitlines()

    def _add(self, line: bytes) -> None:
        try:
            job = _ADAPTER.validate_json(line)
        except (ValidationError, RecursionError):
            return
        self._keep(job)

    def _keep(self, job: FinishedJob) -> None:
        known = self.by_id.get(job.id)
        if known is None or (job.attempt, job.status == "done") > (known.attempt, known.status == "done"):
            self.by_id[job.id] = job
