"""The data directory of a target: where it is, modgap's records in it, and the expected checksums of its files.

The directory is one that the user names, one that was saved earlier, or one in the data folder. Checksums are those of
the manifest, or else those that were recorded at first sight.
"""

import datetime
import hashlib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modgap.errors import InputError, UsageError, format_bytes
from modgap.process.installed_packages import find_package_folder
from modgap.storage.digests import folder_digest
from modgap.storage.json_records import read_json, write_json
from modgap.storage.locks import one_process_at_a_time
from modgap.storage.paths import LOCK_NAME, RECORDS_FOLDER, data_folder, parse_relative_path
from modgap.targets.download.clients import PackagedFile, packaged_file
from modgap.targets.manifest import DataFile, Download, Manifest

log = logging.getLogger("modgap")


# Checksums at first sight


class RecordedFile(BaseModel):
    """The checksum of a file when modgap first saw it, for files whose manifest has no SHA-256.

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


def read_lock(data_dir: Path) -> dict[str, RecordedFile]:
    """Read the recorded checksums, by path relative to the data directory.

    The file is a lock file as package managers have one. Other processes are kept out by another file.

    Raises:
        InputError: When the record is damaged.
    """
    path = data_dir / LOCK_NAME
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
    path = data_dir / LOCK_NAME
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    entry = RecordedFile(size=size, sha256=sha256, recorded=now, url=url)
    try:
        with one_process_at_a_time(data_dir / RECORDS_FOLDER / "lock.lock", f"writing {LOCK_NAME}"):
            recorded = read_lock(data_dir) | {name: entry}
            files = {file: recorded[file].model_dump() for file in sorted(recorded)}
            write_json(path, {"schema": 1, "files": files})
    except OSError as error:
        log.warning("cannot record the checksum of %s in %s (%s)", name, path, error.strerror)
        return
    if warn:
        text = "the manifest has no checksum of %s. Its SHA-256 %s is recorded in %s, and later copies must match it."
        log.warning(text, name, sha256, LOCK_NAME)


# Unpacked archives


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


def record_of_package(manifest: Manifest, packaged: PackagedFile) -> str:
    """Return the name under which a target's members of the file of a package are recorded.

    The name has that of the target, because several targets can use different members of one file.
    """
    return f"{packaged.folder}/{manifest.name}"


def state_path(data_dir: Path, name: str) -> Path:
    """Return the path of the record of an archive's state, an `UnpackedArchive`."""
    return data_dir / RECORDS_FOLDER / "unpacked" / f"{name}.json"


def listing_path(data_dir: Path, name: str) -> Path:
    """Return the path of an archive's list of files: SHA-256 and path on each line, in the format of sha256sum."""
    return data_dir / RECORDS_FOLDER / "unpacked" / f"{name}.sha256"


def read_unpacked_archive(data_dir: Path, name: str) -> UnpackedArchive | None:
    """Read the state of an archive; None when it has not been unpacked.

    Args:
        data_dir: The data directory.
        name: Path of the archive relative to it, or the name of `record_of_package`.

    Raises:
        InputError: When the record is damaged.
    """
    path = state_path(data_dir, name)
    record = read_json(path)
    if not record:
        return None
    try:
        return UnpackedArchive.model_validate(record)
    except ValidationError as error:
        raise InputError(f"{path} is damaged: expected the state of an unpacked archive. Delete it.") from error


# Expected sizes and checksums


TEMPORARY = re.compile(r"\..*(\.part(\.json)?|\.unpacking)|.*\.bad")
"""Names of partial downloads, of archives while they are unpacked, and of damaged files that were set aside."""
ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}
"""Hash algorithms of manifests, with their names for messages."""


@dataclass(frozen=True)
class ExpectedFile:
    """The expected size and checksums of a file or folder.

    Attributes:
        size: Size in bytes; None when it is unknown.
        checksums: Checksums in hexadecimal by algorithm (sha256, md5); empty when none is known.
        recorded: Date and time when a checksum was recorded at first sight; None when it is the manifest's.
    """

    size: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    recorded: str | None = None

    @property
    def note(self) -> str:
        """The end of a message about a mismatch: where the expectation comes from; empty for the manifest."""
        if self.recorded is None:
            return ""
        return f" (recorded in {LOCK_NAME} on {self.recorded[:10]}; delete its entry there if it may change)"


