"""Fetch the files of a target: the plan of what is to be done, downloads by URL or by a client, and unpacking."""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modgap.errors import InputError, Progress, count, format_bytes
from modgap.storage.digests import file_digest
from modgap.storage.json_records import write_json
from modgap.storage.locks import one_process_at_a_time
from modgap.storage.paths import RECORDS_FOLDER
from modgap.targets.download.archives import ReadEntries, iterate_entries
from modgap.targets.download.clients import Client, PackagedFile, client_of, packaged_file
from modgap.targets.download.data_directory import (
    ExpectedFile,
    UnpackedArchive,
    compute_checksums,
    describe_source,
    expected_files,
    find_mismatch,
    find_target_files,
    has_all_files,
    is_manual,
    listing_path,
    locate_file,
    read_unpacked_archive,
    record_checksum,
    record_of_package,
    relative_path,
    state_path,
)
from modgap.targets.download.extraction import extract, remove_abandoned_folders, temporary_folder
from modgap.targets.download.http import download_file, host_of, partial_size
from modgap.targets.manifest import Download, Manifest

log = logging.getLogger("modgap")

State = Literal["present", "unpacked", "files present", "missing", "wrong size"]


@dataclass(frozen=True)
class PlannedDownload:
    """One download of a target, and its state on the disk.

    Attributes:
        download: The entry of the manifest. For the file of a package, an archive without URLs.
        name: Path relative to the data directory, checked to lie within it.
        path: Path of the file once it is complete.
        state: `present` (judged by its size alone), `unpacked`, `files present` (the archive is absent, but all files
            of the target exist), `missing`, or `wrong size`.
        partial_bytes: Bytes of an interrupted download that can be resumed.
        expected: Expected size and checksums.
        record: Name under which an archive is recorded when it is unpacked.
        packaged: The file of a package that a client downloads; None for a file that a host provides.
        members: Files and folders of the archive to unpack; None for all.
    """

    download: Download
    name: str
    path: Path
    state: State
    partial_bytes: int
    expected: ExpectedFile
    record: str
    packaged: PackagedFile | None = None
    members: tuple[str, ...] | None = None

    @property
    def needed(self) -> bool:
        """True when the file is missing or not usable, so that it must be fetched or obtained by hand."""
        return self.state in ("missing", "wrong size")

    @property
    def size(self) -> int | None:
        """Size in bytes, which is approximate where `expected.size` is None; None when it is unknown."""
        return self.download.approximate_size if self.expected.size is None else self.expected.size

    @property
    def is_manual(self) -> bool:
        """True when neither a host nor a client provides the file."""
        return not self.download.urls and self.packaged is None

    @property
    def hosts(self) -> list[str]:
        """The hosts that provide the file, or the command of the client that does."""
        if self.packaged:
            return [self.packaged.shell_command]
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
        """Smallest number of bytes that the archives unpack to.

        An archive whose unpacked size is unknown counts with its own size.
        """
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
    complete = has_all_files(manifest, data_dir)
    items = []
    for download in manifest.downloads:
        name = relative_path(download.path, "download", manifest)
        path = data_dir / name
        state = _state(download, name, name, data_dir, expected[download.path], complete)
        items.append(PlannedDownload(download, name, path, state, partial_size(path), expected[download.path], name))
    if packaged := packaged_file(manifest):
        name = f"{packaged.folder}/{packaged.file}"
        record = record_of_package(manifest, packaged)
        download = Download(path=name, size=packaged.size, sha256=packaged.sha256, unpack=True)
        pinned = ExpectedFile(packaged.size, {"sha256": packaged.sha256})
        state = _state(download, name, record, data_dir, pinned, complete)
        if state == "unpacked" and not complete:
            # The manifest names more files than an earlier version of it.
            state = "present" if (data_dir / name).is_file() else "missing"
        members = tuple(relative_path(member, "file", manifest) for member in packaged.members)
        items.append(PlannedDownload(download, name, data_dir / name, state, 0, pinned, record, packaged, members))
    # The data directory need not exist yet.
    existing = next(folder for folder in (data_dir.absolute(), *data_dir.absolute().parents) if folder.is_dir())
    return FetchPlan(data_dir, tuple(items), shutil.disk_usage(existing).free)


