"""The converted copy of a target: its arrays in one file, written once, and memory-mapped instead of read."""

import functools
import hashlib
import itertools
import logging
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError, Progress, format_bytes
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.array_file import ArrayFile, ArrayWriter, read_array_file, with_native_byte_order
from modgap.storage.atomic_files import TEMPORARY_SUFFIX
from modgap.storage.cache import STRUCTURE_ERRORS, cache_key
from modgap.storage.locks import abandoned, locked, one_process_at_a_time
from modgap.storage.paths import data_folder
from modgap.targets.manifest import Manifest
from modgap.targets.samples import Samples, Table, WordInText

FORMAT = 4
LONGEST_NAME = 200
SAMPLES_FOR_SIZE_ESTIMATE = 8
STREAMS = ("samples", "targets", "masks", "noise")
"""Fields of a table that are read sample by sample."""
SMALL_ARRAYS = ("labels", "splits", "target_mean", "target_sd", "levels")
"""Fields of a table that are read at once."""
DIFFERENCES = {
    "format": "another format of copies",
    "algorithms": "another way of reading files",
    "libraries": "other versions of libraries",
    "files": "other files",
    "manifest": "another manifest",
}
"""Descriptions of the parts of a copy's record, for a message about parts that differ."""

Files = Mapping[str, Sequence[Path]]
Writer = Callable[[ArrayWriter, str, Iterator[Any]], None]

log = logging.getLogger("modgap")


def copy_path(manifest: Manifest, files: Files) -> Path:
    """Return the path of the converted copy of these originals; it need not exist."""
    originals = sorted(str(path.absolute()) for paths in files.values() for path in paths)
    # File systems have names of at most 255 bytes.
    name = manifest.name.encode()[:LONGEST_NAME].decode(errors="ignore")
    return data_folder() / "converted" / f"{name}-{cache_key({'files': originals})[:12]}.safetensors"


def copy_record(fingerprint: Mapping[str, Any]) -> dict[str, object]:
    """Return the record of all that determines a copy: the originals, and the steps that turn them into arrays.

    Args:
        fingerprint: Fingerprint of the target.
    """
    manifest = {name: value for name, value in fingerprint["manifest"].items() if name != "pseudo_classes"}
    return {
        "format": FORMAT,
        "algorithms": algorithm_versions("reading"),
        "libraries": fingerprint["libraries"],
        "files": fingerprint["files"],
        "manifest": hashlib.sha256(cache_key(manifest).encode()).hexdigest(),
    }


def find_differences(file: ArrayFile, fingerprint: Mapping[str, Any]) -> list[str]:
    """Return the parts of the record of a copy that differ from the present ones; empty for a current copy."""
    stored = file.metadata.get("made_of", {})
    return [name for name, value in copy_record(fingerprint).items() if stored.get(name) != value]


def read_converted_copy(
    manifest: Manifest, files: Files, fingerprint: Callable[[], Mapping[str, Any]], argument: str
) -> Table | None:
    """Read the converted copy of a target.

    A copy that is damaged, or was made of other files, is not used, and a warning is logged. A copy of the same files
    that were converted in another way, which may be intended, is logged as information. Each part of a copy is
    compared with its checksum when it is first used; `modgap data verify` compares all of it.

    Args:
        manifest: The target.
        files: Its original files by role.
        fingerprint: Returns the fingerprint of the originals; called only when there is a copy.
        argument: The target as the user wrote it, with its options, for the command in a message.

    Returns:
        The table; None when there is no copy of the originals as they are now.
    """
    path = copy_path(manifest, files)
    if not path.is_file():
        return None
    level = logging.WARNING
    try:
        file = read_array_file(path)
        differences = find_differences(file, fingerprint())
        if not differences:
            table = _read_table(file, argument)
            log.info("reading %s from its converted copy %s", manifest.name, path)
            return table
        level = logging.WARNING if "files" in differences else logging.INFO
        # Custom data has options in place of a manifest file.
        descriptions = DIFFERENCES if manifest.files else DIFFERENCES | {"manifest": "other options"}
        reason = f"was made with {' and '.join(descriptions[name] for name in differences)}"
    except InputError:
        raise
    except (OSError, *STRUCTURE_ERRORS) as error:
        reason = f"cannot be read ({error})"
    text = "the converted copy of %s %s and is not used. Convert the target again with: modgap data convert %s"
    log.log(level, text, manifest.name, reason, argument)
    return None


