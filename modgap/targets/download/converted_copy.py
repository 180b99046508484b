"""A target's converted copy: its arrays in one file, mapped instead of read."""

import functools
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap import __version__
from modgap.storage.array_file import ArrayFile, read_array_file
from modgap.storage.cache import cache_key
from modgap.targets.download.locations import data_folder
from modgap.targets.manifest import Manifest
from modgap.targets.samples import Samples, Table

__all__ = ["FORMAT", "STREAMS", "converted", "copy_path", "copy_record", "damage", "fits", "stale"]

FORMAT = 1
STREAMS = ("samples", "targets", "masks")
"""Fields of a table that are read sample by sample."""
SMALL = ("labels", "splits", "target_mean", "target_sd")
"""Arrays that are read whole."""
MADE_WITH = {
    "format": "another format of copies",
    "modgap": "another version of modgap",
    "libraries": "other versions of libraries",
    "files": "other files",
    "manifest": "another manifest",
}
"""Words for the parts of a copy's record that differ."""

log = logging.getLogger("modgap")


def copy_path(manifest: Manifest, files: Mapping[str, Sequence[Path]]) -> Path:
    """Where the copy of these originals lies, whether it is there or not."""
    where = sorted(str(path.absolute()) for paths in files.values() for path in paths)
    return data_folder() / "converted" / f"{manifest.name}-{cache_key({'files': where})[:12]}.safetensors"


def copy_record(fingerprint: Mapping) -> dict[str, Any]:
    """What decides the content of a copy: the originals, and all that turns them into arrays."""
    manifest = {name: value for name, value in fingerprint["manifest"].items() if name != "pseudo_classes"}
    return {
        "format": FORMAT,
        "modgap": __version__,
        "libraries": fingerprint["libraries"],
        "files": fingerprint["files"],
        "manifest": hashlib.sha256(cache_key(manifest).encode()).hexdigest(),
    }


def stale(file: ArrayFile, record: Mapping) -> list[str]:
    """In what a copy is not one of the originals that are there: names of the record; none where it is."""
    made = file.metadata.get("made_of", {})
    return [name for name in record if made.get(name) != record[name]]


def converted(
    manifest: Manifest, files: Mapping[str, Sequence[Path]], fingerprint: Callable[[], Mapping], asked: str
) -> Table | None:
    """The table in a target's converted copy; None where there is none that fits.

    A copy that does not fit, or is broken, is said and left alone; aloud unless the same files were converted
    in another way, which may be meant. Its content was checked when
    it was written, and is again by `modgap data verify`, not at each reading.

    Args:
        manifest: The target.
        files: Its originals by role.
        fingerprint: Gives that of the originals; asked for only where there is a copy.
        asked: How the user calls the target, options included, for the command that makes the copy anew.
    """
    path = copy_path(manifest, files)
    if not path.is_file():
        return None
    try:
        file = read_array_file(path)
        changed = stale(file, copy_record(fingerprint()))
    except (OSError, ValueError) as error:
        _say_unused(logging.WARNING, manifest, f"is not readable ({error})", asked)
        return None
    if changed:
        level = logging.WARNING if "files" in changed else logging.INFO
        _say_unused(level, manifest, f"was made with {_other(changed, manifest)}", asked)
        return None
    log.info("reading %s from its converted copy %s", manifest.name, path)
    return _table(file)


def _say_unused(level: int, manifest: Manifest, reason: str, asked: str) -> None:
    text = "the converted copy of %s %s and is not used; make it anew with: modgap data convert %s"
    log.log(level, text, manifest.name, reason, asked)


def _other(changed: Sequence[str], manifest: Manifest) -> str:
    """What differs, in words; data without a manifest has options in its place."""
    words = MADE_WITH if manifest.files else MADE_WITH | {"manifest": "other options"}
    return " and ".join(words[name] for name in changed)


def fits(path: Path, fingerprint: Mapping) -> bool:
    """Whether there is a copy of originals with this fingerprint."""
    try:
        return not stale(read_array_file(path), copy_record(fingerprint))
    except (OSError, ValueError):
        return False


def damage(manifest: Manifest, files: Mapping[str, Sequence[Path]]) -> str | None:
    """What is wrong with the content of a converted copy, read anew; None where all is well, or there is none."""
    path = copy_path(manifest, files)
    if not path.is_file():
        return None
    try:
        file = read_array_file(path)
        whole = file.compute_digest() == file.digest
    except (OSError, ValueError) as error:
        return f"damaged: {path}: {error}"
    return None if whole else f"damaged: {path}: its checksum is not the one that was written"


def _table(file: ArrayFile) -> Table:
    known, names = file.metadata["kinds"], set(file.arrays)
    streams = {name: _samples(file, name, known[name]) for name in STREAMS if name in known}
    groups = {
        name.removeprefix("group."): np.array(file.map_array(name)) for name in names if name.startswith("group.")
    }
    small = {name: np.array(file.map_array(name)) for name in SMALL if name in names}
    return Table(
        streams["samples"],
        small.get("labels"),
        file.metadata["classes"],
        small.get("splits"),
        groups or None,
        streams.get("targets"),
        streams.get("masks"),
        (small["target_mean"], small["target_sd"]) if "target_mean" in small else None,
    )


def _samples(file: ArrayFile, name: str, kind: str) -> Samples:
    if kind == "text":
        return _TextSamples(file, name)
    return _VariedSamples(file, name) if f"{name}.shapes" in file.arrays else _FixedSamples(file, name)


@dataclass(frozen=True)
class _Mapped:
    """Samples in a file, opened when the first is asked for, in each process for itself."""

    file: ArrayFile
    name: str

    @functools.cached_property
    def _values(self) -> np.ndarray:
        return self.file.map_array(self.name)

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        return np.array(self.file.map_array(f"{self.name}.starts"))

    @functools.cached_property
    def _shapes(self) -> np.ndarray:
        return np.array(self.file.map_array(f"{self.name}.shapes"))

    def __getstate__(self) -> dict:
        return {"file": self.file, "name": self.name}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)


class _FixedSamples(_Mapped):
    """Samples of one shape."""

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> np.ndarray:
        # A copy, since readers' samples may be written to and a mapped one may not.
        return np.array(self._values[index])


class _VariedSamples(_Mapped):
    """Samples of several shapes, one behind the other."""

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        shape = tuple(self._shapes[index])
        start = self._starts[index]
        return np.array(self._values[start : start + int(np.prod(shape, dtype=np.int64))]).reshape(shape)


class _TextSamples(_Mapped):
    """Strings, one behind the other in UTF-8."""

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> str:
        position = range(len(self))[index]
        return bytes(self._values[self._starts[position] : self._starts[position + 1]]).decode()
