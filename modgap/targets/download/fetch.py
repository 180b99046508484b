"""Fetch the files of a target: the plan of what is to be done, downloads, and archives that are unpacked.

Archives are first unpacked into a temporary folder, and then moved, with a record of the files.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modgap.errors import InputError, Progress, format_bytes
from modgap.storage.digests import file_digest
from modgap.storage.locks import locked, one_process_at_a_time
from modgap.storage.paths import RECORDS_FOLDER, parse_relative_path
from modgap.targets.download.data_directory import (
    ExpectedFile,
    UnpackedArchive,
    compute_checksums,
    delete_unpacked_archive,
    describe_source,
    expected_files,
    find_mismatch,
    find_target_files,
    is_manual,
    listing_path,
    read_unpacked_archive,
    record_checksum,
    write_unpacked_archive,
)
from modgap.targets.download.extraction import ArchiveLimits, extract
from modgap.targets.download.http import DownloadRequest, download_file, host_of, partial_size
from modgap.targets.manifest import Download, Manifest

__all__ = [
    "FetchPlan",
    "PlannedDownload",
    "fetch",
    "is_offline",
    "plan_fetch",
    "remove_abandoned_folders",
    "unpack",
    "unpacked_files",
]

log = logging.getLogger("modgap")

UNPACKING_SUFFIX = ".unpacking"

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
    folder = Path(tempfile.mkdtemp(prefix=f".{archive.name[:64]}-", suffix=UNPACKING_SUFFIX, dir=archive.parent))
    with locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned_folders(folder: Path) -> None:
    """Remove the temporary folders of processes that were killed while they unpacked into this folder."""
    for temporary in folder.glob(f".*{UNPACKING_SUFFIX}"):
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
        for path, file_size, sha256 in extract(archive, folder / "files", limits, advance):
            listing.write(f"{sha256}  {path}\n")
            files += 1
            size += file_size
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


State = Literal["present", "unpacked", "files present", "missing", "wrong size"]


@dataclass(frozen=True)
class PlannedDownload:
    """One download of a target, and its state on the disk.

    Attributes:
        download: The entry of the manifest.
        name: Path relative to the data directory, validated.
        path: Final path of the file.
        state: `present` (judged by its size alone), `unpacked`, `files present` (the archive is absent, but all files
            of the target exist), `missing`, or `wrong size`.
        partial_bytes: Bytes of an interrupted download that can be resumed.
        expected: Expected size and checksums.
    """

    download: Download
    name: str
    path: Path
    state: State
    partial_bytes: int
    expected: ExpectedFile

    @property
    def needed(self) -> bool:
        """True when the file must be fetched."""
        return self.state in ("missing", "wrong size")

    @property
    def size(self) -> int | None:
        """Size in bytes, which is approximate where `expected.size` is None; None when it is unknown."""
        return self.download.approximate_size if self.expected.size is None else self.expected.size

    @property
    def hosts(self) -> list[str]:
        """The hosts that provide the file."""
        return [host_of(url) or url for url in self.download.urls]


@dataclass(frozen=True)
class FetchPlan:
    """The downloads of a target, and the space that they need.

    Attributes:
        data_dir: The data directory.
        items: The downloads.
        free: Free bytes on the disk of the data directory.
    """

    data_dir: Path
    items: tuple[PlannedDownload, ...]
    free: int

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes to fetch of the files whose exact size is known."""
        return sum(max((item.expected.size or 0) - item.partial_bytes, 0) for item in self.items if item.needed)

    @property
    def approximate_bytes_to_fetch(self) -> int:
        """Bytes to fetch of the files whose size is known only approximately."""
        approximate = [item for item in self.items if item.needed and item.expected.size is None]
        return sum(max((item.size or 0) - item.partial_bytes, 0) for item in approximate)

    @property
    def bytes_to_unpack(self) -> int:
        """Smallest number of bytes that the archives unpack to; an unknown archive counts with its own size."""
        packed = [i for i in self.items if i.download.unpack and i.state not in ("unpacked", "files present")]
        return sum(item.download.unpacked_size or item.expected.size or 0 for item in packed)

    @property
    def files_of_unknown_size(self) -> int:
        """Number of files to fetch whose size is not known at all."""
        return sum(item.needed and item.size is None for item in self.items)


