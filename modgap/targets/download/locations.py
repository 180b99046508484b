"""Where a target's data lies: in a place that was named, in one remembered, or in the data folder."""

import importlib.util
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError, UsageError
from modgap.formatting import format_bytes
from modgap.storage.json_records import read_json, write_json
from modgap.storage.locks import one_process_at_a_time
from modgap.storage.paths import cache_folder
from modgap.targets.download.folder_records import unpacked
from modgap.targets.download.relative_paths import checked_path
from modgap.targets.manifest import DataFile, Manifest

__all__ = [
    "Located",
    "by_hand",
    "data_dir_of",
    "data_folder",
    "file_path",
    "located",
    "remember",
    "remembered",
    "source",
]


@dataclass(frozen=True)
class Located:
    """A target's files, all of them there.

    Attributes:
        data_dir: Folder that the manifest's paths are relative to.
        files: Paths by role.
    """

    data_dir: Path
    files: dict[str, list[Path]]


def data_folder() -> Path:
    """`MODGAP_DATA`, else `data` in the cache folder."""
    named = os.environ.get("MODGAP_DATA")
    return Path(named).expanduser() if named else cache_folder() / "data"


def _data_dirs_file() -> Path:
    return data_folder() / "data_dirs.json"


def remembered() -> dict[str, Path]:
    """Places that were named before, by the target's name.

    Raises:
        InputError: When the file that keeps them is broken.
    """
    return {name: Path(str(folder)) for name, folder in read_json(_data_dirs_file()).items()}


def remember(name: str, folder: Path | None) -> None:
    """Take a target's data from this folder from now on; None forgets the one remembered.

    Raises:
        InputError: When the folder is none, or it cannot be written down.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"expected a folder at {folder}, found none")
    try:
        with one_process_at_a_time(data_folder() / "data_dirs.lock", "saving a data directory"):
            known = {each: str(data_dir) for each, data_dir in remembered().items() if each != name}
            if folder is not None:
                known[name] = str(folder.resolve())
            write_json(_data_dirs_file(), dict(sorted(known.items())))
    except OSError as error:
        raise InputError(f"cannot remember a place in {_data_dirs_file()}: {error.strerror}") from error


def data_dir_of(manifest: Manifest, given: Path | None = None, beside: Path | None = None) -> Path:
    """The folder that the manifest's paths are relative to, whether it is there or not.

    Args:
        manifest: The target.
        given: The place that the user names; it comes first.
        beside: The folder of a manifest of the user's own, whose files may lie beside it.

    Raises:
        InputError: When the place remembered is gone.
        UsageError: When a place is given for files that come with a package.
    """
    relative = [file for file in manifest.files if not file.package]
    if given is not None:
        if manifest.files and not relative:
            raise UsageError(f"--data-dir does not apply to target {manifest.name}, whose files come with a package")
        return given
    if manifest.name in (known := remembered()):
        if not known[manifest.name].is_dir():
            # Its disk may not be mounted: nothing may be fetched to where it would be.
            raise InputError(
                f"expected the files of target {manifest.name} in {known[manifest.name]}, as remembered, found no "
                f"folder; mount its disk, give another --data-dir DIR, or: modgap data path {manifest.name} --forget"
            )
        return known[manifest.name]
    if beside is not None:
        complete = bool(relative) and all((beside / file.path).exists() for file in relative)
        if complete or not manifest.downloads:
            return beside
    return data_folder() / manifest.name


def located(
    manifest: Manifest, asked: str | None = None, given: Path | None = None, beside: Path | None = None
) -> Located:
    """Find all files that the reader takes.

    Args:
        manifest: The target.
        asked: How the user calls it, for the command that brings it; its name if None.
        given: As in `data_dir_of`.
        beside: As in `data_dir_of`.

    Raises:
        InputError: When files are missing, with the way to bring them.
        UsageError: When a place is given for files that come with a package.
    """
    data_dir = data_dir_of(manifest, given, beside)
    paths = [file_path(file, manifest, data_dir) for file in manifest.files]
    if given is not None and manifest.files and not any(path.is_relative_to(given) for path in paths):
        raise InputError(f"expected files of target {manifest.name} in {given}, found none of them")
    missing = [path for path in paths if not path.exists()]
    if missing:
        more = f" ({len(missing)} of its {len(paths)} are missing)" if len(paths) > 1 else ""
        raise InputError(
            f"target {manifest.name} needs {missing[0]}, which is not there{more}; "
            f"{_way_out(manifest, asked or manifest.name, data_dir, missing[0])}"
        )
    _refuse_half_unpacked(manifest, asked or manifest.name, data_dir)
    files = defaultdict(list)
    for file, path in zip(manifest.files, paths, strict=True):
        files[file.role].append(path)
    return Located(data_dir, dict(files))


def file_path(file: DataFile, manifest: Manifest, data_dir: Path) -> Path:
    """Where one file of a target is to be: in its package, in its place, or in the folder of the system's package.

    Raises:
        InputError: When the package is not installed.
    """
    if file.package:
        # find_spec of a top-level package does not import it.
        spec = None if sys.modules.get(file.package, ...) is None else importlib.util.find_spec(file.package)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(
                f"target {manifest.name} comes with the package {file.package}, which is not installed; "
                f"bring it with: {manifest.install or f'pip install {file.package}'}"
            )
        return Path(spec.submodule_search_locations[0]) / file.path
    in_place = data_dir / file.path
    return Path(file.folder) / file.path if file.folder and not in_place.exists() else in_place


def by_hand(manifest: Manifest, data_dir: Path, path: Path) -> bool:
    """Whether no download gives this file: no host has it, and it is in no archive."""
    hosted = [download for download in manifest.downloads if download.urls]
    return not any(download.unpack or data_dir / download.path == path for download in hosted)


def source(manifest: Manifest) -> str:
    """Whence files come that no host is known of, in the manifest's words."""
    return (manifest.install or manifest.citation or manifest.title).rstrip(".")


def _way_out(manifest: Manifest, asked: str, data_dir: Path, path: Path) -> str:
    if not by_hand(manifest, data_dir, path):
        sizes = [download.size for download in manifest.downloads]
        size = f" ({format_bytes(sum(sizes))})" if sizes and None not in sizes else ""  # type: ignore[arg-type]
        return f"bring it with: modgap data fetch {asked}{size}, or say where it lies with --data-dir DIR"
    if manifest.install and not manifest.downloads:
        return f"bring it with: {manifest.install}"
    return f"bring it by hand ({source(manifest)}), or say where it lies with --data-dir DIR"


def _refuse_half_unpacked(manifest: Manifest, asked: str, data_dir: Path) -> None:
    for name in _archives(manifest):
        state = unpacked(data_dir, name)
        if state is not None and not state.complete:
            raise InputError(
                f"{data_dir / name} was being unpacked when that was stopped, or is so now; "
                f"finish it with: modgap data fetch {asked}"
            )


def _archives(manifest: Manifest) -> Sequence[str]:
    names = []
    for download in manifest.downloads:
        if download.unpack:
            try:
                names.append(str(checked_path(download.path)))
            except ValueError as error:
                raise InputError(f"manifest {manifest.name}: download {download.path!r} {error}") from None
    return names
