"""Verification of all files of a target: each is read from the disk and compared with its expected checksum."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from modgap.errors import InputError, Progress
from modgap.storage.array_file import read_array_file
from modgap.targets.download.converted_copy import copy_path
from modgap.targets.download.data_directory import (
    ExpectedFile,
    UnpackedArchive,
    compute_checksums,
    data_size,
    expected_files,
    find_mismatch,
    locate_file,
    read_unpacked_archive,
)
from modgap.targets.download.fetch import PlannedDownload, plan_fetch, unpacked_files
from modgap.targets.manifest import Manifest

BATCH = 256
"""Files passed to the threads at a time, so that a list of a million names is not kept in memory."""


@dataclass
class VerificationResult:
    """The result of `verify`, to which each file adds.

    Attributes:
        files_read: Number of files whose checksum was compared.
        bytes_read: Their size in bytes.
        faults: Problems, one line each.
        without_checksum: Paths of files for which no checksum is known.
    """

    files_read: int = 0
    bytes_read: int = 0
    faults: list[str] = field(default_factory=list)
    without_checksum: list[str] = field(default_factory=list)


def verify(manifest: Manifest, data_dir: Path, progress: Progress | None = None) -> VerificationResult:
    """Compare every file of a target with the manifest, with recorded checksums, and with the unpacked archives.

    Args:
        manifest: The target.
        data_dir: The data directory.
        progress: Called with the name of the stage and the fraction of it done since the last call.

    Raises:
        InputError: When modgap's records in the data directory are damaged.
    """
    result = VerificationResult()
    items = plan_fetch(manifest, data_dir).items
    archives = [read_unpacked_archive(data_dir, item.record) if item.download.unpack else None for item in items]
    total = len(items) + len(manifest.files) + sum(archive.files for archive in archives if archive)
    files = _iterate_files(manifest, data_dir, items, archives, result)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        while batch := list(islice(files, BATCH)):
            for (path, _), fault in zip(batch, pool.map(_find_fault, *zip(*batch, strict=True)), strict=True):
                result.files_read += 1
                result.bytes_read += data_size(path) if path.exists() else 0
                if fault:
                    result.faults.append(fault)
                if progress:
                    progress("verify", 1 / max(total, 1))
    originals = defaultdict(list)
    for file in manifest.files:
        originals[file.role].append(locate_file(file, manifest, data_dir))
    copy = copy_path(manifest, originals)
    if copy.is_file():
        try:
            read_array_file(copy).verify()
        except (OSError, ValueError) as error:
            result.faults.append(f"damaged: {copy}: {error}")
    return result


def _iterate_files(
    manifest: Manifest,
    data_dir: Path,
    items: Sequence[PlannedDownload],
    archives: Sequence[UnpackedArchive | None],
    result: VerificationResult,
) -> Iterator[tuple[Path, ExpectedFile]]:
    """Yield the files to read with their expected checksums; add problems that need no reading to `result`."""
    expected = expected_files(manifest, data_dir)
    downloads = set()
    from_archive = any(archives)
    for item, archive in zip(items, archives, strict=True):
        if item.path.is_file():
            downloads.add(item.path)
            yield from _file_to_read(item.path, item.expected, result)
        if not archive:
            if not item.path.is_file() and item.state != "files present":
                result.faults.append(f"missing: {item.path}")
        elif not archive.complete:
            result.faults.append(f"not completely unpacked: {item.path}. Finish it with modgap data fetch.")
        else:
            for path, digest in unpacked_files(data_dir, item.record):
                yield path, ExpectedFile(checksums={"sha256": digest})
    for file in manifest.files:
        path = locate_file(file, manifest, data_dir)
        if not path.exists():
            result.faults.append(f"missing: {path}")
        elif path not in downloads and (path.is_file() or file.sha256):
            yield from _file_to_read(path, expected[file.path], result, from_archive=from_archive)


def _file_to_read(
    path: Path, expected: ExpectedFile, result: VerificationResult, *, from_archive: bool = False
) -> Iterator[tuple[Path, ExpectedFile]]:
    """Yield a file that has a checksum; otherwise compare its size, and report that it has no checksum."""
    if expected.checksums:
        yield path, expected
    elif mismatch := find_mismatch(path, expected):
        result.faults.append(mismatch)
    elif not from_archive:
        result.without_checksum.append(str(path))


def _find_fault(path: Path, expected: ExpectedFile) -> str | None:
    if not path.exists():
        return f"missing: {path}"
    try:
        return find_mismatch(path, expected) or find_mismatch(
            path, expected, compute_checksums(path, expected.checksums)
        )
    except InputError as error:
        return str(error)