def expected_files(manifest: Manifest, data_dir: Path | None) -> dict[str, ExpectedFile]:
    """Return the expected sizes and checksums of all downloads and files of a manifest, by their paths in it.

    Args:
        manifest: The target.
        data_dir: Its data directory, for checksums recorded at first sight; None ignores these.

    Raises:
        InputError: When the record of checksums is damaged.
    """
    expected: dict[str, ExpectedFile] = {}
    entries: tuple[Download | DataFile, ...] = (*manifest.downloads, *manifest.files)
    for entry in entries:
        earlier = expected.get(entry.path, ExpectedFile())
        named = {name: value for name in ALGORITHMS if (value := getattr(entry, name, None))}
        size = entry.size if earlier.size is None else earlier.size
        expected[entry.path] = ExpectedFile(size, {**named, **earlier.checksums})
    for path, record in (read_lock(data_dir) if data_dir is not None else {}).items():
        # The SHA-256 of the manifest makes the record void.
        if path in expected and "sha256" not in expected[path].checksums:
            size = record.size if expected[path].size is None else expected[path].size
            checksums = {**expected[path].checksums, "sha256": record.sha256}
            expected[path] = ExpectedFile(size, checksums, record.recorded)
    return expected


def find_mismatch(path: Path, expected: ExpectedFile, checksums: Mapping[str, str] | None = None) -> str | None:
    """Compare a file or folder with its expected size and checksums.

    Args:
        path: The file, or a folder, whose size and checksum are those of its files without links.
        expected: Its expected size and checksums.
        checksums: Its actual checksums by algorithm; None compares the size alone.

    Returns:
        A message about the first mismatch; None when there is none.
    """
    size = data_size(path)
    if expected.size not in (None, size):
        return f"expected {path} to have {expected.size} bytes, got {size}{expected.note}"
    for name, value in expected.checksums.items():
        if checksums and name in checksums and checksums[name] != value:
            return f"expected {path} to have {ALGORITHMS[name]} {value}, got {checksums[name]}{expected.note}"
    return None


def files_below(folder: Path, exclude: Collection[Path] = ()) -> list[Path]:
    """List all files in a folder and its sub-folders in the order of their names.

    Hidden files and folders, modgap's records and temporary files, and links to folders are left out.

    Args:
        folder: The folder.
        exclude: Files to leave out, such as archives whose content is there unpacked.
    """
    excluded = {str(path) for path in exclude}
    return [Path(path) for path in sorted(_walk(str(folder))) if path not in excluded]


def files_without_links(folder: Path) -> list[Path]:
    """List all files in a folder that are no symbolic links, whose digest is the checksum of a folder."""
    return [path for path in files_below(folder) if not path.is_symlink()]


def data_size(path: Path) -> int:
    """Return the size of a file in bytes, or of all files in a folder that are no symbolic links."""
    return sum(file.stat().st_size for file in files_without_links(path)) if path.is_dir() else path.stat().st_size


