"""Pickles of plain data, read without unpickling in this process.

Some published data comes as pickles, which are programs. A child process runs them with a table of stand-ins
instead of Python's names, under limits of memory and time, and returns what they build as safetensors.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.storage import limits
from modgap.storage.array_file import ArrayFile, ArrayWriter, read_array_file
from modgap.storage.array_formats import map_safetensors, read_safetensors_metadata
from modgap.storage.atomic_files import temporary_path
from modgap.storage.digests import file_digest

LIMITS = {
    "opcodes": limits.PICKLE_OPCODES,
    "depth": limits.PICKLE_DEPTH,
    "bytes": limits.PICKLE_BYTES,
    "expansion": limits.PICKLE_RATIO,
    "memory": limits.PICKLE_MEMORY,
    "seconds": limits.PICKLE_SECONDS,
}
"""Limits of one file that can be raised, by the name that the child process has for them."""
FIXED_LIMITS = {
    "nodes": 1_000,
    "nodes_per_opcode": 4,
    "expansion_free": 64 << 20,
    "memory_per_byte": 4,
    "bytes_per_second": 5_000_000,
}
"""Further limits of one file.

`nodes` plus `nodes_per_opcode` for each opcode limits the objects that the pickle unfolds into. `expansion` does not
apply to the first `expansion_free` bytes. `memory` grows by `memory_per_byte` for each byte of the pickle, and
`seconds` by one for each `bytes_per_second` bytes.
"""
ALLOWED_CONTENT = "Only pickles of NumPy arrays, numbers, strings and plain containers of them are read."
MAX_REASON_LENGTH = 240
FILES_PER_PROCESS = 256

log = logging.getLogger("modgap")


def read_pickle(path: Path) -> Any:
    """Return the object in a pickle (also gzipped), or in a `.npy` file of objects, if it is plain data.

    Plain data is None, booleans, numbers, strings and bytes; dictionaries, lists, tuples and sets of them; and NumPy
    arrays and scalars of numbers, booleans, strings or such objects. Arrays are read-only and memory-mapped
    if the system supports it. Strings that Python 2 wrote become bytes.

    Raises:
        InputError: When the file is anything else, or goes beyond a limit.
    """
    return next(read_pickles([path]))


def read_pickles(paths: Sequence[Path]) -> Iterator[Any]:
    """Yield the object in each of several files, all read by one child process.

    A file that `convert_pickles` has converted is read from its safetensors file instead.

    Raises:
        InputError: For the first file for which `read_pickle` raises one, before any object is yielded.
    """
    converted = [_valid_conversion(path) for path in paths]
    pending = [path for path, conversion in zip(paths, converted, strict=True) if conversion is None]
    with tempfile.TemporaryDirectory(prefix="modgap-pickle-") as folder:
        outputs = [Path(folder) / f"{number}.safetensors" for number in range(len(pending))]
        _convert(pending, outputs)
        new = map(map_safetensors, outputs)
        values = []
        for file in converted:
            # On POSIX systems a mapped file outlives its name; elsewhere its content is copied.
            arrays, metadata = _map_converted(file) if file else next(new)
            values.append(_decode(json.loads(metadata["tree"]), arrays))
    yield from values


def converted_path(path: Path) -> Path:
    """Return the path of a pickle's safetensors file: hidden beside it, so that it is not part of a folder's digest."""
    return path.with_name(f".{path.name}.safetensors")


def convert_pickles(paths: Sequence[Path]) -> list[Path]:
    """Convert pickles permanently, each to a safetensors file beside it that is read instead of the pickle.

    Files that have been converted before are skipped unless the pickle or the converted file has changed since. Every
    byte of a converted file has a digest, which is compared when it is read.

    Returns:
        Paths of the safetensors files.

    Raises:
        InputError: For the first file for which `read_pickle` raises one. The files before it are converted.
    """
    pending = [path for path in paths if not _is_intact(path)]
    for first in range(0, len(pending), FILES_PER_PROCESS):
        batch = pending[first : first + FILES_PER_PROCESS]
        temporary = [temporary_path(path) for path in batch]
        try:
            _convert(batch, temporary)
        finally:
            for path, output in zip(batch, temporary, strict=True):
                if output.exists() and read_safetensors_metadata(output).get("tree"):
                    _add_digests(path, output)
                output.unlink(missing_ok=True)
    return [converted_path(path) for path in paths]


def _add_digests(path: Path, output: Path) -> None:
    """Write what the child process made of a pickle as its converted file, in which every byte has a digest."""
    arrays, metadata = map_safetensors(output)
    try:
        writer = ArrayWriter(converted_path(path), {"tree": metadata["tree"], **_origin(path)}, len(arrays))
        for name, array in arrays.items():
            writer.add_array(name, array)
        writer.commit()
    except OSError as error:
        raise InputError(f"cannot write {converted_path(path)}: {error.strerror or error}") from error


def _origin(path: Path) -> dict[str, object]:
    """Return what a converted file records about its pickle."""
    return {"source_size": path.stat().st_size, "source_sha256": file_digest(path)}


def _is_intact(path: Path) -> bool:
    """Return True when there is a converted file of the present content of a pickle, without damage."""
    with contextlib.suppress(OSError, ValueError):
        if conversion := _valid_conversion(path):
            conversion.verify()
            return True
    return False


def _valid_conversion(path: Path) -> ArrayFile | None:
    """Return the converted file, if it exists and was made from the present content of the pickle."""
    converted = converted_path(path)
    if not converted.is_file() or not path.is_file():
        return None
    try:
        file = read_array_file(converted)
    except (OSError, ValueError) as error:
        log.warning("%s is not used, and %s is read instead: %s", converted, path.name, error)
        return None
    origin = {name: file.metadata.get(name) for name in ("source_size", "source_sha256")}
    return file if origin == _origin(path) else None


def _convert(paths: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Convert pickles to safetensors files in a child process."""
    if not paths:
        return
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"expected a file at {missing[0]}, found none")
    jobs = [{"path": str(path.absolute()), "out": str(output)} for path, output in zip(paths, outputs, strict=True)]
    values = {name: limit.value for name, limit in LIMITS.items()} | FIXED_LIMITS
    unzipped = sum(path.stat().st_size for path in paths) * values["expansion"]
    seconds = values["seconds"] + unzipped / values["bytes_per_second"]
    replies, fate = _run_child(json.dumps({"limits": values, "jobs": jobs}), seconds)
    for path, reply in zip_longest(paths, replies):
        answer = fate if reply is None else reply
        if "rejected" in answer:
            reason = " ".join(ascii(answer["rejected"])[1:-1].split())[:MAX_REASON_LENGTH]
            limit = LIMITS.get(answer.get("limit", ""))
            raise InputError(f"cannot read {path}: {reason}. {limit.way_out() if limit else ALLOWED_CONTENT}")


