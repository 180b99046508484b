"""Run the `modgap` command in processes that are forked from one that has imported torch and timm, so they start fast.

Each is a process and a session of its own, which can be killed. All have the hash seed of the process that they are
forked from, which is another one than that of the tests.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

TIMEOUT = 300
LIBRARIES = ["modgap.cli.main", "modgap.training.train", "modgap.ranking.rank", "timm", "tests.forked_commands"]
context = multiprocessing.get_context("forkserver")


class ForkedCommand:
    """A command that runs in a forked process.

    Args:
        arguments: The arguments of the command.
        environment: Environment variables in addition to those of the tests.
        folder: A new folder for what the command prints.
    """

    def __init__(self, arguments: list, environment: dict[str, str], folder: Path):
        folder.mkdir()
        self.folder = folder
        context.set_forkserver_preload(LIBRARIES)
        values = {**os.environ, **environment}
        self.process = context.Process(target=_run, args=([str(argument) for argument in arguments], values, folder))
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self.process.exitcode

    def kill(self) -> None:
        """Kill the process and its children, and wait for its end."""
        os.killpg(self.pid, signal.SIGKILL)
        self.process.join(TIMEOUT)

    def finish(self) -> str:
        """Wait for the end of the process, and return what it wrote to standard output."""
        self.process.join(TIMEOUT)
        assert self.process.exitcode == 0, (self.folder / "stderr").read_text(encoding="utf-8")
        return (self.folder / "stdout").read_text(encoding="utf-8")


def _run(arguments: list[str], environment: dict[str, str], folder: Path) -> None:
    os.setsid()
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        with (folder / name).open("wb") as stream:
            os.dup2(stream.fileno(), descriptor)
    os.environ.update(environment)
    sys.argv = ["modgap", *arguments]
    import torch

    from modgap.cli.main import main

    torch.set_num_threads(1)
    try:
        main()
    finally:
        # An interpreter does this at its end, in this order, and libraries stop their workers in it. A forked process
        # waits for the workers before.
        threading._shutdown()
        atexit._run_exitfuncs()
