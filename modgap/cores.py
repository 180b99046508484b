"""Cores that this process may use, and those of them that other programs leave idle."""

import math
import os
import time
from pathlib import Path

from modgap.formatting import count

__all__ = ["MOST_THREADS", "available_cores", "describe_threads", "idle_cores"]

MOST_THREADS = 256
"""Largest number of threads that a user may ask for."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""File with the processor time that a container may use, as microseconds in a period."""


def available_cores() -> int:
    """Return the number of cores that this process may run on, also within a container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _cgroup_cores())))


def _cgroup_cores() -> float:
    try:
        quota, period = CGROUP_LIMIT.read_text(encoding="ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def idle_cores() -> int:
    """Return the number of cores that other programs leave to this one, at least 1.

    It is the number of available cores without the machine's load of the last minute, to which this process itself
    does not count. Only what does not change a result may depend on it.
    """
    return max(1, round(available_cores() - _load_of_others()))


def _load_of_others() -> float:
    if not hasattr(os, "getloadavg"):
        return 0.0
    return max(0.0, os.getloadavg()[0] - _load_of_this_process())


def _load_of_this_process() -> float:
    """Return the mean number of cores that this process has used since its start."""
    times = os.times()
    return (times.user + times.system) / max(1.0, time.time() - _STARTED)


_STARTED = time.time()


def describe_threads(threads: int) -> str:
    """Return a number of threads, and the cores and load that it was chosen by, for messages.

    Args:
        threads: Number of threads that work.
    """
    load = f" and a load of {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"with {count(threads, 'thread')} on a machine with {count(available_cores(), 'core')}{load}"
