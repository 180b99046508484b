"""Run the `modgap` command: in this process, which is fast, or in one of its own, as a user does."""

import io
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock

TIMEOUT = 300


@dataclass(frozen=True)
class Completed:
    """The exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


def command_line(*args) -> list[str]:
    """Return the command as a list for `subprocess`."""
    return [sys.executable, "-c", "from modgap.__main__ import main; main()", *map(str, args)]


def run_in_subprocess(*args, **environment) -> Completed:
    """Run the command in a process of its own, with further environment variables."""
    done = subprocess.run(
        command_line(*args), capture_output=True, text=True, timeout=TIMEOUT, env={**os.environ, **environment}
    )
    return Completed(done.returncode, done.stdout, done.stderr)


def run_in_process(*args, **environment) -> Completed:
    """Run the command's `main` in this process, and leave logging, threads and standard streams as they were.

    Output of child processes, and of libraries that write to file descriptors, is not part of the result.
    """
    from modgap.cli.main import main

    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    log = logging.getLogger("modgap")
    handlers, level = log.handlers[:], log.level
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    with (
        mock.patch.object(sys, "argv", ["modgap", *map(str, args)]),
        mock.patch.object(sys, "stdout", streams[0]),
        mock.patch.object(sys, "stderr", streams[1]),
        mock.patch.dict(os.environ, environment),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        finally:
            log.handlers[:] = handlers
            log.setLevel(level)
            if threads is not None:
                sys.modules["torch"].set_num_threads(threads)
    stdout, stderr = (stream.buffer.getvalue().decode() for stream in streams)
    return Completed(int(code or 0), stdout, stderr)
