"""How much memory a process held."""

import inspect


def peak():
    """Most kilobytes resident since this program began.

    getrusage will not do: a process that was forked off a large one counts what that held.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])


PEAK = inspect.getsource(peak)
"""For programs that are run as text."""
