"""Write a target's converted copy: the originals are read once and streamed as arrays into one file."""

import shutil
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.formatting import format_bytes
from modgap.progress import Progress
from modgap.storage.array_writer import ArrayWriter, with_native_byte_order
from modgap.storage.atomic_files import TEMPORARY_SUFFIX
from modgap.storage.locks import locked, one_process_at_a_time
from modgap.targets.download.converted_copy import STREAMS, copy_path, copy_record
from modgap.targets.readers import get_converter
from modgap.targets.samples import Samples, Table
from modgap.targets.target import Target

__all__ = ["convert"]

SAMPLES_FOR_SIZE_ESTIMATE = 8


def convert(target: Target, progress: Progress | None = None) -> list[Path]:
    """Read the originals of a target once, and write them as arrays that can be memory-mapped.

    One sample is in memory at a time, so memory does not grow with the data. The copy appears complete or not at
    all. A reader with its own conversion uses that instead.

    Args:
        target: The target.
        progress: Called with the name of a stage and the fraction of it done since the last call.

    Returns:
        The paths of the files that were written.

    Raises:
        InputError: When the originals cannot be read, are not arrays of one type, or the disk is too small.
    """
    reader_conversion = get_converter(target.manifest.reader.name)
    if reader_conversion is not None:
        return reader_conversion(target.files)
    return [_write_copy(target, progress)]


def _write_copy(target: Target, progress: Progress | None) -> Path:
    fingerprint = target.fingerprint
    table = target.read_originals()
    path = copy_path(target.manifest, target.files)
    streams = {name: samples for name in STREAMS if (samples := getattr(table, name)) is not None}
    kinds = {name: "text" if isinstance(samples[0], str) else "array" for name, samples in streams.items()}
    metadata = {
        "made_of": copy_record(fingerprint),
        "reader": target.manifest.reader.model_dump(mode="json"),
        "kinds": kinds,
        "classes": table.classes and [str(name) for name in table.classes],
        "columns": table.columns and list(table.columns),
    }
    max_arrays = 16 + 3 * len(streams) + len(table.groups or {})
    try:
        with one_process_at_a_time(path.with_suffix(".lock"), f"converting {target.name}"):
            _remove_abandoned_files(path.parent)
            _check_free_space(path.parent, streams)
            writer = ArrayWriter(path, metadata, max_arrays)
            # The lock tells other processes that the temporary file is still in use.
            with locked(writer.temporary):
                _write_table(writer, table, streams, kinds, progress)
    except OSError as error:
        raise InputError(f"cannot write the converted copy {path}: {error.strerror or error}") from error
    return path


def _remove_abandoned_files(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while they converted."""
    folder.mkdir(parents=True, exist_ok=True)
    for temporary in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        with locked(temporary) as abandoned:
            if abandoned:
                temporary.unlink(missing_ok=True)


def _check_free_space(folder: Path, streams: Mapping[str, Samples]) -> None:
    """Raise before hours of work when the disk is too small, where samples of one size allow an estimate."""
    needed = 0
    for samples in streams.values():
        numbers = np.linspace(0, len(samples) - 1, min(SAMPLES_FOR_SIZE_ESTIMATE, len(samples)))
        sizes = {_sample_bytes(samples[int(number)]) for number in numbers}
        needed += sizes.pop() * len(samples) if len(sizes) == 1 else 0
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the disk of {folder} has {format_bytes(free)} free, but the converted copy needs {format_bytes(needed)}. "
            "Set the environment variable MODGAP_DATA to a folder on a larger disk."
        )


def _sample_bytes(sample: Any) -> int:
    return len(sample.encode()) if isinstance(sample, str) else np.asarray(sample).nbytes


def _write_table(
    writer: ArrayWriter,
    table: Table,
    streams: Mapping[str, Samples],
    kinds: Mapping[str, str],
    progress: Progress | None,
) -> None:
    try:
        for name, samples in streams.items():
            write = _write_text if kinds[name] == "text" else _write_arrays
            write(writer, name, samples, _sample_counter(f"convert {name}", len(samples), progress))
        _write_small_arrays(writer, table)
    except BaseException:
        writer.discard()
        raise
    writer.commit()


def _sample_counter(stage: str, n_samples: int, progress: Progress | None) -> Callable[[], None]:
    """Return a function to call after each sample, which reports the progress of a stage."""

    def advance() -> None:
        if progress:
            progress(stage, 1 / n_samples)

    return advance


def _write_small_arrays(writer: ArrayWriter, table: Table) -> None:
    mean, sd = table.target_scale or (None, None)
    arrays = {
        "labels": table.labels,
        "splits": table.splits,
        "target_mean": mean,
        "target_sd": sd,
        "levels": table.levels,
    }
    arrays |= {f"group.{name}": numbers for name, numbers in (table.groups or {}).items()}
    for name, values in arrays.items():
        if values is not None:
            writer.add_array(name, np.asarray(values))


def _write_text(writer: ArrayWriter, name: str, samples: Samples, advance: Callable[[], None]) -> None:
    """Write strings in UTF-8 without gaps, and the position of each; the last position is the end."""
    starts = array("q", [0])
    writer.begin_array(name, np.uint8)
    for index in range(len(samples)):
        text = np.frombuffer(samples[index].encode(), np.uint8)
        writer.append(text)
        starts.append(starts[-1] + len(text))
        advance()
    writer.end_array((starts[-1],))
    writer.add_array(f"{name}.starts", np.frombuffer(starts, np.int64))


def _write_arrays(writer: ArrayWriter, name: str, samples: Samples, advance: Callable[[], None]) -> None:
    """Write arrays without gaps; for arrays of several shapes, also the position and the shape of each."""
    first = with_native_byte_order(samples[0])
    _check_same_type(name, 0, first, first)
    starts = array("q")
    shapes = array("q")
    varied = False
    total = 0
    writer.begin_array(name, first.dtype)
    for index in range(len(samples)):
        sample = with_native_byte_order(samples[index])
        _check_same_type(name, index, sample, first)
        writer.append(sample)
        starts.append(total)
        shapes.extend(sample.shape)
        varied |= sample.shape != first.shape
        total += sample.size
        advance()
    writer.end_array((total,) if varied else (len(samples), *first.shape))
    if varied:
        writer.add_array(f"{name}.starts", np.frombuffer(starts, np.int64))
        writer.add_array(f"{name}.shapes", np.frombuffer(shapes, np.int64).reshape(len(samples), first.ndim))


def _check_same_type(name: str, index: int, sample: np.ndarray, first: np.ndarray) -> None:
    if sample.dtype.kind not in "biuf" or sample.dtype != first.dtype or sample.ndim != first.ndim:
        raise InputError(
            f"{name} number {index} is {sample.dtype} with {sample.ndim} dimensions; expected numbers of the same type "
            f"as the first, {first.dtype} with {first.ndim} dimensions. Such data cannot be converted, but can be used "
            "as it is."
        )
