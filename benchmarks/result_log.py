"""Results of a study's jobs in one file of JSON lines, appended as they come."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

__all__ = ["ResultLog"]


class ResultLog:
    """Results by job; a job is a dataclass, and its last line in the file counts.

    Several processes may append to one file. A line that was cut short by a kill is skipped.

    Args:
        path: File of JSON lines; each is an object with the job's fields under `job`.
    """

    def __init__(self, path: Path):  # noqa: D107
        self.path = path
        self._results: dict[str, dict] = {}
        self._size = -1

    def __reduce__(self) -> tuple:  # noqa: D105
        return ResultLog, (self.path,)

    def get(self, job: Any) -> dict | None:
        """Return the result of a job; None if there is none, or only one with other settings."""
        self._read()
        return self._results.get(_key(asdict(job)))

    def add(self, job: Any, result: dict) -> dict:
        """Append the result of a job, and return its record."""
        record = {"job": asdict(job), **result}
        line = json.dumps(record, allow_nan=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")), self.path.open("a+b") as stream:
            stream.seek(0, 2)
            if stream.tell():
                stream.seek(-1, 2)
                # The end of a line that a kill cut short must not become part of this one.
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
