"""Write a target's converted copy: read once through its reader and steps, streamed into one file."""

import shutil
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.formatting import format_bytes
from modgap.progress import Progress
from modgap.storage.array_file import ArrayWriter, with_native_byte_order
from modgap.storage.locks import locked, one_process_at_a_time
from modgap.targets.download.converted_copy import STREAMS, copy_path, copy_record
from modgap.targets.readers import get_converter
from modgap.targets.samples import Samples, Table
from modgap.targets.target import Target

__all__ = ["convert"]

PROBED = 8
"""Samples that are read beforehand, to estimate the size of the copy."""


def convert(target: Target, progress: Progress | None = None) -> list[Path]:
    """Read the originals once and write them as arrays that can be mapped; the paths of what was written.

    One sample is held at a time, so that memory does not grow with the data. The copy appears whole
    or not at all. A reader with a conversion of its own is left to it.

    Args:
        target: What to convert.
        progress: Called with the stage and its share done since the last call.

    Raises:
        InputError: When the originals cannot be read, are not arrays of one type, or the disk is too small.
    """
    own = get_converter(target.manifest.reader.name)
    return [_copied(target, progress)] if own is None else own(target.files)


def _copied(target: Target, progress: Progress | None) -> Path:
    fingerprint = target.fingerprint
    table = target.read_originals()
    path = copy_path(target.manifest, target.files)
    streams = {name: samples for name in STREAMS if (samples := getattr(table, name)) is not None}
    kinds = {name: "text" if isinstance(samples[0], str) else "array" for name, samples in streams.items()}
    metadata = {
        "made_of": copy_record(fingerprint),
        "kinds": kinds,
        "classes": table.classes and [str(name) for name in table.classes],
    }
    try:
        with one_process_at_a_time(path.with_suffix(".lock"), f"converting {target.name}"):
            _remove_leftovers(path.parent)
            _refuse_small_disk(path.parent, streams)
            writer = ArrayWriter(path, metadata, max_arrays=16 + 3 * len(streams) + len(table.groups or {}))
            # The lock tells other processes that the temporary file is still in use.
            with locked(writer.temporary):
                try:
                    _write(writer, table, streams, kinds, progress)
                except BaseException:
                    writer.discard()
                    raise
                writer.commit()
    except OSError as error:
        raise InputError(f"cannot write the converted copy {path}: {error.strerror or error}") from error
    return path


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while converting have left."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.part"):
        with locked(left) as abandoned:
            if abandoned:
                left.unlink(missing_ok=True)


def _refuse_small_disk(folder: Path, streams: dict[str, Samples]) -> None:
    """Refuse before hours of work what cannot end well, where the size can be told beforehand."""
    needed = 0
    for samples in streams.values():
        probes = [samples[int(i)] for i in np.linspace(0, len(samples) - 1, min(PROBED, len(samples)))]
        sizes = {len(each.encode()) if isinstance(each, str) else np.asarray(each).nbytes for each in probes}
        needed += sizes.pop() * len(samples) if len(sizes) == 1 else 0
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"expected {format_bytes(needed)} free in {folder} for the converted copy, got {format_bytes(free)}; "
            "set MODGAP_DATA to a larger disk"
        )


def _write(writer: ArrayWriter, table: Table, streams: dict[str, Samples], kinds: dict[str, str], progress) -> None:
    for name, samples in streams.items():
        write = _write_text if kinds[name] == "text" else _write_arrays
        stage, share = f"convert {name}", 1 / len(samples)

        def advance(stage=stage, share=share) -> None:
            if progress:
                progress(stage, share)

        write(writer, name, samples, advance)
    mean, sd = table.target_scale or (None, None)
    small = {"labels": table.labels, "splits": table.splits, "target_mean": mean, "target_sd": sd}
    small |= {f"group.{name}": numbers for name, numbers in (table.groups or {}).items()}
    for name, numbers in small.items():
        if numbers is not None:
            writer.add_array(name, np.asarray(numbers))


def _write_text(writer: ArrayWriter, name: str, samples: Samples, advance: Callable[[], None]) -> None:
    """Strings in UTF-8 one behind the other, and where each begins; one more start than strings."""
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
    """Samples one behind the other; those of several shapes with where each begins and its shape."""
    first = with_native_byte_order(samples[0])
    _refuse_other_kind(name, 0, first, first)
    starts, shapes, varied, total = array("q"), array("q"), False, 0
    writer.begin_array(name, first.dtype)
    for index in range(len(samples)):
        sample = with_native_byte_order(samples[index])
        _refuse_other_kind(name, index, sample, first)
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


def _refuse_other_kind(name: str, index: int, sample: np.ndarray, first: np.ndarray) -> None:
    if sample.dtype.kind not in "biuf" or sample.dtype != first.dtype or sample.ndim != first.ndim:
        raise InputError(
            f"expected {name} to be numbers of one type, {first.dtype} in {first.ndim} dimensions like the first, got "
            f"{sample.dtype} in {sample.ndim} for number {index}; such data is read as it is, without converting"
        )
