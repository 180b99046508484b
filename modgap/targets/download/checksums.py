"""What size and checksum each file must have: the manifest's word, else what was recorded on first sight."""

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError
from modgap.targets.download.folder_records import Recorded, read_lock
from modgap.targets.download.relative_paths import LOCK_NAME, OWN_FOLDER
from modgap.targets.manifest import DataFile, Download, Manifest

__all__ = ["Pin", "fault", "files_below", "fresh_sums", "pins"]

LEFTOVER = re.compile(r"\..*(\.part(\.json)?|\.unpacking)|.*\.bad")
"""Beginnings of files, archives half unpacked, and files set aside."""


@dataclass(frozen=True)
class Pin:
    """What is known of a file beforehand.

    Attributes:
        size: Bytes.
        sums: Checksums by name (sha256, md5).
        recorded: When they were recorded on first sight; None where they are the manifest's.
    """

    size: int | None = None
    sums: Mapping[str, str] | None = None
    recorded: str | None = None

    @property
    def note(self) -> str:
        """Whose word it is, for messages."""
        if self.recorded is None:
            return ""
        return f" (recorded in {LOCK_NAME} on {self.recorded[:10]}; delete its entry there if it may change)"


def pins(manifest: Manifest, data_dir: Path | None) -> dict[str, Pin]:
    """Pins by the path that the manifest gives; of all its downloads and files.

    Raises:
        InputError: When the record of checksums is broken.
    """
    recorded = read_lock(data_dir) if data_dir is not None else {}
    known: dict[str, tuple[int | None, dict[str, str]]] = {}
    all_files: tuple[Download | DataFile, ...] = (*manifest.downloads, *manifest.files)
    for each in all_files:
        size, sums = known.get(each.path, (None, {}))
        own = {name: value for name in ("sha256", "md5") if (value := getattr(each, name, None))}
        known[each.path] = (each.size if size is None else size, {**own, **sums})
    return {path: _pin(size, sums, recorded.get(path)) for path, (size, sums) in known.items()}


def _pin(size: int | None, sums: dict[str, str], recorded: Recorded | None) -> Pin:
    if recorded is None or "sha256" in sums:
        return Pin(size, sums)
    return Pin(recorded.size if size is None else size, {**sums, "sha256": recorded.sha256}, recorded.recorded)


def fault(path: Path, pin: Pin, sums: Mapping[str, str] | None = None) -> str | None:
    """What is wrong with a file: its size, and its checksums where they are given; None where all fits."""
    size = path.stat().st_size
    if pin.size not in (None, size):
        return f"expected {path} to have {pin.size} bytes, got {size}{pin.note}"
    for name, value in (pin.sums or {}).items():
        if sums and name in sums and sums[name] != value:
            known = {"sha256": "SHA-256", "md5": "MD5"}[name]
            return f"expected {path} to have {known} {value}, got {sums[name]}{pin.note}"
    return None


def files_below(folder: Path, but: Collection[Path] = ()) -> list[Path]:
    """All files in a folder, in order of their names, but for hidden ones and what modgap keeps there.

    Args:
        folder: Where to look.
        but: Files left out: archives, whose content is there unpacked.
    """
    left_out = {str(path) for path in but}
    return [Path(path) for path in sorted(_below(str(folder))) if path not in left_out]


def _below(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _own(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path)
            elif not entry.name.startswith(".") and entry.is_file():
                yield entry.path


def _own(name: str) -> bool:
    return name in (OWN_FOLDER, LOCK_NAME) or LEFTOVER.fullmatch(name) is not None


def fresh_sums(path: Path, names: set[str]) -> dict[str, str]:
    """Checksums of a file, read anew from the disk in one pass.

    Raises:
        InputError: When it cannot be read.
    """
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                for each in sums.values():
                    each.update(chunk)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return {name: each.hexdigest() for name, each in sums.items()}