def _state(download: Download, name: str, record: str, data_dir: Path, expected: ExpectedFile, complete: bool) -> State:
    """Return the state of a download, as `PlannedDownload` defines the states.

    Args:
        download: The entry of the manifest.
        name: Path of the file relative to the data directory.
        record: Name under which an archive is recorded when it is unpacked.
        data_dir: The data directory.
        expected: Expected size and checksums of the file.
        complete: True if all files of the target exist.
    """
    path = data_dir / name
    archive = read_unpacked_archive(data_dir, record) if download.unpack else None
    is_current = (
        archive is not None and archive.complete and expected.checksums.get("sha256", archive.sha256) == archive.sha256
    )
    if is_current and all(file.is_file() for file, _ in unpacked_files(data_dir, record)):
        return "unpacked"
    if path.is_file():
        return "present" if expected.size in (None, path.stat().st_size) else "wrong size"
    if path.exists():
        raise InputError(
            f'expected a file at {path}, but it is a folder. Move it away, or give another `data_dir="DIR"`.'
        )
    return "files present" if download.unpack and complete and archive is None else "missing"


def find_present_files(manifest: Manifest, data_dir: Path) -> None:
    """Raise if a file of a target without downloads is absent.

    Raises:
        InputError: When there is one; the message says how to get it.
    """
    # Files of Python packages and of the operating system do not depend on the data directory.
    uses_data_dir = any(not file.package and not file.folder for file in manifest.files)
    find_target_files(manifest, data_dir=data_dir if uses_data_dir else None)


