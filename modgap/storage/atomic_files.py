"""Files written whole, and files and folders that one living process holds."""

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from modgap.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["hold", "megabytes", "one_at_a_time", "publish", "read_json", "write_json"]

DAY = 86_400

log = logging.getLogger("modgap")


def megabytes(size: int) -> str:
    """A size for people.

    Example:
        >>> megabytes(26_100_000_000), megabytes(1_500), megabytes(2_400_000)
        ('26.1 GB', '1.5 kB', '2.4 MB')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def read_json(path: Path) -> dict:
    """A JSON object that modgap wrote; empty when there is none.

    Raises:
        InputError: When it cannot be read or is not an object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"expected JSON in {path}, which modgap wrote ({error}); delete it if it is broken") from error
    if not isinstance(record, dict):
        raise InputError(f"expected a JSON object in {path}, got {type(record).__name__}; delete it if it is broken")
    return record


def write_json(path: Path, record: dict) -> None:
    """Write a JSON object whole or not at all, under a name of its own first.

    Raises:
        OSError: When the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(record, stream, indent=1, allow_nan=False)
            stream.write("\n")
        publish(Path(temporary), path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def publish(temporary: Path, path: Path) -> None:
    """Move a finished file into place, readable to all whom the user's mask lets in.

    Raises:
        OSError: When it cannot be moved.
    """
    mask = os.umask(0o022)
    os.umask(mask)
    # mkstemp keeps others out, but a folder of data may be shared.
    os.chmod(temporary, 0o666 & ~mask)
    os.replace(temporary, path)


def hold(path: Path) -> int | None:
    """Hold a file or folder for this process, until the descriptor is closed or the process ends.

    Returns:
        A descriptor, or None where another living process holds it, it is gone, or locks do not work
        there and it is younger than a day.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        if fcntl is None:
            kept = time.time() - os.fstat(descriptor).st_mtime > DAY
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its owner may have finished, and moved it away, between the opening and the lock.
            kept = os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        kept = False
    if kept:
        return descriptor
    os.close(descriptor)
    return None


@contextlib.contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """Wait until no other process is at the same work. This only saves work: where locks fail, all go on.

    Args:
        path: File that stands for the work.
        what: The work, for the message while waiting.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process is %s; waiting for it", what)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        log.debug("no lock at %s: %s", path, error)
    try:
        yield
    finally:
        lock.release(force=True)
