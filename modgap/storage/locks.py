"""Locks between processes: files that a living process uses, and work that one process does at a time."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked", "one_process_at_a_time", "try_lock", "unlock"]

DAY = 86_400

log = logging.getLogger("modgap")


def try_lock(path: Path) -> int | None:
    """Lock a file or folder for this process without waiting, until `unlock` or the end of the process.

    On systems without file locks, a path that has not changed for a day counts as unlocked.

    Returns:
        A file descriptor for `unlock`. None when another living process has locked the path, when the path is
        gone, or when file locks do not work there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        if fcntl is None:
            obtained = time.time() - os.fstat(descriptor).st_mtime > DAY
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that locked it before may have renamed it between the opening and the lock.
            obtained = os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        obtained = False
    if obtained:
        return descriptor
    os.close(descriptor)
    return None


def unlock(descriptor: int | None) -> None:
    """Release a lock of `try_lock`; None, which stands for no lock, is ignored."""
    if descriptor is not None:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock a file or folder within a block, if possible.

    Yields:
        True when this process has the lock; False when `try_lock` returned None.
    """
    descriptor = try_lock(path)
    try:
        yield descriptor is not None
    finally:
        unlock(descriptor)


@contextlib.contextmanager
def one_process_at_a_time(lock_file: Path, activity: str) -> Iterator[None]:
    """Wait until no other process is in a block with the same lock file.

    This only saves work. Where locks fail, all processes continue at once, and correctness must not depend on it.

    Args:
        lock_file: The file that is locked. Missing parent folders are created.
        activity: The work in the block, for the message while waiting, such as "fetching ninapro".
    """
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process is %s. Waiting for it to finish.", activity)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        log.debug("cannot lock %s: %s", lock_file, error)
    try:
        yield
    finally:
        lock.release(force=True)
