"""Locks between processes: files that a living process uses, work that one does at a time, and folders of results."""

import contextlib
import errno
import json
import logging
import os
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from modgap.errors import InputError
from modgap.storage.paths import expand_user

log = logging.getLogger("modgap")

try:
    import fcntl

    HAS_FILE_LOCKS = True
except ImportError:  # on Windows
    HAS_FILE_LOCKS = False


DAY = 86_400
FOLDER_LOCK = ".modgap.lock"
"""Name of the file that is locked while a process writes results to a folder; it names the process."""
MOST_LOCK_BYTES = 10_000
FIRST_WAIT = 0.01
LONGEST_WAIT = 1.0
"""Seconds between two looks for a free file."""


def try_lock(path: Path) -> int | None:
    """Lock a file or folder for this process without waiting, until `unlock` or the end of the process.

    On systems without file locks, a path that has not changed for a day counts as unlocked.

    Returns:
        A file descriptor for `unlock`. None when another living process has locked the path, when the path is
        gone, or when file locks do not work there.
    """
    try:
        return _open_locked(path, os.O_RDONLY if path.is_dir() or not os.access(path, os.W_OK) else os.O_RDWR)
    except OSError:
        return None


def _open_locked(path: Path, flags: int) -> int:
    """Open and lock a file or folder, and return the descriptor.

    On network file systems a file can be locked only if it is open for writing.

    Raises:
        BlockingIOError: When another living process has locked it.
        FileNotFoundError: When it is gone.
        OSError: When it cannot be opened, or file locks do not work there.
    """
    descriptor = os.open(path, flags, 0o666)
    try:
        if not HAS_FILE_LOCKS:
            if time.time() - os.fstat(descriptor).st_mtime <= DAY:
                raise OSError(errno.ENOLCK, "file locks are not available")
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that locked it before may have renamed it between the opening and the lock.
            if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
                raise FileNotFoundError(errno.ENOENT, "was replaced", str(path))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


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


def abandoned(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files and folders that no living process has locked; each is locked until the next one is taken.

    Args:
        paths: Temporary files and folders, which their processes lock while they use them.
    """
    for path in paths:
        with locked(path) as is_abandoned:
            if is_abandoned:
                yield path


def lock_first_free(paths: Sequence[Path]) -> tuple[Path, int | None]:
    """Lock the first of several files that no living process has locked, and wait while there is none.

    Args:
        paths: The files. Missing ones are created, with their folders.

    Returns:
        The file, and a descriptor for `unlock`. The first file and None where file locks do not work.
    """
    wait = FIRST_WAIT
    while True:
        for path in paths:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                return path, _open_locked(path, os.O_RDWR | os.O_CREAT)
            except BlockingIOError:
                continue
            except OSError as error:
                log.warning("Cannot lock %s (%s), so processes may use the same device.", path, error.strerror)
                return paths[0], None
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


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


@contextlib.contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Refuse other processes that want to write results to the same folder, within a block.

    The system releases the lock when this process ends in any way. The folder is created, and removed again when the
    block leaves it empty. Where file locks do not work, the block runs without one.

    Args:
        folder: The folder.

    Raises:
        InputError: When another living process is in such a block with the same folder.
    """
    created = not folder.exists()
    descriptor = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _lock_folder(folder)
    except OSError as error:
        log.debug("cannot lock %s: %s", folder, error)
    try:
        yield
    finally:
        if descriptor is not None:
            (folder / FOLDER_LOCK).unlink(missing_ok=True)
            os.close(descriptor)
            if created:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _lock_folder(folder: Path) -> int:
    """Lock the file of a folder, write who this process is into it, and return its descriptor."""
    path = folder / FOLDER_LOCK
    while True:
        try:
            descriptor = _open_locked(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            # The process that had the lock removed the file at its end. The next try creates a new one.
            if not folder.is_dir():
                raise
            continue
        except BlockingIOError as error:
            raise InputError(
                f"Another modgap process is writing to {folder} ({_lock_holder(path)}). Wait for its end, or pass "
                "another `out`."
            ) from error
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        record = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(record).encode())
        return descriptor


def _lock_holder(path: Path) -> str:
    """Return who has locked a folder, as its lock file says."""
    try:
        with path.open("rb") as stream:
            record = json.loads(stream.read(MOST_LOCK_BYTES))
        return f"process {int(record['process'])} on {str(record['host'])!r} since {str(record['since'])!r}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "it has not said which process it is"


def create_output_folder(path: str) -> Path:
    """Create a folder for results and check that it is writable, before anything is computed.

    Args:
        path: Path of the folder; `~` is expanded.

    Raises:
        InputError: If the folder cannot be created or written to.
    """
    folder = expand_user(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise InputError(
            f"Cannot write to the output folder {folder}: {error.strerror}. Choose a writable folder."
        ) from error


@contextlib.contextmanager
def output_folder(path: str | None) -> Iterator[Path | None]:
    """Create the folder of `--out`, and refuse other processes that write to it within a block.

    Args:
        path: Path of the folder; `~` is expanded. None for no folder, which is yielded.

    Raises:
        InputError: If the folder cannot be created or written to, or if another process writes to it.
    """
    if path is None:
        yield None
        return
    folder = create_output_folder(path)
    with exclusive_folder(folder):
        yield folder