def fetch(
    manifest: Manifest,
    data_dir: Path,
    *,
    timeout: float = 60.0,
    keep_archives: bool = True,
    run_clients: bool = False,
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
        run_clients: True runs the client that downloads the file of a package, as for manifests that come with it.
            False raises an error with the command instead.
        progress: Called with the name of a stage and the fraction of it done since the last call.

    Returns:
        The plan that was executed, with the states from before.

    Raises:
        InputError: When a file cannot be obtained, differs from its expected size or checksum, or the disk is too
            small.
    """
    if not manifest.downloads and not manifest.artifact:
        find_present_files(manifest, data_dir)
        _record_manual_files(manifest, data_dir)
        return plan_fetch(manifest, data_dir)
    client = client_of(manifest)
    with one_process_at_a_time(data_dir / RECORDS_FOLDER / "fetch.lock", f"fetching {manifest.name}"):
        plan = plan_fetch(manifest, data_dir)
        _check_offline(manifest, plan)
        needed = plan.bytes_to_fetch + plan.bytes_to_unpack
        if needed > plan.free:
            raise InputError(
                f"the disk of {data_dir} has {format_bytes(plan.free)} free, but {format_bytes(needed)} are needed "
                f"({format_bytes(plan.bytes_to_fetch)} to fetch, at least {format_bytes(plan.bytes_to_unpack)} to "
                'unpack). Choose a larger disk with `data_dir="DIR"` or the environment variable MODGAP_DATA.'
            )
        for item in plan.items:
            # Missing files that only the user can obtain are reported at the end, when all others are there.
            if item.needed and item.is_manual:
                continue
            if item.state not in ("unpacked", "files present"):
                if item.packaged and client:
                    sha256 = _verify_or_run_client(item, item.packaged, client if run_clients else None)
                else:
                    sha256 = _verify_or_download(item, plan.data_dir, timeout, progress)
                if item.download.unpack:
                    _unpack_download(item, plan, sha256, progress, client.entries if client else iterate_entries)
            if item.download.unpack and not keep_archives:
                item.path.unlink(missing_ok=True)
    if manifest.artifact:
        # Where the size of an unpacked file is another one, that in the manifest is wrong.
        for file in manifest.files:
            if mismatch := find_mismatch(locate_file(file, manifest, data_dir), ExpectedFile(file.size)):
                raise InputError(f"{mismatch}. Correct its size in the [[files]] of the manifest {manifest.name}.")
    else:
        _check_missing_files(manifest, plan)
        _record_manual_files(manifest, data_dir)
    return plan


def _advance(progress: Progress | None, stage: str) -> Callable[[float], None] | None:
    """Return the function that reports progress of a stage; None when nobody asked for it."""
    return None if progress is None else lambda fraction: progress(stage, fraction)


def _check_offline(manifest: Manifest, plan: FetchPlan) -> None:
    missing = [item for item in plan.items if item.needed and not item.is_manual]
    if not missing or not is_offline():
        return
    if packaged := missing[0].packaged:
        raise InputError(
            f"MODGAP_OFFLINE is set, but {packaged.file} is missing. {packaged.by_hand(missing[0].path.parent)}"
        )
    others = len(missing) - 1
    more = f" Do the same for {others} more, which modgap data fetch --dry-run lists." if others else ""
    raise InputError(
        f"MODGAP_OFFLINE is set, but {len(missing)} of the {len(plan.items)} downloads of {manifest.name} are missing. "
        f"Download {missing[0].download.urls[0]} by hand and save it as {missing[0].path}.{more}"
    )


def _verify_or_run_client(item: PlannedDownload, packaged: PackagedFile, client: Client | None) -> str:
    """Verify the file of a package if it exists, download it otherwise, and return its SHA-256.

    Args:
        item: The download.
        packaged: The file.
        client: The client that downloads it; None raises an error instead.
    """
    folder = item.path.parent
    if item.state != "missing":
        checksums = compute_checksums(item.path, ["sha256"])
        mismatch = find_mismatch(item.path, item.expected, checksums)
        if not mismatch:
            return checksums["sha256"]
        if client is None or is_offline():
            raise InputError(f"{mismatch}. {packaged.by_hand(folder)}")
        _move_aside(item.path, mismatch)
    if client is None:
        raise InputError(
            f"{item.path} is missing, and modgap runs {packaged.client} only for targets that come with it. "
            f"{packaged.by_hand(folder)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned_folders(folder)
    with temporary_folder(item.path) as temporary:
        downloaded = client.download(packaged, temporary, folder)
        checksums = compute_checksums(downloaded, ["sha256"])
        if mismatch := find_mismatch(downloaded, item.expected, checksums):
            mismatch = mismatch.replace(f"{temporary}{os.sep}", "")
            raise InputError(
                f"{packaged.client} brought another file than the manifest names: {mismatch}. It is not used. "
                f"{packaged.by_hand(folder)}"
            )
        os.replace(downloaded, item.path)
    return checksums["sha256"]


def _verify_or_download(item: PlannedDownload, data_dir: Path, timeout: float, progress: Progress | None) -> str:
    """Verify the file if it exists, download it otherwise, and return its SHA-256."""
    if item.state != "missing":
        if set(item.expected.checksums) == {"md5"}:
            checksums = compute_checksums(item.path, {"sha256", "md5"})
        else:
            checksums = {"sha256": file_digest(item.path)}
        mismatch = find_mismatch(item.path, item.expected, checksums)
        if not mismatch:
            _record_if_unlisted(item, data_dir, checksums["sha256"], None)
            return checksums["sha256"]
        if not item.download.urls or is_offline():
            raise InputError(f"{mismatch}. Replace the file by hand.")
        _move_aside(item.path, mismatch)
    advance = _advance(progress, f"fetch {item.path.name}")
    sha256, url = download_file(item.path, item.download.urls, item.expected, timeout, advance)
    _record_if_unlisted(item, data_dir, sha256, url)
    return sha256


def _move_aside(path: Path, mismatch: str) -> None:
    aside = path.with_name(f"{path.name}.bad")
    os.replace(path, aside)
    log.warning("%s. The file was renamed to %s and is fetched again.", mismatch, aside.name)


def _record_if_unlisted(item: PlannedDownload, data_dir: Path, sha256: str, url: str | None) -> None:
    """Record the SHA-256 of a file unless the manifest contains it."""
    if "sha256" in item.expected.checksums:
        return
    size = item.path.stat().st_size
    record_checksum(data_dir, item.download.path, size, sha256, url=url, warn=not item.expected.checksums)


def _unpack_download(
    item: PlannedDownload, plan: FetchPlan, sha256: str, progress: Progress | None, entries: ReadEntries
) -> None:
    """Unpack an archive into the folder that it lies in.

    The files are extracted into a temporary folder and moved when all of them are there. From the start until all
    are at their final paths, the record says that the archive is not complete, so that the files of an interrupted
    run are not mistaken for all files.

    Args:
        item: The download.
        plan: The plan that has it.
        sha256: SHA-256 of the archive.
        progress: As for `fetch`.
        entries: Function that yields the entries of the archive.

    Raises:
        InputError: When the archive is damaged or hostile, would overwrite other files, or the disk is full.
    """
    archive = item.path
    record = state_path(plan.data_dir, item.record)
    advance = _advance(progress, f"unpack {archive.name}")
    n_files = n_bytes = 0
    remove_abandoned_folders(archive.parent)
    try:
        state = UnpackedArchive(sha256=sha256, size=archive.stat().st_size)
        with temporary_folder(archive) as folder:
            write_json(record, state.model_dump())
            files, listing = folder / "files", folder / "listing"
            try:
                files.mkdir()
                extracted = extract(
                    archive, files, item.download.unpacked_size, advance, members=item.members, entries=entries
                )
                with listing.open("w", encoding="utf-8", newline="\n") as lines:
                    for path, size, digest in extracted:
                        lines.write(f"{digest}  {path}\n")
                        n_files += 1
                        n_bytes += size
                _check_existing_files(archive, files, listing, plan)
            except BaseException:
                record.unlink(missing_ok=True)
                raise
            for name, _ in _read_listing(listing):
                (archive.parent / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(files / name, archive.parent / name)
            os.replace(listing, listing_path(plan.data_dir, item.record))
            changes = {"files": n_files, "bytes": n_bytes, "complete": True}
            write_json(record, state.model_copy(update=changes).model_dump())
    except OSError as error:
        raise InputError(f"cannot unpack {archive}: {error.strerror or error}. None of its files are used.") from error
    log.info("unpacked %s: %s, %s", item.name, count(n_files, "file"), format_bytes(n_bytes))


def _check_existing_files(archive: Path, files: Path, listing: Path, plan: FetchPlan) -> None:
    # Another file at the same path belongs to the user or to another archive. An identical one may be replaced.
    reserved = {item.name for item in plan.items}
    for path, digest in _read_listing(listing):
        existing = archive.parent / path
        if existing.relative_to(plan.data_dir).as_posix() in reserved:
            raise InputError(f"cannot unpack {archive}: it contains {path}, which is the name of another download")
        if existing.is_symlink() or (existing.exists() and not _is_identical(existing, files / path, digest)):
            raise InputError(
                f"cannot unpack {archive}: it would overwrite {existing}, which is a different file. "
                "Move that file away, and run the command again."
            )


def _is_identical(existing: Path, extracted: Path, digest: str) -> bool:
    if not existing.is_file() or existing.stat().st_size != extracted.stat().st_size:
        return False
    with existing.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == digest


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
        name: Name under which the archive is recorded.

    Raises:
        InputError: When the record cannot be read.
    """
    listing = listing_path(data_dir, name)
    try:
        for path, digest in _read_listing(listing):
            yield (data_dir / name).parent / path, digest
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {listing} ({error}). Delete it, and run modgap data fetch again.") from error


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

    A file with neither a download nor a size in the manifest is the user's own data, which may change. Where archives
    are unpacked, nothing is recorded, because the files may come from them.
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
