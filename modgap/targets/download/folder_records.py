"""What is known of the files in a place: checksums recorded on first sight, and archives unpacked."""

import datetime
import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modgap.errors import InputError
from modgap.storage.json_records import read_json, write_json
from modgap.storage.locks import one_process_at_a_time
from modgap.targets.download.relative_paths import LOCK_NAME, OWN_FOLDER

__all__ = ["Recorded", "Unpacked", "listing_path", "lock_path", "mark", "read_lock", "record", "unmark", "unpacked"]

log = logging.getLogger("modgap")


class Recorded(BaseModel):
    """A file's checksum as it was when it was first seen.

    Attributes:
        size: Bytes.
        sha256: SHA-256, in hexadecimal.
        recorded: When, in UTC.
        url: Whence it came; None where it was there already.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    recorded: str = ""
    url: str | None = None


class Unpacked(BaseModel):
    """An archive's unpacking.

    Attributes:
        sha256: SHA-256 of the archive.
        size: Its bytes.
        files: Files that it held.
        bytes: Their size in all.
        complete: Whether all of them are in place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    size: int
    files: int = 0
    bytes: int = 0
    complete: bool = False


def lock_path(data_dir: Path) -> Path:
    """Where the checksums of a place's files are recorded."""
    return data_dir / LOCK_NAME


def read_lock(data_dir: Path) -> dict[str, Recorded]:
    """The recorded checksums, by path within the place.

    Raises:
        InputError: When the file is broken.
    """
    path = lock_path(data_dir)
    files = read_json(path).get("files", {})
    try:
        return {name: Recorded.model_validate(entry) for name, entry in files.items()}
    except (ValidationError, AttributeError) as error:
        raise InputError(f"expected size and sha256 of each file in {path}; delete it if it is broken") from error


def record(
    data_dir: Path, name: str, size: int, sha256: str, *, url: str | None = None, first_word: bool = True
) -> None:
    """Record a file's checksum, so that whoever meets the file later can compare.

    A place that cannot be written keeps no record, which is said aloud.

    Args:
        data_dir: The target's folder.
        name: The file, within it.
        size: Its bytes.
        sha256: Its SHA-256.
        url: Whence it came.
        first_word: Whether no one else vouches for the file, which is said aloud.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    entry = Recorded(size=size, sha256=sha256, recorded=now, url=url)
    try:
        with one_process_at_a_time(data_dir / OWN_FOLDER / "lock.lock", f"writing {LOCK_NAME}"):
            known = read_lock(data_dir) | {name: entry}
            files = {each: known[each].model_dump() for each in sorted(known)}
            write_json(lock_path(data_dir), {"schema": 1, "files": files})
        if first_word:
            log.warning("no checksum of %s is known; recorded %s in %s for next time", name, sha256, LOCK_NAME)
    except OSError as error:
        log.warning("cannot record the checksum of %s in %s (%s)", name, lock_path(data_dir), error.strerror)


def _marker(data_dir: Path, name: str) -> Path:
    return data_dir / OWN_FOLDER / "unpacked" / f"{name}.json"


def listing_path(data_dir: Path, name: str) -> Path:
    """SHA-256 and path of each file that came out of an archive, one a line, as sha256sum writes them."""
    return data_dir / OWN_FOLDER / "unpacked" / f"{name}.sha256"


def unpacked(data_dir: Path, name: str) -> Unpacked | None:
    """What is known of an archive's unpacking; None where it was never begun.

    Raises:
        InputError: When the record is broken.
    """
    path = _marker(data_dir, name)
    found = read_json(path)
    if not found:
        return None
    try:
        return Unpacked.model_validate(found)
    except ValidationError as error:
        raise InputError(f"expected the record of an unpacked archive in {path}; delete it if it is broken") from error


def mark(data_dir: Path, name: str, state: Unpacked) -> None:
    """Record an archive's unpacking.

    Raises:
        OSError: When the place cannot be written.
    """
    write_json(_marker(data_dir, name), state.model_dump())


def unmark(data_dir: Path, name: str) -> None:
    """Forget an archive's unpacking."""
    _marker(data_dir, name).unlink(missing_ok=True)
