"""Jobs for the tests of backends. Worker processes import this module, so it imports nothing large."""

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

TWO = "cpu:0,cpu:1"
"""Two declared devices that every machine has."""


@contextlib.contextmanager
def dask_cluster(n_workers=2):
    """Start a scheduler of Dask and workers of one thread, each in its process, and yield the scheduler's address."""
    from dask import distributed

    # When they close a cluster, older versions of Dask wait in vain for a worker that replaced a lost one, kill it, and
    # raise an error. By then, all results have arrived.
    with (
        contextlib.suppress(TimeoutError),
        distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            dashboard_address=None,
            memory_limit=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster.scheduler_address


class Square:
    """A job that returns the square of its number."""

    def __init__(self, number):
        self.number = number

    def __call__(self):
        return self.number**2


class Killer:
    """A job that kills its process the first time, or every time if `always` is true."""

    def __init__(self, flag, always=False):
        self.flag, self.always = flag, always

    def __call__(self):
        if self.always or not self.flag.exists():
            self.flag.touch()
            os._exit(13)
        return "survived"


class ThreadNames:
    """A job that returns the names of the threads of its process."""

    def __call__(self):
        return [thread.name for thread in threading.enumerate()]


class WorkerProcess:
    """A job of a moment that returns the number of its process."""

    def __call__(self):
        time.sleep(0.2)
        return os.getpid()


class Place:
    """Job that says in which process it ran, and with how many threads."""

    def __call__(self):
        import torch

        from modgap.jobs import fix_threads

        fix_threads()
        return os.getpid(), torch.get_num_threads()


class Variables:
    """Job that returns its process and the values of two environment variables."""

    def __call__(self):
        return os.getpid(), os.environ.get("MODGAP_DATA"), os.environ.get("HF_TOKEN")


@dataclass(frozen=True)
class Pass:
    """Hold a device for a moment, and return its name with the times of the beginning and the end.

    With a folder, a pass waits until so many have begun in other processes, some of which may have to start first.
    """

    device: str = TWO
    seconds: float = 0.3
    folder: Path | None = None
    size: int = 0

    def __call__(self) -> tuple[str, float, float]:
        from modgap.jobs import hold_device

        with hold_device(self.device) as device:
            start = time.monotonic()
            if self.folder:
                (self.folder / str(os.getpid())).touch()
                while len(list(self.folder.iterdir())) < self.size and time.monotonic() < start + 60:
                    time.sleep(0.05)
            time.sleep(self.seconds)
            return device, start, time.monotonic()


@dataclass(frozen=True)
class Environment:
    """Return an environment variable."""

    name: str
    seconds: float = 0.0

    def __call__(self) -> str:
        time.sleep(self.seconds)
        return os.environ[self.name]
