"""Measure the memory of a process."""

import inspect


def peak():
    """Return the largest resident memory since this program started, in kilobytes.

    getrusage is not used, because for a process that was forked from a large one it reports the memory of the parent.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])


PEAK = inspect.getsource(peak)
"""The source of `peak`, for programs that are passed as text."""