def is_current(path: Path, fingerprint: Mapping[str, Any]) -> bool:
    """Return True when there is an intact copy at `path` that was made of originals with this fingerprint."""
    try:
        file = read_array_file(path)
        file.verify()
        return not find_differences(file, fingerprint)
    except (OSError, *STRUCTURE_ERRORS):
        return False


def _read_table(file: ArrayFile, argument: str) -> Table:
    kinds = file.metadata["kinds"]
    streams: dict[str, Any] = {}
    for name in STREAMS:
        if kinds.get(name) in TEXTS:
            streams[name] = (_TextSamples if kinds[name] == "text" else _WordSamples)(file, name, argument)
        elif name in kinds:
            is_varied = f"{name}.shapes" in file.arrays
            streams[name] = (_VariedSamples if is_varied else _FixedSamples)(file, name, argument)
    groups = {
        name.removeprefix("group."): np.array(file.map_array(name)) for name in file.arrays if name.startswith("group.")
    }
    small: dict[str, Any] = {name: np.array(file.map_array(name)) for name in SMALL_ARRAYS if name in file.arrays}
    if "target_mean" in small:
        small["target_scale"] = small.pop("target_mean"), small.pop("target_sd")
    # Copies of earlier versions have no columns.
    columns = tuple(map(str, file.metadata.get("columns") or ())) or None
    table = Table(**streams, **small, classes=file.metadata["classes"], groups=groups or None, columns=columns)
    return replace(table, group_like=tuple(map(str, file.metadata["group_like"])))


@dataclass(frozen=True)
class _MappedSamples:
    """Samples in a file. Each process maps the file when it first uses a sample.

    Attributes:
        file: The file.
        name: Name of the array.
        argument: The target as the user wrote it, for the command in a message about damage.
    """

    file: ArrayFile
    name: str
    argument: str

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        return self._read(0, None, ".starts")

    @functools.cached_property
    def _shapes(self) -> np.ndarray:
        return self._read(0, None, ".shapes")

    def _read(self, start: int, stop: int | None, ending: str = "") -> np.ndarray:
        """Return some rows as a copy, which may be written to like the samples of other readers.

        Args:
            start: Number of the first row.
            stop: Number of the row after the last one; None for all rows.
            ending: End of the name of the array.
        """
        name = f"{self.name}{ending}"
        try:
            return self.file.read_rows(name, start, self.file.arrays[name].shape[0] if stop is None else stop)
        except (OSError, ValueError) as error:
            raise InputError(
                f"The converted copy {self.file.path} is damaged ({error}). Convert the target again with: "
                f"modgap data convert {self.argument}"
            ) from error

    def __getstate__(self) -> dict[str, object]:
        return {"file": self.file, "name": self.name, "argument": self.argument}


class _FixedSamples(_MappedSamples):
    """Samples of one shape."""

    def __len__(self) -> int:
        return self.file.arrays[self.name].shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        position = range(len(self))[index]
        sample: np.ndarray = self._read(position, position + 1)[0]
        return sample


