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


def choose_device(name: str) -> "torch.device":
    """Return the device of this name; `auto` stands for CUDA, else MPS, else the CPU.

    Raises:
        UsageError: When this machine does not have the device.
    """
    import torch

    if name == "cpu":
        # Nothing asks for the GPUs of a machine whose CPU was chosen.
        return torch.device(name)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available.get(name.split(":")[0], False):
        kinds = ", ".join(kind for kind, is_available in available.items() if is_available)
        raise UsageError(f"Device {name!r} is not available on this machine. Available devices: {kinds}.")
    return torch.device(name)


TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -2, -3, -4, -8
"""Parameters of glibc's `mallopt`."""
REUSED = {MMAP_MAX: 0, TRIM_THRESHOLD: -1, TOP_PAD: 64 << 20}
"""All blocks come from the heap, which never shrinks and grows by 64 MiB."""
DEFAULT = {MMAP_MAX: 65_536, TRIM_THRESHOLD: 64 << 20, TOP_PAD: 128 << 10, MMAP_THRESHOLD: 32 << 20}
"""Large blocks come from the system, and the heap shrinks.

Once a parameter is set, glibc no longer adapts the size of large blocks to what is freed, so it is the largest one that
it would adapt to. Otherwise blocks of 128 KiB would come from the system for the rest of the process.
"""


_reusing: set[object] = set()
"""Blocks that reuse memory at present, in all threads."""
_lock = threading.Lock()


@contextlib.contextmanager
def reused_memory() -> Iterator[None]:
    """Keep freed memory for what is allocated next within a block, and give it back at its end.

    Elsewhere than with glibc it does nothing.
    """
    block = object()
    with _lock:
        if not _reusing:
            _set(REUSED)
        _reusing.add(block)
    try:
        yield
    finally:
        with _lock:
            _reusing.remove(block)
            if not _reusing:
                _set(DEFAULT)
                _give_back()


def share_heap() -> None:
    """Let all threads of this process allocate from one heap, which alone can reuse large blocks.

    It takes effect only before a second thread allocates. Elsewhere than with glibc it does nothing.
    """
    _set({ARENA_MAX: 1})


def _set(values: dict[int, int]) -> None:
    if set_option := _function("mallopt"):
        for parameter, value in values.items():
            set_option(parameter, value)


def _give_back() -> None:
    if trim := _function("malloc_trim"):
        trim(0)


@cache
def _function(name: str) -> Callable[..., int] | None:
    """Return a function of the C library; None where it is not glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    # Only glibc has this one, whose numbers are those above.
    return getattr(library, name, None) if hasattr(library, "gnu_get_libc_version") else None
