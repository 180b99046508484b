"""Cores and devices that this process may use, and memory that it frees and needs again.

glibc takes large blocks from the system and gives them back as soon as they are free. The system clears every page of a
new block. A model allocates its activations anew for each batch, and may spend half of its time on that.
"""

import contextlib
import ctypes
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from modgap.errors import UsageError, count

if TYPE_CHECKING:
    import torch

MOST_THREADS = 256
"""Largest number of threads that a user may ask for."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""File with the processor time that a container may use in each period, and the period, both in microseconds."""
_STARTED = time.time()
"""Start of this process, about: the time at which it imported this module."""


# Cores


def available_cores() -> int:
    """Return the number of cores that this process may run on, also within a container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _cgroup_cores())))


def _cgroup_cores() -> float:
    """Return the number of cores that the container may use, which may be a fraction; infinity without a limit."""
    try:
        quota, period = CGROUP_LIMIT.read_text(encoding="ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def idle_cores() -> int:
    """Return about how many cores other programs leave to this one, at least 1.

    It is the number of available cores minus the load that other processes, without children of this one, gave the
    machine in the last minute. The load changes from call to call, so results must not depend on this number.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, round(available_cores() - max(0.0, load - _load_of_this_process())))


def _load_of_this_process() -> float:
    """Return the mean number of cores that this process and its children have used since its start."""
    seconds = sum(os.times()[:4]) + _seconds_of_running_children()
    return seconds / max(1.0, time.time() - _STARTED)


def _seconds_of_running_children() -> float:
    """Return the processor time of children that have not ended, which `os.times` leaves out; 0 except on Linux."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):  # the process has just ended
            # The name of the program, which may have spaces and parentheses, is before the last parenthesis.
            fields = process.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0


def describe_threads(threads: int) -> str:
    """Describe a number of threads, and the cores and load of the machine, for messages.

    Args:
        threads: Number of threads that a computation uses.
    """
    load = f" and a load of {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"with {count(threads, 'thread')} on a machine with {count(available_cores(), 'core')}{load}"


# Devices


def choose_device(name: str) -> "torch.device":
    """Return the device of this name.

    Args:
        name: `auto` for CUDA, or else MPS, or else the CPU; or the name of a device, such as `cpu` or `cuda:1`. The
            number of a device is not checked.

    Raises:
        UsageError: When this machine does not have the device.
    """
    import torch

    if name == "cpu":
        # If the CPU was chosen, the GPUs of the machine are not queried.
        return torch.device(name)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    kind, _, number = name.partition(":")
    if not available.get(kind, False) or (":" in name and not number.isdecimal()):
        kinds = ", ".join(kind for kind, is_available in available.items() if is_available)
        raise UsageError(f"Device {name!r} is not available on this machine. Available devices: {kinds}.")
    return torch.device(name)


# Memory

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -2, -3, -4, -8
"""Numbers of the parameters of glibc's `mallopt`."""
REUSED = {MMAP_MAX: 0, TRIM_THRESHOLD: -1, TOP_PAD: 64 << 20}
"""Values with which all blocks come from the heap, which never shrinks and grows by 64 MiB."""
DEFAULT = {MMAP_MAX: 65_536, TRIM_THRESHOLD: 64 << 20, TOP_PAD: 128 << 10, MMAP_THRESHOLD: 32 << 20}
"""Values with which large blocks come from the system, and the heap shrinks.

By default, glibc raises MMAP_THRESHOLD, the size from which blocks come from the system, when large blocks are freed.
It no longer does so once a parameter was set, and blocks of 128 KiB would then come from the system for the rest of the
process. The value here is the largest one that glibc would choose.
"""

_reusing: set[object] = set()
"""Blocks of `reused_memory` that are open at present, in all threads."""
_lock = threading.Lock()


@contextlib.contextmanager
def reused_memory() -> Iterator[None]:
    """Keep freed memory for later allocations within a block, and give it back to the system at the end.

    Blocks may overlap, also in several threads; the last one gives the memory back. Without glibc it does nothing.
    """
    block = object()
    with _lock:
        if not _reusing:
            _set_malloc_parameters(REUSED)
        _reusing.add(block)
    try:
        yield
    finally:
        with _lock:
            _reusing.remove(block)
            if not _reusing:
                _set_malloc_parameters(DEFAULT)
                release_free_memory()


def share_heap() -> None:
    """Let all threads of this process allocate from the main heap, because the others cannot reuse large blocks.

    It takes effect only before a second thread allocates. Without glibc it does nothing.
    """
    _set_malloc_parameters({ARENA_MAX: 1})


def _set_malloc_parameters(values: dict[int, int]) -> None:
    if set_option := _function("mallopt"):
        for parameter, value in values.items():
            set_option(parameter, value)


def release_free_memory() -> None:
    """Give freed memory back to the operating system, where the C library can (glibc); it keeps it for reuse else."""
    if trim := _function("malloc_trim"):
        trim(0)


@cache
def _function(name: str) -> Callable[..., int] | None:
    """Return a function of the C library; None if the library is not glibc, or does not have the function."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    # Only glibc has the function `gnu_get_libc_version`. Other libraries may number the parameters otherwise.
    return getattr(library, name, None) if hasattr(library, "gnu_get_libc_version") else None
