"""Every file of a target against what it must be, read anew from the disk."""

import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from modgap.errors import InputError
from modgap.progress import Progress
from modgap.targets.download.checksums import Pin, fault, fresh_sums, pins
from modgap.targets.download.converted_copy import damage
from modgap.targets.download.fetch import plan
from modgap.targets.download.folder_records import unpacked
from modgap.targets.download.locations import file_path
from modgap.targets.download.unpacking import listed
from modgap.targets.manifest import Manifest

__all__ = ["Verified", "verify"]

TOGETHER = 256
"""Files handed to the threads at once, so that a listing of a million names is not held in memory."""


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        checked: Files whose checksum was compared.
        bytes: Their size in all.
        faults: One line each.
        unknown: Files of which no checksum is known.
    """

    checked: int
    bytes: int
    faults: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    faults: list[str]
    unknown: list[str]


def verify(manifest: Manifest, data_dir: Path, progress: Progress | None = None) -> Verified:
    """Compare every file with the manifest, with what was recorded on first sight, and with what was unpacked.

    Args:
        manifest: The target.
        data_dir: Where its files lie.
        progress: Called with the stage and its share done since the last call.

    Raises:
        InputError: When modgap's records in the place are broken.
    """
    found, checked, size = _Found([], []), 0, 0
    todo, total = _all_files(manifest, data_dir, found), _count(manifest, data_dir)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        while part := list(islice(todo, TOGETHER)):
            for (path, _), wrong in zip(part, pool.map(lambda one: _fault(*one), part), strict=True):
                checked += 1
                size += path.stat().st_size if path.is_file() else 0
                if wrong:
                    found.faults.append(wrong)
                if progress:
                    progress("verify", 1 / max(total, 1))
    if wrong := _copy_damage(manifest, data_dir):
        found.faults.append(wrong)
    return Verified(checked, size, tuple(found.faults), tuple(found.unknown))


def _copy_damage(manifest: Manifest, data_dir: Path) -> str | None:
    files = defaultdict(list)
    for file in manifest.files:
        files[file.role].append(file_path(file, manifest, data_dir))
    return damage(manifest, files)


def _count(manifest: Manifest, data_dir: Path) -> int:
    states = [unpacked(data_dir, item.name) for item in plan(manifest, data_dir).items]
    return len(manifest.downloads) + len(manifest.files) + sum(state.files for state in states if state)


def _all_files(manifest: Manifest, data_dir: Path, found: _Found) -> Iterator[tuple[Path, Pin]]:
    """Files to be read, with what they must be; what needs no reading is noted at once."""
    known, seen = pins(manifest, data_dir), set()
    for item in plan(manifest, data_dir).items:
        state = unpacked(data_dir, item.name) if item.download.unpack else None
        if item.path.is_file():
            seen.add(item.path)
            yield from _known(item.path, item.pin, found)
        elif not state and item.state != "brought by hand":
            found.faults.append(f"missing: {item.path}")
        if state and not state.complete:
            found.faults.append(f"unpacked in part: {item.path}; finish it with modgap data fetch")
        elif state:
            yield from ((path, Pin(sums={"sha256": digest})) for path, digest in listed(data_dir, item.name))
    for file in manifest.files:
        path = file_path(file, manifest, data_dir)
        if not path.exists():
            found.faults.append(f"missing: {path}")
        elif path.is_file() and path not in seen:
            yield from _known(path, known[file.path], found, quiet=_came_from_archive(manifest, data_dir))


def _came_from_archive(manifest: Manifest, data_dir: Path) -> bool:
    return any(download.unpack and unpacked(data_dir, download.path) for download in manifest.downloads)


def _known(path: Path, pin: Pin, found: _Found, quiet: bool = False) -> Iterator[tuple[Path, Pin]]:
    if pin.sums:
        yield path, pin
    elif wrong := fault(path, pin):
        found.faults.append(wrong)
    elif not quiet:
        found.unknown.append(str(path))


def _fault(path: Path, pin: Pin) -> str | None:
    if not path.is_file():
        return f"missing: {path}"
    try:
        return fault(path, pin) or fault(path, pin, fresh_sums(path, set(pin.sums or {})))
    except InputError as error:
        return str(error)