def _walk(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == LOCK_NAME or TEMPORARY.fullmatch(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            elif entry.is_file():
                yield entry.path


def compute_checksums(path: Path, algorithms: Collection[str]) -> dict[str, str]:
    """Compute several checksums of a file in one pass over the disk, or the SHA-256 of a folder.

    Args:
        path: The file or folder.
        algorithms: Names for `hashlib.new`, such as sha256.

    Returns:
        The checksums in hexadecimal, by algorithm.

    Raises:
        InputError: When the file cannot be read.
    """
    if path.is_dir():
        return {"sha256": folder_digest(path, files_without_links(path), noted=False)}
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                for running_hash in hashes.values():
                    running_hash.update(chunk)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return {name: running_hash.hexdigest() for name, running_hash in hashes.items()}


# Location of the data directory


def _data_dirs_file() -> Path:
    return data_folder() / "data_dirs.json"


def saved_data_dirs() -> dict[str, Path]:
    """Return the saved data directories by the names of their targets.

    Raises:
        InputError: When the file that contains them is damaged.
    """
    return {name: Path(str(folder)) for name, folder in read_json(_data_dirs_file()).items()}


def save_data_dir(name: str, data_dir: Path | None) -> None:
    """Save the data directory of a target, so that later commands use it.

    Args:
        name: Name of the target.
        data_dir: The directory; None to forget the saved one.

    Raises:
        InputError: When the directory does not exist, or its path cannot be saved.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f'there is no folder at {data_dir}. Create it, or give another `data_dir="DIR"`.')
    try:
        with one_process_at_a_time(data_folder() / "data_dirs.lock", "saving a data directory"):
            saved = {target: str(folder) for target, folder in saved_data_dirs().items() if target != name}
            if data_dir is not None:
                saved[name] = str(data_dir.resolve())
            write_json(_data_dirs_file(), dict(sorted(saved.items())))
    except OSError as error:
        raise InputError(f"cannot save a data directory in {_data_dirs_file()}: {error.strerror}") from error


def find_data_dir(manifest: Manifest, data_dir: Path | None = None, manifest_folder: Path | None = None) -> Path:
    """Return the directory that the manifest's paths are relative to; it need not exist.

    The first that applies is taken: the directory that the user names, the one that was saved for the target, the
    folder of the user's manifest if it contains the data or nothing can be downloaded, and a folder in the data folder.

    Args:
        manifest: The target.
        data_dir: The directory that the user names; None when there is none.
        manifest_folder: Folder of a manifest file of the user, which may also contain the data; None for the
            manifests of modgap.

    Raises:
        InputError: When the saved directory does not exist.
        UsageError: When the user names a directory for files that are part of a package.
    """
    relative = [file for file in manifest.files if not file.package]
    if data_dir is not None:
        if manifest.files and not relative and not manifest.artifact:
            raise UsageError(f"`data_dir` does not apply to target {manifest.name}: its files are part of a package")
        return data_dir
    saved = saved_data_dirs().get(manifest.name)
    if saved is not None:
        if not saved.is_dir():
            # Its disk may not be mounted, so nothing may be fetched into the mount point.
            raise InputError(
                f"the saved data directory {saved} of target {manifest.name} does not exist. Mount its disk, give "
                f'another `data_dir="DIR"`, or run: modgap data path {manifest.name} --forget'
            )
        return saved
    if manifest_folder is not None:
        complete = bool(relative) and all(os.path.exists(manifest_folder / file.path) for file in relative)
        if complete or not manifest.downloads:
            return manifest_folder
    # Several targets are in one package, which is downloaded once.
    return data_folder() if manifest.artifact else data_folder() / manifest.name


def find_target_files(
    manifest: Manifest, argument: str | None = None, data_dir: Path | None = None, manifest_folder: Path | None = None
) -> tuple[Path, dict[str, list[Path]]]:
    """Find all files that the reader of a target needs.

    Args:
        manifest: The target.
        argument: The target as the user wrote it, for the commands in messages; None uses its name.
        data_dir: As in `find_data_dir`.
        manifest_folder: As in `find_data_dir`.

    Returns:
        The directory that the manifest's paths are relative to, and the paths, all of which exist, by role.

    Raises:
        InputError: When files are missing; the message says how to obtain them.
        UsageError: When the user names a directory for files that are part of a package.
    """
    directory = find_data_dir(manifest, data_dir, manifest_folder)
    paths = [locate_file(file, manifest, directory) for file in manifest.files]
    uses_directory = manifest.artifact is not None or any(path.is_relative_to(directory) for path in paths)
    if data_dir is not None and manifest.files and not uses_directory:
        raise InputError(f"{data_dir} contains none of the files of target {manifest.name}")
    # Path.exists raises an error for a name that is too long for the disk.
    if missing := [path for path in paths if not os.path.exists(path)]:
        count = f" ({len(missing)} of its {len(paths)} files are missing)" if len(paths) > 1 else ""
        raise InputError(
            f"target {manifest.name} needs {missing[0]}, which does not exist{count}. "
            f"{_remedy(manifest, argument or manifest.name, directory, missing[0])}"
        )
    _check_unpacked(manifest, argument or manifest.name, directory)
    files = defaultdict(list)
    for file, path in zip(manifest.files, paths, strict=True):
        files[file.role].append(path)
    return directory, dict(files)


def locate_file(file: DataFile, manifest: Manifest, data_dir: Path) -> Path:
    """Return the path of a file of a target; the file need not exist.

    It is in its Python package, in the data directory, in the folder of a package of the operating system, or where
    `modgap data fetch` unpacked the manifest's artifact.

    Raises:
        InputError: When the Python package is not installed, and the manifest has no artifact.
    """
    package_folder = find_package_folder(file.package) if file.package else None
    if packaged := packaged_file(manifest):
        # A file that is installed need not be unpacked.
        installed = [package_folder / file.path] if package_folder else []
        if not file.package:
            installed += [data_dir / file.path] if file.path != "." else []
            installed += [Path(file.folder) / file.path] if file.folder else []
        unpacked = data_dir / packaged.folder / packaged.members[manifest.files.index(file)]
        return next((path for path in installed if _fits(path, file)), unpacked)
    if file.package:
        if package_folder is None:
            raise InputError(
                f"target {manifest.name} needs the package {file.package}, which is not installed. "
                f"Install it with: {manifest.install or f'pip install {file.package}'}"
            )
        return package_folder / file.path
    path = data_dir / file.path
    return Path(file.folder) / file.path if file.folder and not os.path.exists(path) else path


def _fits(path: Path, file: DataFile) -> bool:
    """Return True if there is a file or folder at a path, with the size in the manifest if it states one."""
    return os.path.exists(path) and (file.size is None or data_size(path) == file.size)


def has_all_files(manifest: Manifest, data_dir: Path) -> bool:
    """Return True if all files of a target with downloads or an artifact exist, wherever they came from."""
    if manifest.artifact:
        return all(_fits(locate_file(file, manifest, data_dir), file) for file in manifest.files)
    return bool(manifest.files) and all((data_dir / file.path).exists() for file in manifest.files)


def is_manual(manifest: Manifest, data_dir: Path, path: Path) -> bool:
    """Return True when no download provides a file: no host has it, and no archive can contain it."""
    hosted = [download for download in manifest.downloads if download.urls]
    return not any(download.unpack or data_dir / download.path == path for download in hosted)


def describe_source(manifest: Manifest) -> str:
    """Describe where the files of a target without a host can be obtained, in the manifest's words."""
    return (manifest.install or manifest.citation or manifest.title).rstrip(".")


def _remedy(manifest: Manifest, argument: str, data_dir: Path, path: Path) -> str:
    """Return the sentence that tells the user how to obtain a missing file."""
    alternative = 'If you have it, give its folder with `data_dir="DIR"`.'
    if packaged := packaged_file(manifest):
        install = f", or install it with: {manifest.install}" if manifest.install else ""
        return f"Fetch it with: modgap data fetch {argument} ({format_bytes(packaged.size)}){install}"
    if not is_manual(manifest, data_dir, path):
        sizes = [download.size for download in manifest.downloads if download.size is not None]
        size = f" ({format_bytes(sum(sizes))})" if sizes and len(sizes) == len(manifest.downloads) else ""
        return f"Fetch it with: modgap data fetch {argument}{size}. {alternative}"
    if manifest.install and not manifest.downloads:
        return f"Install it with: {manifest.install}"
    if not (manifest.downloads or manifest.citation):
        return 'Check its path in the manifest, or give its folder with `data_dir="DIR"`.'
    return f"Obtain it by hand ({describe_source(manifest)}). {alternative}"


def _check_unpacked(manifest: Manifest, argument: str, data_dir: Path) -> None:
    """Raise an InputError if an archive of the target is unpacked only in part."""
    packaged = packaged_file(manifest)
    names = [record_of_package(manifest, packaged)] if packaged else []
    packed = [download.path for download in manifest.downloads if download.unpack]
    for name in [*names, *(relative_path(path, "download", manifest) for path in packed)]:
        state = read_unpacked_archive(data_dir, name)
        if state is not None and not state.complete:
            raise InputError(
                f"{data_dir / name} is not completely unpacked: a process was interrupted, or is at work now. "
                f"Finish it with: modgap data fetch {argument}"
            )


def relative_path(path: str, noun: str, manifest: Manifest) -> str:
    """Return a path of a manifest in its normal form, after a check that it lies within the data directory.

    Args:
        path: The path as the manifest has it.
        noun: Noun of the file for the message, `download` or `file`.
        manifest: The manifest.

    Raises:
        InputError: When the path is refused.
    """
    try:
        return str(parse_relative_path(path))
    except ValueError as error:
        raise InputError(f"manifest {manifest.name}: {noun} {path!r} {error}") from None
