"""Expected sizes and checksums of files: from the manifest, or else as they were recorded at first sight."""

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modgap.errors import InputError
from modgap.targets.download.folder_records import RecordedFile, read_lock
from modgap.targets.download.relative_paths import LOCK_NAME, RECORDS_FOLDER
from modgap.targets.manifest import DataFile, Download, Manifest

__all__ = ["ExpectedFile", "compute_checksums", "expected_files", "files_below", "find_mismatch"]

TEMPORARY = re.compile(r"\..*(\.part(\.json)?|\.unpacking)|.*\.bad")
"""Names of partial downloads, of archives while they are unpacked, and of damaged files that were set aside."""
ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}
"""Hash algorithms of manifests, with their names for messages."""


@dataclass(frozen=True)
class ExpectedFile:
    """The expected size and checksums of a file.

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
    recorded = read_lock(data_dir) if data_dir is not None else {}
    sizes: dict[str, int | None] = {}
    checksums: dict[str, dict[str, str]] = {}
    entries: tuple[Download | DataFile, ...] = (*manifest.downloads, *manifest.files)
    for entry in entries:
        if sizes.get(entry.path) is None:
            sizes[entry.path] = entry.size
        named = {name: value for name in ALGORITHMS if (value := getattr(entry, name, None))}
        checksums[entry.path] = {**named, **checksums.get(entry.path, {})}
    return {path: _expect(size, checksums[path], recorded.get(path)) for path, size in sizes.items()}


def _expect(size: int | None, checksums: dict[str, str], recorded: RecordedFile | None) -> ExpectedFile:
    if recorded is None or "sha256" in checksums:
        return ExpectedFile(size, checksums)
    size = recorded.size if size is None else size
    return ExpectedFile(size, {**checksums, "sha256": recorded.sha256}, recorded.recorded)


def find_mismatch(path: Path, expected: ExpectedFile, checksums: Mapping[str, str] | None = None) -> str | None:
    """Compare a file with its expected size and checksums.

    Args:
        path: The file.
        expected: Its expected size and checksums.
        checksums: Its actual checksums by algorithm; None compares the size alone.

    Returns:
        A message about the first mismatch; None when there is none.
    """
    size = path.stat().st_size
    if expected.size not in (None, size):
        return f"expected {path} to have {expected.size} bytes, got {size}{expected.note}"
    for name, value in expected.checksums.items():
        if checksums and name in checksums and checksums[name] != value:
            return f"expected {path} to have {ALGORITHMS[name]} {value}, got {checksums[name]}{expected.note}"
    return None


def files_below(folder: Path, exclude: Collection[Path] = ()) -> list[Path]:
    """List all files in a folder and its sub-folders in the order of their names.

    Hidden files, and modgap's records and temporary files, are left out.

    Args:
        folder: The folder.
        exclude: Files to leave out, such as archives whose content is there unpacked.
    """
    excluded = {str(path) for path in exclude}
    return [Path(path) for path in sorted(_walk(str(folder))) if path not in excluded]


def _walk(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _belongs_to_modgap(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            elif not entry.name.startswith(".") and entry.is_file():
                yield entry.path


def _belongs_to_modgap(name: str) -> bool:
    return name in (RECORDS_FOLDER, LOCK_NAME) or TEMPORARY.fullmatch(name) is not None


def compute_checksums(path: Path, algorithms: Collection[str]) -> dict[str, str]:
    """Compute several checksums of a file in one pass over the disk.

    Args:
        path: The file.
        algorithms: Names for `hashlib.new`, such as sha256.

    Returns:
        The checksums in hexadecimal, by algorithm.

    Raises:
        InputError: When the file cannot be read.
    """
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                for running_hash in hashes.values():
                    running_hash.update(chunk)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return {name: running_hash.hexdigest() for name, running_hash in hashes.items()}
