"""Leases: which process of many that share a folder works on which job.

A process claims a job by creating a file, which only one can, and writes into it how long its lease is. It renews the
file while it works. A file that has not been renewed for the length of its lease counts as abandoned, and the next
claim of the job creates a file with the next number, which again only one process can create. A process that stops in
an orderly way releases its claim, which then counts as abandoned at once, and not as lost. Nothing is renamed or
removed, so that no claim can be mistaken for another.
"""

import contextlib
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["DEFAULT_LEASE", "LONGEST_LEASE", "Claim", "Leases", "lease_of"]

DEFAULT_LEASE = 60.0
"""Length of a lease in seconds."""
LONGEST_LEASE = 86_400.0
RENEWALS = 4
"""Number of renewals in the length of a lease."""
RELEASED = 1
"""Time of a claim, in seconds since 1970, that stands for one that was released."""
MOST_BYTES = 64

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class Claim:
    """A job that this process has claimed.

    Attributes:
        path: File of the claim.
        number: Number of the claim of this job, from 0: how often it was claimed before.
    """

    path: Path
    number: int


@dataclass
class Leases:
    """Claims of jobs in a folder that several processes share.

    Attributes:
        folder: Folder of the claims.
        seconds: Length of a lease of this process: a claim that it does not renew for so long is abandoned.
        most_claims: Number of claims of a job that were abandoned, and not released, after which it is given up.
    """

    folder: Path
    seconds: float = DEFAULT_LEASE
    most_claims: int = 3
    _clock: Path = field(init=False)

    def __post_init__(self) -> None:
        """Create the folder, and a file whose time tells the time of the file system.

        Raises:
            OSError: When the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clock = self.folder / f"clock-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._clock.touch()

    def claim(self, name: str) -> Claim | None:
        """Claim a job that no living process has claimed.

        Args:
            name: Name of the job, of letters, digits and hyphens.

        Returns:
            The claim; None if another process has the job, or if it was given up.
        """
        number, lost = 0, 0
        while lost < self.most_claims:
            path = self._path(name, number)
            if _create(path, self.seconds):
                return Claim(path, number)
            if not self._is_abandoned(path):
                return None
            lost += not _is_released(path)
            number += 1
        return None

    def is_given_up(self, name: str) -> bool:
        """Return True if the job was claimed as often as it may be, and abandoned each time."""
        number, lost = 0, 0
        while self._is_abandoned(self._path(name, number)):
            lost += not _is_released(self._path(name, number))
            number += 1
        return lost >= self.most_claims

    def release(self, claim: Claim) -> None:
        """Give a job back that this process does not finish, so that another may claim it at once."""
        with contextlib.suppress(OSError):
            os.utime(claim.path, (RELEASED, RELEASED))

    def holds(self, claim: Claim) -> bool:
        """Return True unless another process has taken over the job, because this one did not renew its claim."""
        return not claim.path.with_suffix(f".{claim.number + 1}").exists()

    @contextlib.contextmanager
    def renewed(self, claim: Claim) -> Iterator[None]:
        """Renew a claim within a block, in a thread."""
        ends = threading.Event()

        def renew() -> None:
            while not ends.wait(self.seconds / RENEWALS):
                with contextlib.suppress(OSError):
                    os.utime(claim.path)

        thread = threading.Thread(target=renew, daemon=True, name="modgap-lease")
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()

    def close(self) -> None:
        """Remove the file that tells the time."""
        self._clock.unlink(missing_ok=True)

    def _path(self, name: str, number: int) -> Path:
        return self.folder / name[:2] / f"{name}.{number}"

    def _is_abandoned(self, path: Path) -> bool:
        """Return True if a claim is older than its lease, by the clock of the file system and not of this machine."""
        try:
            renewed = path.stat().st_mtime
        except OSError:
            return False
        os.utime(self._clock)
        return self._clock.stat().st_mtime - renewed > lease_of(path, self.seconds)


def lease_of(path: Path, default: float) -> float:
    """Return the length of a claim's lease in seconds, or the default if its file does not say one of at most a day."""
    try:
        with path.open("rb") as stream:
            seconds = float(stream.read(MOST_BYTES))
    except (OSError, ValueError):
        return default
    return seconds if 0 < seconds <= LONGEST_LEASE else default


def _is_released(path: Path) -> bool:
    try:
        return path.stat().st_mtime == RELEASED
    except OSError:
        return False


def _create(path: Path, lease: float) -> bool:
    """Create the file of a claim, and return False if it exists."""
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            try:
                os.write(descriptor, f"{lease:g}".encode())
            finally:
                os.close(descriptor)
            return True
    return False
