"""Memory that this process may still take, compared with a file before all of it is read."""

import os
from pathlib import Path

from modgap.errors import InputError
from modgap.formatting import format_bytes

__all__ = ["available_memory", "check_memory"]

MACHINE = Path("/proc/meminfo")
PROCESS = Path("/proc/self/statm")
CGROUP = Path("/sys/fs/cgroup")
"""Folder with the memory that a container may use and uses, both in bytes."""
UNCHECKED_BYTES = 64 << 20
"""Size up to which a file is not compared with the memory that is left."""


def available_memory() -> int | None:
    """Return the bytes that the machine, the container and the limit of address space leave; None if unknown."""
    left = [size for size in (_left_by_machine(), _left_by_container(), _left_by_limit()) if size is not None]
    return max(0, min(left)) if left else None


def _left_by_machine() -> int | None:
    try:
        lines = MACHINE.read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _left_by_container() -> int | None:
    try:
        most, used = (int((CGROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        return most - used
    except (OSError, ValueError):
        return None


def _left_by_limit() -> int | None:
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        used = int(PROCESS.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
        return None if limit == resource.RLIM_INFINITY else limit - used
    except (ImportError, OSError, ValueError, AttributeError):
        return None


def check_memory(name: object, needed: int) -> None:
    """Raise if a file that is read at once does not fit in memory.

    Args:
        name: The file, for the message.
        needed: Its size in memory in bytes, or a lower bound of it.

    Raises:
        InputError: When less memory is left.
    """
    left = available_memory() if needed > UNCHECKED_BYTES else None
    if left is None or needed <= left:
        return
    raise InputError(
        f"{name} takes at least {format_bytes(needed)} of memory, and {format_bytes(left)} are left. Use fewer "
        "samples, or save arrays as .npy, .safetensors or uncompressed .npz, which are not read into memory at once."
    )