class _VariedSamples(_MappedSamples):
    """Samples of several shapes, stored without gaps; parts of sounds of one channel are read alone."""

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        shape = tuple(self._shapes[index])
        start = self._starts[index]
        return self._read(start, start + int(np.prod(shape, dtype=np.int64))).reshape(shape)

    def length(self, index: int) -> int | None:
        """Return the length of a sample's last axis; None if the sample has several rows."""
        shape = self._shapes[index]
        return int(shape[-1]) if np.prod(shape[:-1], dtype=np.int64) == 1 else None

    def part(self, index: int, start: int, stop: int) -> np.ndarray:
        """Return the values from `start` to `stop` of a sample's last axis, where its other axes have length 1."""
        first = int(self._starts[index])
        shape = tuple(self._shapes[index][:-1])
        stop = min(stop, int(self._shapes[index][-1]))
        return self._read(first + start, first + stop).reshape(*shape, stop - start)


class _TextSamples(_MappedSamples):
    """Strings, stored in UTF-8 without gaps."""

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> str:
        position = range(len(self))[index]
        return bytes(self._read(self._starts[position], self._starts[position + 1])).decode()


class _WordSamples(_TextSamples):
    """Words with the texts that they are part of; a word is a row (number of its text, start, end)."""

    def __len__(self) -> int:
        return self.file.arrays[f"{self.name}.words"].shape[0]

    def __getitem__(self, index: int) -> str:
        position = range(len(self))[index]
        number, start, end = self._read(position, position + 1, ".words")[0].tolist()
        return WordInText(super().__getitem__(number), start, end)


def write_converted_copy(
    manifest: Manifest, files: Files, fingerprint: Mapping[str, Any], table: Table, progress: Progress | None = None
) -> Path:
    """Write the originals of a target as arrays that can be memory-mapped.

    One sample is in memory at a time, so memory does not grow with the data. The copy appears complete or not at all.

    Args:
        manifest: The target.
        files: Its original files by role.
        fingerprint: Fingerprint of the originals.
        table: The originals as they were read.
        progress: Called with the name of a stage and the fraction of it done since the last call.

    Returns:
        The path of the copy.

    Raises:
        InputError: When the samples are not arrays of one type, or the disk is too small.
    """
    path = copy_path(manifest, files)
    streams = {name: samples for name in STREAMS if (samples := getattr(table, name)) is not None}
    kinds = {name: _kind_of(samples[0]) for name, samples in streams.items()}
    metadata = {
        "made_of": copy_record(fingerprint),
        "reader": manifest.reader.model_dump(mode="json"),
        "kinds": kinds,
        "classes": table.classes and [str(name) for name in table.classes],
        "columns": table.columns and list(table.columns),
        "group_like": list(table.group_like),
    }
    max_arrays = 16 + 3 * len(streams) + len(table.groups or {})
    try:
        with one_process_at_a_time(path.with_suffix(".lock"), f"converting {manifest.name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            for temporary in abandoned(path.parent.glob(f".*{TEMPORARY_SUFFIX}")):
                temporary.unlink(missing_ok=True)
            _check_free_space(path.parent, streams)
            writer = ArrayWriter(path, metadata, max_arrays)
            # The lock tells other processes that the temporary file is still in use.
            with locked(writer.temporary):
                try:
                    for name, samples in streams.items():
                        write: Writer = TEXTS.get(kinds[name], _write_arrays)
                        write(writer, name, _read_all(f"convert {name}", samples, progress))
                    _write_small_arrays(writer, table)
                except BaseException:
                    writer.discard()
                    raise
                writer.commit()
    except OSError as error:
        raise InputError(f"cannot write the converted copy {path}: {error.strerror or error}") from error
    return path


def _check_free_space(folder: Path, streams: Mapping[str, Samples]) -> None:
    """Raise before hours of work when the disk is too small, where samples of one size allow an estimate."""
    needed = 0
    for samples in streams.values():
        numbers = np.linspace(0, len(samples) - 1, min(SAMPLES_FOR_SIZE_ESTIMATE, len(samples)))
        chosen = (samples[int(number)] for number in numbers)
        sizes = {len(one.encode()) if isinstance(one, str) else np.asarray(one).nbytes for one in chosen}
        needed += sizes.pop() * len(samples) if len(sizes) == 1 else 0
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the disk of {folder} has {format_bytes(free)} free, but the converted copy needs {format_bytes(needed)}. "
            "Set the environment variable MODGAP_DATA to a folder on a larger disk."
        )


