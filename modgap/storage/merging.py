"""Merging of another machine's cache into this one."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modgap.errors import InputError
from modgap.storage.atomic_files import atomic_path
from modgap.storage.cache import SUFFIX, CorruptEntryError, entry_path, read_entry

__all__ = ["Merged", "merge_cache"]

KIND = re.compile(r"[a-z][a-z_]{0,40}")
KEY = re.compile(r"[0-9a-f]{64}")
"""Names of the folders and files of entries; other files of a cache folder are not merged."""


@dataclass(frozen=True)
class Merged:
    """An entry of the other cache.

    Attributes:
        path: Its path there.
        size: Number of bytes that were copied; 0 if it was here before.
        reason: Sentence that says why it was not copied. Empty if it was, or if it was here before.
    """

    path: Path
    size: int
    reason: str = ""


def merge_cache(folder: Path) -> Iterator[Merged]:
    """Copy the entries of another cache folder that this one lacks, and yield each entry of the other one.

    An entry is copied only if its digests are right and it was written for the key in its name. The digests tell damage
    and no forgery, so merge only caches of people that you trust with your results.

    Args:
        folder: The other cache folder. Nothing in it is changed.

    Raises:
        InputError: If it is not a folder, or if this cache cannot be written.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Pass the cache folder of another machine.")
    for path in sorted(folder.glob(f"*/??/*{SUFFIX}")):
        kind, key = path.parents[1].name, path.stem
        if not (KIND.fullmatch(kind) and KEY.fullmatch(key) and key.startswith(path.parent.name)):
            continue
        yield _merge(path, entry_path(kind, key))


def _merge(path: Path, own: Path) -> Merged:
    if own.exists():
        return Merged(path, 0)
    try:
        if path.is_symlink() or not path.is_file():
            return Merged(path, 0, "it is not a file")
        with atomic_path(own) as temporary:
            shutil.copyfile(path, temporary)
            # The copy is checked, and not the original, which may change in between.
            read_entry(temporary, own)
    except CorruptEntryError as error:
        return Merged(path, 0, str(error))
    except OSError as error:
        raise InputError(f"Cannot copy {path} to {own.parent}: {error.strerror or error}.") from error
    return Merged(path, own.stat().st_size)