def is_offline() -> bool:
    """Return True when the environment variable `MODGAP_OFFLINE` forbids the use of the network."""
    return os.environ.get("MODGAP_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def plan_fetch(manifest: Manifest, data_dir: Path) -> FetchPlan:
    """Determine the state of all downloads of a target from the names and sizes of files.

    Args:
        manifest: The target.
        data_dir: The data directory.

    Raises:
        InputError: When a download would lie outside the data directory, or modgap's records there are damaged.
    """
    expected = expected_files(manifest, data_dir)
    complete = bool(manifest.files) and all((data_dir / file.path).exists() for file in manifest.files)
    items = []
    for download in manifest.downloads:
        try:
            name = str(parse_relative_path(download.path))
        except ValueError as error:
            raise InputError(f"manifest {manifest.name}: download {download.path!r} {error}") from None
        path = data_dir / name
        state = _state(download, name, data_dir, expected[download.path], complete)
        items.append(PlannedDownload(download, name, path, state, partial_size(path), expected[download.path]))
    return FetchPlan(data_dir, tuple(items), _free_bytes(data_dir))


def _state(download: Download, name: str, data_dir: Path, expected: ExpectedFile, complete: bool) -> State:
    path = data_dir / name
    archive = read_unpacked_archive(data_dir, name) if download.unpack else None
    is_current = (
        archive is not None and archive.complete and expected.checksums.get("sha256", archive.sha256) == archive.sha256
    )
    if is_current and all(file.is_file() for file, _ in unpacked_files(data_dir, name)):
        return "unpacked"
    if path.is_file():
        return "present" if expected.size in (None, path.stat().st_size) else "wrong size"
    if path.exists():
        raise InputError(
            f'expected a file at {path}, but it is a folder. Move it away, or give another `data_dir="DIR"`.'
        )
    return "files present" if download.unpack and complete and archive is None else "missing"


def _free_bytes(data_dir: Path) -> int:
    existing = next(folder for folder in (data_dir.absolute(), *data_dir.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(existing).free


def fetch(
    manifest: Manifest,
    data_dir: Path,
    *,
    timeout: float = 60.0,
    keep_archives: bool = True,
    progress: Progress | None = None,
) -> FetchPlan:
    """Fetch all downloads of a target into its data directory, verify them, and unpack the archives.

    Files that exist are verified, not fetched again. An interrupted call can be repeated and resumes. Of several
    processes, one works and the others wait.

    Args:
        manifest: The target.
        data_dir: The data directory.
        timeout: Seconds without data before the next host is tried.
        keep_archives: False deletes each archive after it is unpacked.
        progress: Called with the name of a stage and the fraction of it done since the last call.

    Returns:
        The plan that was executed.

    Raises:
        InputError: When a file cannot be obtained, differs from its expected size or checksum, or the disk is too
            small.
    """
    if not manifest.downloads:
        # Files of Python packages and of the operating system do not depend on the data directory.
        uses_data_dir = any(not file.package and not file.folder for file in manifest.files)
        find_target_files(manifest, data_dir=data_dir if uses_data_dir else None)
        _record_manual_files(manifest, data_dir)
        return plan_fetch(manifest, data_dir)
    with one_process_at_a_time(data_dir / RECORDS_FOLDER / "fetch.lock", f"fetching {manifest.name}"):
        plan = plan_fetch(manifest, data_dir)
        _check_offline(manifest, plan)
        _check_free_space(plan)
        for item in plan.items:
            if not item.needed or item.download.urls:
                _complete_download(item, plan, timeout, progress)
                if item.download.unpack and not keep_archives:
                    item.path.unlink(missing_ok=True)
    _check_missing_files(manifest, plan)
    _record_manual_files(manifest, data_dir)
    return plan


def _complete_download(item: PlannedDownload, plan: FetchPlan, timeout: float, progress: Progress | None) -> None:
    if item.state not in ("unpacked", "files present"):
        sha256 = _verify_or_download(item, plan.data_dir, timeout, progress)
        if item.download.unpack:
            _unpack_download(item, plan, sha256, progress)


def _advance(progress: Progress | None, stage: str) -> Callable[[float], None] | None:
    """Return the function that reports progress of a stage; None when nobody asked for it."""
    return None if progress is None else lambda fraction: progress(stage, fraction)


def _check_offline(manifest: Manifest, plan: FetchPlan) -> None:
    missing = [item for item in plan.items if item.needed and item.download.urls]
    if not missing or not is_offline():
        return
    others = len(missing) - 1
    more = f" Do the same for {others} more, which modgap data fetch --dry-run lists." if others else ""
    raise InputError(
        f"MODGAP_OFFLINE is set, but {len(missing)} of the {len(plan.items)} downloads of {manifest.name} are missing. "
        f"Download {missing[0].download.urls[0]} by hand and save it as {missing[0].path}.{more}"
    )


def _check_free_space(plan: FetchPlan) -> None:
    needed = plan.bytes_to_fetch + plan.bytes_to_unpack
    if needed > plan.free:
        raise InputError(
            f"the disk of {plan.data_dir} has {format_bytes(plan.free)} free, but {format_bytes(needed)} are needed "
            f"({format_bytes(plan.bytes_to_fetch)} to fetch, at least {format_bytes(plan.bytes_to_unpack)} to unpack). "
            'Choose a larger disk with `data_dir="DIR"` or the environment variable MODGAP_DATA.'
        )


def _verify_or_download(item: PlannedDownload, data_dir: Path, timeout: float, progress: Progress | None) -> str:
    """Verify the file if it exists, download it otherwise, and return its SHA-256."""
    if item.state != "missing":
        checksums = _compute_needed_checksums(item)
        mismatch = find_mismatch(item.path, item.expected, checksums)
        if not mismatch:
            _record_if_unlisted(item, data_dir, checksums["sha256"], None)
            return checksums["sha256"]
        _set_aside(item, mismatch)
    expected = item.expected
    request = DownloadRequest(item.path, item.download.urls, expected.size, expected.checksums, expected.note)
    sha256, url = download_file(request, timeout=timeout, advance=_advance(progress, f"fetch {item.path.name}"))
    _record_if_unlisted(item, data_dir, sha256, url)
    return sha256


def _compute_needed_checksums(item: PlannedDownload) -> dict[str, str]:
    if set(item.expected.checksums) == {"md5"}:
        return compute_checksums(item.path, {"sha256", "md5"})
    return {"sha256": file_digest(item.path)}


def _set_aside(item: PlannedDownload, mismatch: str) -> None:
    if not item.download.urls or is_offline():
        raise InputError(f"{mismatch}. Replace the file by hand.")
    aside = item.path.with_name(f"{item.path.name}.bad")
    os.replace(item.path, aside)
    log.warning("%s. The file was renamed to %s and is fetched again.", mismatch, aside.name)


def _record_if_unlisted(item: PlannedDownload, data_dir: Path, sha256: str, url: str | None) -> None:
    """Record the SHA-256 of a file unless the manifest contains it."""
    if "sha256" in item.expected.checksums:
        return
    size = item.path.stat().st_size
    record_checksum(data_dir, item.download.path, size, sha256, url=url, warn=not item.expected.checksums)


def _unpack_download(item: PlannedDownload, plan: FetchPlan, sha256: str, progress: Progress | None) -> None:
    remove_abandoned_folders(item.path.parent)
    archive = unpack(
        plan.data_dir,
        item.name,
        sha256,
        size=item.download.unpacked_size,
        reserved={other.name for other in plan.items},
        advance=_advance(progress, f"unpack {item.path.name}"),
    )
    log.info("unpacked %s: %d files, %s", item.name, archive.files, format_bytes(archive.bytes))


def _check_missing_files(manifest: Manifest, plan: FetchPlan) -> None:
    """Raise when files must still be obtained by hand, or when the downloads do not contain the manifest's files."""
    data_dir = plan.data_dir
    missing = [item.path for item in plan.items if item.needed and not item.download.urls]
    paths = [data_dir / file.path for file in manifest.files if not file.package and not file.folder]
    missing += [path for path in paths if not path.exists() and path not in missing]
    if not missing:
        return
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    if is_manual(manifest, data_dir, missing[0]):
        raise InputError(
            f"{missing[0]}{more} must be obtained by hand, because no host is known: {describe_source(manifest)}. "
            "All other files are present."
        )
    raise InputError(
        f"all downloads of {manifest.name} are in {data_dir}, but they do not contain {missing[0].name}{more}. "
        "Correct the [[files]] or the [[downloads]] of its manifest."
    )


def _record_manual_files(manifest: Manifest, data_dir: Path) -> None:
    """Record checksums of files that the user obtained by hand and that the manifest has no checksum of.

    A file with neither a download nor a size in the manifest is the user's own data, which may change.
    """
    if any(download.unpack for download in manifest.downloads):
        return
    expected = expected_files(manifest, data_dir)
    downloaded = {download.path for download in manifest.downloads}
    for file in manifest.files:
        path = data_dir / file.path
        manual = file.path not in downloaded and not file.package
        if manual and file.size is not None and not expected[file.path].checksums and path.is_file():
            record_checksum(data_dir, file.path, path.stat().st_size, file_digest(path))