def _run_child(request: str, seconds: float) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Return the replies of the child process, and the one that stands for missing replies if it ended early."""
    # One thread, because NumPy's threads would claim address space that the memory limit counts.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-B", "-m", "modgap.storage.unpickling"]
    fate = {"rejected": "the process that reads it ended early"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as child:
        try:
            output, _ = child.communicate(request, timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
            fate = {"rejected": f"reading it takes longer than {seconds:.0f} s", "limit": "seconds"}
        else:
            if child.returncode < 0:
                fate = {"rejected": f"the process that reads it was stopped by signal {-child.returncode}"}
    return [json.loads(line) for line in output.splitlines()], fate


def _map_converted(file: ArrayFile) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the metadata of a converted file, after comparing all of it with its digests."""
    try:
        return {name: file.map_array(name) for name in file.arrays}, file.metadata
    except (OSError, ValueError) as error:
        raise InputError(f"{file.path} is damaged ({error}). Delete it.") from error


def _decode(node: object, arrays: Mapping[str, np.ndarray]) -> object:
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
        # Where a mapped file does not outlive its name, its content is copied.
        array = array if os.name == "posix" else np.array(array)
        return array[()] if kind == "scalar" else array
    if kind == "dict":
        return {_decode(key, arrays): _decode(item, arrays) for key, item in parts[0]}
    items = [_decode(item, arrays) for item in parts[-1]]
    if kind == "objects":
        return np.fromiter(items, object, len(items)).reshape(parts[0])
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](items)
