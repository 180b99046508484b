"""Locations of a target's files: a directory that the user names, one saved earlier, or the data folder."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError, UsageError
from modgap.formatting import format_bytes
from modgap.installed_packages import find_package_folder
from modgap.storage.json_records import read_json, write_json
from modgap.storage.locks import one_process_at_a_time
from modgap.storage.paths import cache_folder, expand_user
from modgap.targets.download.folder_records import read_unpacked_archive
from modgap.targets.download.relative_paths import parse_relative_path
from modgap.targets.manifest import DataFile, Manifest

__all__ = [
    "TargetFiles",
    "data_folder",
    "describe_source",
    "find_data_dir",
    "find_target_files",
    "forget_data_dir",
    "is_manual",
    "locate_file",
    "save_data_dir",
    "saved_data_dirs",
]


@dataclass(frozen=True)
class TargetFiles:
    """The files of a target, all of which exist.

    Attributes:
        data_dir: Directory that the manifest's paths are relative to.
        files: Paths by role.
    """

    data_dir: Path
    files: dict[str, list[Path]]


def data_folder() -> Path:
    """Return the folder in the environment variable `MODGAP_DATA`, or else `data` in the cache folder."""
    folder = os.environ.get("MODGAP_DATA")
    return expand_user(folder) if folder else cache_folder() / "data"


def _data_dirs_file() -> Path:
    return data_folder() / "data_dirs.json"


def saved_data_dirs() -> dict[str, Path]:
    """Return the saved data directories by the names of their targets.

    Raises:
        InputError: When the file that contains them is damaged.
    """
    return {name: Path(str(folder)) for name, folder in read_json(_data_dirs_file()).items()}


def save_data_dir(name: str, data_dir: Path) -> None:
    """Save the data directory of a target, so that later commands use it.

    Args:
        name: Name of the target.
        data_dir: The directory.

    Raises:
        InputError: When the directory does not exist, or its path cannot be saved.
    """
    if not data_dir.is_dir():
        raise InputError(f"there is no folder at {data_dir}. Create it, or give another --data-dir DIR.")
    _update_data_dirs(name, data_dir)


def forget_data_dir(name: str) -> None:
    """Forget the saved data directory of a target, if there is one.

    Args:
        name: Name of the target.

    Raises:
        InputError: When the file of saved directories cannot be written.
    """
    _update_data_dirs(name, None)


def _update_data_dirs(name: str, data_dir: Path | None) -> None:
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

    Args:
        manifest: The target.
        data_dir: The directory that the user names, which takes precedence; None when there is none.
        manifest_folder: Folder of a manifest file of the user, which may also contain the data; None for the
            manifests of modgap.

    Raises:
        InputError: When the saved directory does not exist.
        UsageError: When the user names a directory for files that are part of a package.
    """
    relative = [file for file in manifest.files if not file.package]
    if data_dir is not None:
        if manifest.files and not relative:
            raise UsageError(f"--data-dir does not apply to target {manifest.name}: its files are part of a package")
        return data_dir
    saved = saved_data_dirs().get(manifest.name)
    if saved is not None:
        if not saved.is_dir():
            # Its disk may not be mounted, so nothing may be fetched into the mount point.
            raise InputError(
                f"the saved data directory {saved} of target {manifest.name} does not exist. Mount its disk, give "
                f"another --data-dir DIR, or run: modgap data path {manifest.name} --forget"
            )
        return saved
    if manifest_folder is not None:
        complete = bool(relative) and all(_exists(manifest_folder / file.path) for file in relative)
        if complete or not manifest.downloads:
            return manifest_folder
    return data_folder() / manifest.name


