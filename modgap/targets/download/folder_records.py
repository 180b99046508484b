"""modgap's records in a data directory: checksums of files at first sight, and the state of unpacked archives."""

import datetime
import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modgap.errors import InputError
from modgap.storage.json_records import read_json, write_json
from modgap.storage.locks import one_process_at_a_time
from modgap.targets.download.relative_paths import LOCK_NAME, RECORDS_FOLDER

__all__ = [
    "RecordedFile",
    "UnpackedArchive",
    "delete_unpacked_archive",
    "listing_path",
    "lock_path",
    "read_lock",
    "read_unpacked_archive",
    "record_checksum",
    "write_unpacked_archive",
]

log = logging.getLogger("modgap")


class RecordedFile(BaseModel):
    """The checksum of a file when modgap first saw it.

    Attributes:
        size: Size in bytes.
        sha256: SHA-256, in hexadecimal.
        recorded: Date and time of the record, in UTC and ISO format.
        url: URL that the file was downloaded from; None when it was already there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    recorded: str = ""
    url: str | None = None


class UnpackedArchive(BaseModel):
    """The state of an archive that was unpacked.

    Attributes:
        sha256: SHA-256 of the archive, in hexadecimal.
        size: Size of the archive in bytes.
        files: Number of files in the archive.
        bytes: Size of these files in bytes.
        complete: True when all of them are at their final paths.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    size: int
    files: int = 0
    bytes: int = 0
    complete: bool = False


def lock_path(data_dir: Path) -> Path:
    """Return the path of the file that records checksums of a data directory's files."""
    return data_dir / LOCK_NAME


def read_lock(data_dir: Path) -> dict[str, RecordedFile]:
    """Read the recorded checksums, by path relative to the data directory.

    Raises:
        InputError: When the record is damaged.
    """
    path = lock_path(data_dir)
    files = read_json(path).get("files", {})
    try:
        return {name: RecordedFile.model_validate(entry) for name, entry in files.items()}
    except (ValidationError, AttributeError) as error:
        raise InputError(f"{path} is damaged: expected size and sha256 of each file. Repair or delete it.") from error


def record_checksum(
    data_dir: Path, name: str, size: int, sha256: str, *, url: str | None = None, warn: bool = True
) -> None:
    """Record the checksum of a file, so that later changes are noticed.

    A data directory that cannot be written keeps no record, which is logged as a warning.

    Args:
        data_dir: The data directory.
        name: Path of the file relative to it.
        size: Size of the file in bytes.
        sha256: SHA-256 of the file, in hexadecimal.
        url: URL that the file was downloaded from; None when it was already there.
        warn: Log that the checksum is recorded. This is for files whose manifest has no checksum at all.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    entry = RecordedFile(size=size, sha256=sha256, recorded=now, url=url)
    try:
        with one_process_at_a_time(data_dir / RECORDS_FOLDER / "lock.lock", f"writing {LOCK_NAME}"):
            recorded = read_lock(data_dir) | {name: entry}
            files = {path: recorded[path].model_dump() for path in sorted(recorded)}
            write_json(lock_path(data_dir), {"schema": 1, "files": files})
    except OSError as error:
        log.warning("cannot record the checksum of %s in %s (%s)", name, lock_path(data_dir), error.strerror)
        return
    if warn:
        log.warning(
            "the manifest has no checksum of %s. Its SHA-256 %s is recorded in %s, and later copies must match it.",
            name,
            sha256,
            LOCK_NAME,
        )


def _state_path(data_dir: Path, name: str) -> Path:
    return data_dir / RECORDS_FOLDER / "unpacked" / f"{name}.json"


def listing_path(data_dir: Path, name: str) -> Path:
    """Return the path of an archive's list of files: SHA-256 and path on each line, in the format of sha256sum."""
    return data_dir / RECORDS_FOLDER / "unpacked" / f"{name}.sha256"


def read_unpacked_archive(data_dir: Path, name: str) -> UnpackedArchive | None:
    """Read the state of an archive; None when it has not been unpacked.

    Args:
        data_dir: The data directory.
        name: Path of the archive relative to it.

    Raises:
        InputError: When the record is damaged.
    """
    path = _state_path(data_dir, name)
    record = read_json(path)
    if not record:
        return None
    try:
        return UnpackedArchive.model_validate(record)
    except ValidationError as error:
        raise InputError(f"{path} is damaged: expected the state of an unpacked archive. Delete it.") from error


def write_unpacked_archive(data_dir: Path, name: str, state: UnpackedArchive) -> None:
    """Record the state of an archive.

    Raises:
        OSError: When the data directory cannot be written.
    """
    write_json(_state_path(data_dir, name), state.model_dump())


def delete_unpacked_archive(data_dir: Path, name: str) -> None:
    """Delete the record of an archive's state, if there is one."""
    _state_path(data_dir, name).unlink(missing_ok=True)