def _read_all(stage: str, samples: Samples, progress: Progress | None) -> Iterator[Any]:
    """Yield the samples one after the other, and report the progress of a stage after each."""
    for index in range(len(samples)):
        yield samples[index]
        if progress:
            progress(stage, 1 / len(samples))


def _write_small_arrays(writer: ArrayWriter, table: Table) -> None:
    mean, sd = table.target_scale or (None, None)
    arrays = dict(zip(SMALL_ARRAYS, (table.labels, table.splits, mean, sd, table.levels), strict=True))
    for name, values in (arrays | {f"group.{name}": one for name, one in (table.groups or {}).items()}).items():
        if values is not None:
            writer.add_array(name, np.asarray(values))


def _write_text(writer: ArrayWriter, name: str, samples: Iterator[str]) -> None:
    """Write strings in UTF-8 without gaps, and the position of each; the last position is the end."""
    starts = array("q", [0])
    writer.begin_array(name, np.uint8)
    for sample in samples:
        text = np.frombuffer(sample.encode(), np.uint8)
        writer.append(text)
        starts.append(starts[-1] + len(text))
    writer.end_array((starts[-1],))
    writer.add_array(f"{name}.starts", np.frombuffer(starts, np.int64))


def _write_words(writer: ArrayWriter, name: str, samples: Iterator[WordInText]) -> None:
    """Write the texts of words, each once, and the number of the text, the start and the end of each word."""
    words = array("q")

    def texts() -> Iterator[str]:
        number, latest = -1, None
        for word in samples:
            if word.text != latest:
                number, latest = number + 1, word.text
                yield latest
            words.extend((number, word.start, word.end))

    _write_text(writer, name, texts())
    writer.add_array(f"{name}.words", np.frombuffer(words, np.int64).reshape(-1, 3))


TEXTS: Mapping[str, Writer] = {"text": _write_text, "words": _write_words}
"""Function that writes samples of each kind that is no array."""


def _kind_of(sample: object) -> str:
    return "words" if isinstance(sample, WordInText) else "text" if isinstance(sample, str) else "array"


def _write_arrays(writer: ArrayWriter, name: str, samples: Iterator[np.ndarray]) -> None:
    """Write arrays without gaps; for arrays of several shapes, also the position and the shape of each."""
    first = with_native_byte_order(next(samples))
    _check_same_type(name, 0, first, first)
    starts = array("q", [0])
    shapes = array("q")
    varied = False
    writer.begin_array(name, first.dtype)
    for index, values in enumerate(itertools.chain([first], samples)):
        sample = with_native_byte_order(values)
        _check_same_type(name, index, sample, first)
        writer.append(sample)
        starts.append(starts[-1] + sample.size)
        shapes.extend(sample.shape)
        varied |= sample.shape != first.shape
    total = starts.pop()
    writer.end_array((total,) if varied else (len(starts), *first.shape))
    if varied:
        writer.add_array(f"{name}.starts", np.frombuffer(starts, np.int64))
        writer.add_array(f"{name}.shapes", np.frombuffer(shapes, np.int64).reshape(len(starts), first.ndim))


def _check_same_type(name: str, index: int, sample: np.ndarray, first: np.ndarray) -> None:
    if sample.dtype.kind not in "biuf" or sample.dtype != first.dtype or sample.ndim != first.ndim:
        raise InputError(
            f"{name} number {index} is {sample.dtype} with {sample.ndim} dimensions; expected numbers of the same type "
            f"as the first, {first.dtype} with {first.ndim} dimensions. Such data cannot be converted, but can be used "
            "as it is."
        )
