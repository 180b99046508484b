"""A file of JSON lines with the results of a study's jobs, appended as the jobs finish."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock


class ResultLog:
    """The results by job. A job is a dataclass, and its last line in the file counts.

    Several processes may append to one file. A line that is incomplete because a process was killed is skipped.

    Args:
        path: File of JSON lines. Each line is an object with the job's fields under `job`.
        code: Digest of the code that runs, which each new line has; empty for none.
    """

    def __init__(self, path: Path, code: str = ""):  # noqa: D107
        self.path = path
        self.code = code
        self._results: dict[str, dict] = {}
        self._size = -1

    def __reduce__(self) -> tuple:  # noqa: D105
        return ResultLog, (self.path, self.code)

    def get(self, job: Any) -> dict | None:
        """Return the result of a job, or None if there is none with the same settings."""
        self._read()
        return self._results.get(_key(asdict(job)))

    def results(self) -> list[dict]:
        """Return the results of all jobs."""
        self._read()
        return list(self._results.values())

    def add(self, job: Any, result: dict) -> dict:
        """Append the result of a job, and return its record."""
        record = {"job": asdict(job), **result, **({"code": self.code} if self.code else {})}
        line = json.dumps(record, allow_nan=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")), self.path.open("a+b") as stream:
            stream.seek(0, 2)
            if stream.tell():
                stream.seek(-1, 2)
                # An incomplete line of a process that was killed must not become part of this one.
                line = line if stream.read(1) == b"\n" else f"\n{line}"
            stream.write(f"{line}\n".encode())
        return record

    def _read(self) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        if size == self._size:
            return
        self._results = {_key(record["job"]): record for record in _records(self.path)} if size else {}
        self._size = size


def _records(path: Path) -> Iterator[dict]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _key(job: dict) -> str:
    return json.dumps(job, sort_keys=True)