def find_target_files(
    manifest: Manifest,
    argument: str | None = None,
    data_dir: Path | None = None,
    manifest_folder: Path | None = None,
) -> TargetFiles:
    """Find all files that the reader of a target needs.

    Args:
        manifest: The target.
        argument: The target as the user wrote it, for the commands in messages; None uses its name.
        data_dir: As in `find_data_dir`.
        manifest_folder: As in `find_data_dir`.

    Raises:
        InputError: When files are missing; the message says how to obtain them.
        UsageError: When the user names a directory for files that are part of a package.
    """
    directory = find_data_dir(manifest, data_dir, manifest_folder)
    paths = [locate_file(file, manifest, directory) for file in manifest.files]
    if data_dir is not None and manifest.files and not any(path.is_relative_to(data_dir) for path in paths):
        raise InputError(f"{data_dir} contains none of the files of target {manifest.name}")
    missing = [path for path in paths if not _exists(path)]
    if missing:
        count = f" ({len(missing)} of its {len(paths)} files are missing)" if len(paths) > 1 else ""
        raise InputError(
            f"target {manifest.name} needs {missing[0]}, which does not exist{count}. "
            f"{_way_out(manifest, argument or manifest.name, directory, missing[0])}"
        )
    _check_unpacked(manifest, argument or manifest.name, directory)
    files = defaultdict(list)
    for file, path in zip(manifest.files, paths, strict=True):
        files[file.role].append(path)
    return TargetFiles(directory, dict(files))


def locate_file(file: DataFile, manifest: Manifest, data_dir: Path) -> Path:
    """Return the path of a file of a target; the file need not exist.

    It is in its Python package, in the data directory, or in the folder of a package of the operating system.

    Raises:
        InputError: When the Python package is not installed.
    """
    if file.package:
        folder = find_package_folder(file.package)
        if folder is None:
            raise InputError(
                f"target {manifest.name} needs the package {file.package}, which is not installed. "
                f"Install it with: {manifest.install or f'pip install {file.package}'}"
            )
        return folder / file.path
    path = data_dir / file.path
    return Path(file.folder) / file.path if file.folder and not _exists(path) else path


def _exists(path: Path) -> bool:
    """Return True if there is a file or folder with a path; False also for a name that is too long for the disk."""
    try:
        return path.exists()
    except OSError:
        return False


def is_manual(manifest: Manifest, data_dir: Path, path: Path) -> bool:
    """Return True when no download provides a file: no host has it, and no archive can contain it."""
    hosted = [download for download in manifest.downloads if download.urls]
    return not any(download.unpack or data_dir / download.path == path for download in hosted)


def describe_source(manifest: Manifest) -> str:
    """Describe where the files of a target without a host can be obtained, in the manifest's words."""
    return (manifest.install or manifest.citation or manifest.title).rstrip(".")


def _way_out(manifest: Manifest, argument: str, data_dir: Path, path: Path) -> str:
    alternative = "If you have it, give its folder with --data-dir DIR."
    if not is_manual(manifest, data_dir, path):
        sizes = [download.size for download in manifest.downloads if download.size is not None]
        size = f" ({format_bytes(sum(sizes))})" if sizes and len(sizes) == len(manifest.downloads) else ""
        return f"Fetch it with: modgap data fetch {argument}{size}. {alternative}"
    if manifest.install and not manifest.downloads:
        return f"Install it with: {manifest.install}"
    if not (manifest.downloads or manifest.citation):
        return "Check its path in the manifest, or give its folder with --data-dir DIR."
    return f"Obtain it by hand ({describe_source(manifest)}). {alternative}"


def _check_unpacked(manifest: Manifest, argument: str, data_dir: Path) -> None:
    for name in _archive_names(manifest):
        state = read_unpacked_archive(data_dir, name)
        if state is not None and not state.complete:
            raise InputError(
                f"{data_dir / name} is not completely unpacked: a process was interrupted, or is at work now. "
                f"Finish it with: modgap data fetch {argument}"
            )


def _archive_names(manifest: Manifest) -> Sequence[str]:
    names = []
    for download in manifest.downloads:
        if download.unpack:
            try:
                names.append(str(parse_relative_path(download.path)))
            except ValueError as error:
                raise InputError(f"manifest {manifest.name}: download {download.path!r} {error}") from None
    return names
