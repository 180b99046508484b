"""Pickles of plain data, read without ever unpickling in this process.

Some published data comes as pickles, which are programs. They are run by a child process with a table of its own
instead of Python's names, under limits of memory and time, and what they build comes back as safetensors.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.storage.atomic_files import temporary_path
from modgap.storage.digests import file_digest
from modgap.storage.mmap_arrays import map_safetensors
from modgap.storage.safetensors_header import read_safetensors_metadata

__all__ = ["LIMITS", "convert_pickles", "converted_path", "read_pickle", "read_pickles"]

LIMITS = {
    "opcodes": 8_000_000,
    "nodes": 1_000,
    "nodes_an_opcode": 4,
    "depth": 32,
    "bytes": 8 << 30,
    "expansion": 20,
    "expansion_free": 64 << 20,
    "memory": 1 << 30,
    "memory_a_byte": 4,
    "seconds": 60,
    "bytes_a_second": 5_000_000,
}
"""What a file may ask for: opcodes, objects it unfolds into and how many more for each opcode, their depth, bytes, how
many bytes a zipped byte may become beyond the free ones, bytes of memory and how many more for each of its own, and
seconds likewise."""
READ = "only pickles of NumPy arrays, numbers, strings and plain containers of them are read"
MOST_REASON = 240
AT_ONCE = 256


def read_pickle(path: Path) -> Any:
    """What a pickle, zipped or not, or a `.npy` file of objects holds, if it is plain data.

    Plain are None, truth values, numbers, strings and bytes, dictionaries, lists, tuples and sets of them, and NumPy
    arrays and scalars of numbers, truth values, strings or such objects. Arrays are read-only and mapped from disk
    where the system allows it. Strings that Python 2 wrote come as bytes.

    Raises:
        InputError: When the file is anything else, or asks for more than LIMITS.
    """
    return next(read_pickles([path]))


def read_pickles(paths: Sequence[Path]) -> Iterator[Any]:
    """The same for several files by one child process, one after the other.

    A file that `convert_pickles` has converted is read from its safetensors file.

    Raises:
        InputError: As `read_pickle`, for the first such file, before anything is given back.
    """
    kept = [_kept(path) for path in paths]
    to_do = [path for path, found in zip(paths, kept, strict=True) if found is None]
    with tempfile.TemporaryDirectory(prefix="modgap-pickle-") as folder:
        outs = [Path(folder) / f"{number}.safetensors" for number in range(len(to_do))]
        _convert(to_do, outs, [{}] * len(to_do))
        fresh = iter(outs)
        # A mapped file lives on without its name; where it does not, its content is copied.
        values = [_plain(found or next(fresh), mapped=os.name == "posix") for found in kept]
    yield from values


def converted_path(path: Path) -> Path:
    """Where the safetensors file of a pickle lies: beside it, hidden, and so no part of a folder's content."""
    return path.with_name(f".{path.name}.safetensors")


def convert_pickles(paths: Sequence[Path]) -> list[Path]:
    """Convert pickles for good, each into a safetensors file beside it, which is then read in its place.

    Files converted before are left alone unless the pickle has changed since.

    Raises:
        InputError: As `read_pickle`; those before the faulty file are converted.
    """
    to_do = [path for path in paths if _kept(path) is None]
    for first in range(0, len(to_do), AT_ONCE):
        part = to_do[first : first + AT_ONCE]
        temporary = [temporary_path(path) for path in part]
        origins = [{"source_size": str(path.stat().st_size), "source_sha256": file_digest(path)} for path in part]
        try:
            _convert(part, temporary, origins)
        finally:
            for path, out in zip(part, temporary, strict=True):
                if out.exists() and read_safetensors_metadata(out).get("tree"):
                    os.replace(out, converted_path(path))
                out.unlink(missing_ok=True)
    return [converted_path(path) for path in paths]


def _kept(path: Path) -> Path | None:
    """The converted file, if it is there and of this pickle."""
    converted = converted_path(path)
    if not converted.is_file() or not path.is_file():
        return None
    origin = read_safetensors_metadata(converted)
    same = origin.get("source_size") == str(path.stat().st_size) and origin.get("source_sha256") == file_digest(path)
    return converted if same else None


def _convert(paths: Sequence[Path], outs: Sequence[Path], metadata: Sequence[dict]) -> None:
    """Have a child process convert pickles to safetensors files."""
    if not paths:
        return
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"expected a file at {missing[0]}, found none")
    jobs = [
        {"path": str(path.absolute()), "out": str(out), "metadata": more}
        for path, out, more in zip(paths, outs, metadata, strict=True)
    ]
    replies, fate = _run_child(json.dumps({"limits": LIMITS, "jobs": jobs}), _seconds(paths))
    for path, reply in zip_longest(paths, replies):
        reason = fate if reply is None else reply.get("refused")
        if reason is not None:
            line = " ".join(ascii(reason)[1:-1].split())[:MOST_REASON]
            raise InputError(f"cannot read {path}: {line}; {READ}")


def _seconds(paths: Sequence[Path]) -> float:
    unzipped = sum(path.stat().st_size for path in paths) * LIMITS["expansion"]
    return LIMITS["seconds"] + unzipped / LIMITS["bytes_a_second"]


def _run_child(order: str, seconds: float) -> tuple[list[dict], str]:
    """Replies of the child process, and what became of it where one is missing."""
    # One thread: NumPy's threads would claim address space that the memory limit counts.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-B", "-m", "modgap.unpickling"]
    fate = "the process that reads it came to an end"
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as child:
        try:
            output, _ = child.communicate(order, timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
            fate = f"it takes longer than {seconds:.0f} s"
        else:
            if child.returncode < 0:
                fate = f"the process that reads it was stopped by signal {-child.returncode}"
    return [json.loads(line) for line in output.splitlines()], fate


def _plain(path: Path, *, mapped: bool) -> Any:
    """The object that a converted file holds."""
    arrays, metadata = map_safetensors(path)
    try:
        return _value(json.loads(metadata["tree"]), arrays, copied=not mapped)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"cannot read {path}: it is not what modgap converted ({error}); delete it") from error


def _value(node: Any, arrays: dict[str, np.ndarray], *, copied: bool) -> Any:
    if not isinstance(node, list):
        return node
    kind, *parts = node
    if kind == "bytes":
        return parts[0].encode("latin-1")
    if kind == "dtype":
        return np.dtype(parts[0])
    if kind in ("array", "scalar"):
        number, dtype, shape = parts
        array = arrays[str(number)].reshape(-1).view(np.dtype(dtype)).reshape(shape)
        array = np.array(array) if copied else array
        return array[()] if kind == "scalar" else array
    if kind == "dict":
        return {_value(key, arrays, copied=copied): _value(item, arrays, copied=copied) for key, item in parts[0]}
    items = [_value(item, arrays, copied=copied) for item in parts[-1]]
    if kind == "objects":
        return _objects(items, parts[0])
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](items)


def _objects(items: list, shape: list[int]) -> np.ndarray:
    array = np.empty(len(items), object)
    for number, item in enumerate(items):
        array[number] = item
    return array.reshape(shape)
