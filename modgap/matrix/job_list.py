"""The list of jobs of many rankings: a file of lines of JSON that any number of workers share.

The first line has what all jobs share, each further line is one job: one source on one target. The list holds no
results: what a job computes goes into the cache, and that it is finished into a folder beside the list.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from modgap.errors import InputError
from modgap.formatting import visible_name
from modgap.ranking.types import RankRequest
from modgap.storage.atomic_files import write_text_atomically, writing
from modgap.storage.json_records import format_json, plain_values
from modgap.targets import open_target

__all__ = ["JobList", "PlannedJob", "read_job_list", "write_job_list"]

VERSION = 1
LONGEST_NAME = 4096
MOST_BYTES = 1 << 30
"""Largest size of a list: some ten million jobs."""
STATE_SUFFIX = ".state"
ID_LENGTH = 20


@dataclass(frozen=True)
class PlannedJob:
    """The pass of one source over one target, and all its scores.

    Attributes:
        target: Name or absolute path of the target.
        source: Name of the source; `raw` for the raw values.
        seconds: Estimated time on one core; None if it is unknown.
    """

    target: str
    source: str
    seconds: float | None = None

    @cached_property
    def id(self) -> str:
        """Name of the job in the folder of the workers, of hexadecimal digits."""
        content = format_json([self.target, self.source], indent=None)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:ID_LENGTH]


@dataclass(frozen=True)
class JobList:
    """Jobs that workers share.

    Attributes:
        path: File of the list.
        request: Scores and samples of all jobs.
        jobs: The jobs.
        pseudo_classes: Number of clusters that replace the values of regression targets as classes; None for none.
    """

    path: Path
    request: RankRequest
    jobs: tuple[PlannedJob, ...]
    pseudo_classes: int | None = None

    @property
    def state_folder(self) -> Path:
        """Folder beside the list in which workers say what they work on and what is finished.

        It depends on the request, so that a list with more sources or targets keeps what is finished, and one with
        other samples or scores does not. The device and the loader workers change no result.
        """
        samples = replace(self.request.samples, device="auto", loader_workers=None)
        request = replace(self.request, samples=samples)
        content = format_json([plain_values(asdict(request)), self.pseudo_classes], indent=None)
        digest = hashlib.sha256(content.encode()).hexdigest()[:ID_LENGTH]
        return self.path.with_name(self.path.name + STATE_SUFFIX) / digest

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets in the order of the list."""
        return tuple(dict.fromkeys(job.target for job in self.jobs))

    def pseudo_classes_of(self, target: str) -> int | None:
        """Return the number of clusters of a target with real values; None for others, which have classes.

        Raises:
            InputError: When the target cannot be found.
        """
        is_real_valued = self.pseudo_classes and open_target(target).manifest.task == "regression"
        return self.pseudo_classes if is_real_valued else None


class _Header(BaseModel):
    """First line of a list."""

    model_config = ConfigDict(extra="forbid", strict=False)

    modgap_jobs: Literal[1]
    targets: tuple[str, ...] = Field(min_length=1)
    request: RankRequest
    pseudo_classes: int | None = Field(default=None, ge=2)


class _Line(BaseModel):
    """One job; the target is a number of the header's targets."""

    model_config = ConfigDict(extra="forbid")

    target: int = Field(ge=0)
    source: str = Field(min_length=1, max_length=LONGEST_NAME)
    seconds: float | None = Field(default=None, ge=0)


def write_job_list(
    path: Path, request: RankRequest, jobs: Sequence[PlannedJob], pseudo_classes: int | None = None
) -> JobList:
    """Write a list of jobs, complete or not at all.

    Args:
        path: The file.
        request: Scores and samples of all jobs.
        jobs: The jobs.
        pseudo_classes: Number of clusters of regression targets.

    Raises:
        InputError: When the file cannot be written.
    """
    made = JobList(path, request, tuple(jobs), pseudo_classes)
    numbers = {target: number for number, target in enumerate(made.targets)}
    for name in (*numbers, *dict.fromkeys(job.source for job in jobs)):
        if not _is_text(name):
            raise InputError(f"{visible_name(name)} has bytes that are no text. Rename the file or folder.")
    header = {
        "modgap_jobs": VERSION,
        "targets": list(numbers),
        "request": plain_values(asdict(request)),
        "pseudo_classes": pseudo_classes,
    }
    lines = [header, *({"target": numbers[job.target], "source": job.source, "seconds": job.seconds} for job in jobs)]
    with writing(path):
        write_text_atomically(path, "".join(format_json(line, indent=None) + "\n" for line in lines))
    return made


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_job_list(path: Path) -> JobList:
    """Read a list of jobs.

    Raises:
        InputError: When the file cannot be read, or is not a list of jobs.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} has more than {MOST_BYTES:,} bytes, which is too many for a list of jobs.")
        with path.open(encoding="utf-8") as stream:
            first, *lines = stream.read().splitlines() or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the list of jobs {path}: {error}.") from error
    header = _parse(TypeAdapter(_Header), first, path, 1)
    adapter: TypeAdapter[Any] = TypeAdapter(_Line)
    jobs = tuple(_jobs(header.targets, adapter, lines, path))
    return JobList(path, header.request, jobs, header.pseudo_classes)


def _jobs(targets: Sequence[str], adapter: TypeAdapter[Any], lines: Iterable[str], path: Path) -> Iterable[PlannedJob]:
    for number, line in enumerate(lines, start=2):
        found = _parse(adapter, line, path, number)
        if found.target >= len(targets):
            raise InputError(f"Line {number} of {path} names target {found.target} of {len(targets)}.")
        yield PlannedJob(targets[found.target], found.source, found.seconds)


def _parse(adapter: TypeAdapter[Any], line: str, path: Path, number: int) -> Any:
    try:
        return adapter.validate_json(line)
    except (ValidationError, RecursionError, InputError) as error:
        raise InputError(
            f"Line {number} of {path} is not that of a list of jobs. Write the list with `modgap plan`."
        ) from error
