"""Unpack archives into a data directory: first into a temporary folder, then moved, with a record of the files."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from modgap.errors import InputError
from modgap.storage.locks import locked
from modgap.targets.download.archives import ArchiveLimits, extract
from modgap.targets.download.folder_records import (
    UnpackedArchive,
    delete_unpacked_archive,
    listing_path,
    write_unpacked_archive,
)

__all__ = ["remove_abandoned_folders", "unpack", "unpacked_files"]

SUFFIX = ".unpacking"

Advance = Callable[[float], None]


def unpack(
    data_dir: Path,
    name: str,
    sha256: str,
    *,
    size: int | None = None,
    reserved: Collection[str] = (),
    advance: Advance | None = None,
) -> UnpackedArchive:
    """Unpack an archive into the folder that it lies in.

    The files are extracted into a temporary folder and moved when all of them are there. From the start until all
    are at their final paths, the record says that the archive is not complete, so that the files of an interrupted
    run are not mistaken for all files.

    Args:
        data_dir: The data directory.
        name: Path of the archive relative to it.
        sha256: SHA-256 of the archive, in hexadecimal.
        size: Size of the unpacked files in bytes; None when it is unknown.
        reserved: Paths, relative to the data directory, that no file of the archive may have.
        advance: Called with the fraction of the archive, in [0, 1], read since the last call.

    Returns:
        The state of the archive, which is complete.

    Raises:
        InputError: When the archive is damaged or hostile, would overwrite other files, or the disk is full.
    """
    try:
        return _unpack(data_dir, name, sha256, ArchiveLimits(total_bytes=size), reserved, advance)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot unpack {data_dir / name}: {reason}. None of its files are used.") from error


def _unpack(
    data_dir: Path,
    name: str,
    sha256: str,
    limits: ArchiveLimits,
    reserved: Collection[str],
    advance: Advance | None,
) -> UnpackedArchive:
    archive = data_dir / name
    state = UnpackedArchive(sha256=sha256, size=archive.stat().st_size)
    with _temporary_folder(archive) as folder:
        write_unpacked_archive(data_dir, name, state)
        moving = False
        try:
            state = _extract(archive, folder, limits, state, advance)
            _check_existing_files(archive, folder, data_dir, reserved)
            moving = True
            for path, _ in _read_listing(_temporary_listing(folder)):
                (archive.parent / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / "files" / path, archive.parent / path)
        except BaseException:
            if not moving:
                delete_unpacked_archive(data_dir, name)
            raise
        os.replace(_temporary_listing(folder), listing_path(data_dir, name))
        state = state.model_copy(update={"complete": True})
        write_unpacked_archive(data_dir, name, state)
    return state


@contextmanager
def _temporary_folder(archive: Path) -> Iterator[Path]:
    """Create a folder beside the archive that only this process uses, and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f".{archive.name[:64]}-", suffix=SUFFIX, dir=archive.parent))
    with locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned_folders(folder: Path) -> None:
    """Remove the temporary folders of processes that were killed while they unpacked into this folder."""
    for temporary in folder.glob(f".*{SUFFIX}"):
        with locked(temporary) as abandoned:
            if abandoned:
                shutil.rmtree(temporary, ignore_errors=True)


def _temporary_listing(folder: Path) -> Path:
    return folder / "listing"


def _extract(
    archive: Path, folder: Path, limits: ArchiveLimits, state: UnpackedArchive, advance: Advance | None
) -> UnpackedArchive:
    files = 0
    size = 0
    (folder / "files").mkdir()
    with _temporary_listing(folder).open("w", encoding="utf-8", newline="\n") as listing:
        for extracted in extract(archive, folder / "files", limits, advance):
            listing.write(f"{extracted.sha256}  {extracted.path}\n")
            files += 1
            size += extracted.size
    return state.model_copy(update={"files": files, "bytes": size})


def _read_listing(listing: Path) -> Iterator[tuple[str, str]]:
    """Yield path and SHA-256 of each file in a listing."""
    with listing.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            digest, _, path = line.rstrip("\n").partition("  ")
            yield path, digest


def unpacked_files(data_dir: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Yield path and SHA-256 of each file of an unpacked archive.

    Args:
        data_dir: The data directory.
        name: Path of the archive relative to it.

    Raises:
        InputError: When the record cannot be read.
    """
    listing = listing_path(data_dir, name)
    try:
        for path, digest in _read_listing(listing):
            yield (data_dir / name).parent / path, digest
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {listing} ({error}). Delete it, and run modgap data fetch again.") from error


def _check_existing_files(archive: Path, folder: Path, data_dir: Path, reserved: Collection[str]) -> None:
    # Another file at the same path belongs to the user or to another archive. An identical one may be replaced.
    for path, digest in _read_listing(_temporary_listing(folder)):
        existing = archive.parent / path
        if existing.relative_to(data_dir).as_posix() in reserved:
            raise InputError(f"cannot unpack {archive}: it contains {path}, which is the name of another download")
        extracted = folder / "files" / path
        if existing.is_symlink() or (existing.exists() and not _is_identical(existing, extracted, digest)):
            raise InputError(
                f"cannot unpack {archive}: it would overwrite {existing}, which is a different file. "
                "Move that file away, and run the command again."
            )


def _is_identical(existing: Path, extracted: Path, digest: str) -> bool:
    if not existing.is_file() or existing.stat().st_size != extracted.stat().st_size:
        return False
    with existing.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == digest
