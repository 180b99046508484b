"""Memory that models free and need again: glibc keeps it in this process, in place of asking the system anew each time.

glibc takes large blocks from the system and gives them back as soon as they are free. The system clears every page of a
new block. A model allocates its activations anew for each batch, and may spend half of its time on that.
"""

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache

__all__ = ["reused_memory", "share_heap"]

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -2, -3, -4, -8
"""Parameters of glibc's `mallopt`."""
REUSED = {MMAP_MAX: 0, TRIM_THRESHOLD: -1, TOP_PAD: 64 << 20}
"""All blocks come from the heap, which never shrinks and grows by 64 MiB."""
DEFAULT = {MMAP_MAX: 65_536, TRIM_THRESHOLD: 64 << 20, TOP_PAD: 128 << 10, MMAP_THRESHOLD: 32 << 20}
"""Large blocks come from the system, and the heap shrinks.

Once a parameter is set, glibc no longer adapts the size of large blocks to what is freed, so it is the largest one that
it would adapt to. Otherwise blocks of 128 KiB would come from the system for the rest of the process.
"""


class _Users:
    """Number of blocks that reuse memory at present, in all threads."""

    def __init__(self) -> None:
        self.number = 0
        self.lock = threading.Lock()


_users = _Users()


@contextlib.contextmanager
def reused_memory() -> Iterator[None]:
    """Keep freed memory for what is allocated next within a block, and give it back at its end.

    Elsewhere than with glibc it does nothing.
    """
    with _users.lock:
        _users.number += 1
        if _users.number == 1:
            _set(REUSED)
    try:
        yield
    finally:
        with _users.lock:
            _users.number -= 1
            if _users.number == 0:
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
