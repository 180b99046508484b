"""Convert the pickles of standard input to safetensors files, and answer each job with one line of JSON.

Standard input is one JSON document {"limits": {...}, "jobs": [{"path", "out"}, ...]}.
"""

import gzip
import json
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from modgap.storage.unpickling.opcodes import check_opcodes
from modgap.storage.unpickling.stand_ins import Array, RejectedPickleError, Unpickler
from modgap.storage.unpickling.tree import Tree, write

CHUNK = 1 << 20
GZIP_SIGNATURE = b"\x1f\x8b"
NPY_SIGNATURE = b"\x93NUMPY"

Limits = dict[str, int]
Job = dict[str, str]


def max_unzipped_size(stream: BinaryIO, limits: Limits) -> int:
    """Return the largest size in bytes that a gzip file may unzip to."""
    size = os.fstat(stream.fileno()).st_size
    return min(limits["bytes"], limits["expansion_free"] + limits["expansion"] * size)


def unzip(stream: BinaryIO, out: Path, limits: Limits) -> BinaryIO:
    """Return the content of a gzip stream as a file without a name.

    Raises:
        RejectedPickleError: When the content is larger than the limits allow.
    """
    max_size = max_unzipped_size(stream, limits)
    name = "bytes" if max_size == limits["bytes"] else "expansion"
    scratch = out.with_name(out.name + ".unzipped")
    target = scratch.open("x+b")
    try:
        with gzip.GzipFile(fileobj=stream) as source:
            while chunk := source.read(CHUNK):
                target.write(chunk)
                if target.tell() > max_size:
                    raise RejectedPickleError(f"it unzips into more than {max_size} bytes", name)
    finally:
        scratch.unlink()
    target.seek(0)
    return target


def skip_npy_header(stream: BinaryIO) -> tuple[int, ...] | None:
    """Move a stream to its pickle; return the shape of the array of objects in a .npy file, None for a bare pickle.

    Raises:
        RejectedPickleError: When the .npy file has another version or no objects.
    """
    prefix = stream.read(len(NPY_SIGNATURE))
    stream.seek(0)
    if prefix != NPY_SIGNATURE:
        return None
    # NumPy has no type annotations for these functions.
    read_magic: Any = np.lib.format.read_magic
    read_header: dict[tuple[int, int], Callable[[BinaryIO], tuple[tuple[int, ...], bool, np.dtype]]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = read_magic(stream)
    if version not in read_header:
        raise RejectedPickleError(f"it is a .npy file of the unsupported version {version}")
    shape, _, dtype = read_header[version](stream)
    if dtype != np.dtype(object):
        raise RejectedPickleError(f"it is a .npy file of {dtype}, which contains no pickle")
    return shape


class AuditGuard:
    """An audit hook that rejects every event that Python reports while a pickle runs.

    Events are imports, opened files, new processes, compilation, and so on.
    """

    def __init__(self) -> None:
        """Install the hook, inactive. Python has no way to remove an audit hook."""
        self._is_active = False
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, _args: tuple[object, ...]) -> None:
        if self._is_active:
            raise RejectedPickleError(f"it causes {event}")

    def load(self, unpickler: Unpickler) -> object:
        """Run a pickle with the hook active."""
        self._is_active = True
        try:
            return unpickler.load()
        finally:
            self._is_active = False


def limit_process(size: int, limits: Limits) -> None:
    """Limit memory, file size and processor time in proportion to the content, if the system supports it.

    Args:
        size: Size of the content in bytes.
        limits: Limits that standard input names.
    """
    try:
        import resource
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(usage.ru_utime + usage.ru_stime) + limits["seconds"] + size // limits["bytes_per_second"]
    memory = limits["memory"] + limits["memory_per_byte"] * size
    soft_limits = {"RLIMIT_AS": memory, "RLIMIT_FSIZE": memory, "RLIMIT_CPU": seconds, "RLIMIT_CORE": 0}
    for name, soft in soft_limits.items():
        number = getattr(resource, name, None)
        if number is not None:
            hard = resource.getrlimit(number)[1]
            soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
            try:
                resource.setrlimit(number, (soft, hard))
            except (ValueError, OSError):
                # macOS does not support some of them.
                continue


def convert(job: Job, limits: Limits, guard: AuditGuard) -> None:
    """Convert one pickle to one safetensors file, whose metadata has the object as JSON.

    Raises:
        RejectedPickleError: When the file is not a pickle of plain data, or goes beyond a limit.
    """
    out = Path(job["out"])
    with open(job["path"], "rb") as stream:
        limit_process(max_unzipped_size(stream, limits), limits)
        is_zipped = stream.read(len(GZIP_SIGNATURE)) == GZIP_SIGNATURE
        stream.seek(0)
        source = unzip(stream, out, limits) if is_zipped else stream
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        if size == 0:
            raise RejectedPickleError("the file is empty")
        if size > limits["bytes"]:
            raise RejectedPickleError(f"it has {size} bytes, more than {limits['bytes']}", "bytes")
        limit_process(size, limits)
        shape = skip_npy_header(source)
        n_opcodes = check_opcodes(source, limits["opcodes"])
        value = guard.load(Unpickler(source, size))
    if shape is not None and (not isinstance(value, Array) or value.items is None or value.shape != shape):
        raise RejectedPickleError(
            f"its .npy header describes an array of objects of shape {shape}, but its pickle contains another object"
        )
    tree = Tree(limits["nodes"] + limits["nodes_per_opcode"] * n_opcodes, limits["depth"])
    encoded = json.dumps(tree.encode(value))
    write(out, tree.arrays, {"tree": encoded})


def run_job(job: Job, limits: Limits, guard: AuditGuard) -> dict[str, str]:
    """Do a job. Return the reason as `rejected` if the file was rejected, and its `limit`, else an empty record."""
    try:
        convert(job, limits, guard)
    except RejectedPickleError as error:
        return {"rejected": str(error), "limit": error.limit}
    except MemoryError:
        return {"rejected": "it asks for more memory than its size explains", "limit": "memory"}
    except RecursionError:
        return {"rejected": "it is nested too deeply"}
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return {"rejected": f"it is truncated or damaged ({error})"}
    except OSError as error:
        folder = Path(job["out"]).parent
        return {"rejected": f"{error.strerror or error}, while reading it or writing its content to {folder}"}
    except Exception as error:
        # The unpickler raises many kinds of exceptions on what is not a pickle.
        return {"rejected": f"it is not a pickle of plain data ({type(error).__name__}: {error})"}
    return {}


def main() -> None:
    """Do the jobs one after the other, up to the first that is rejected."""
    request = json.load(sys.stdin)
    guard = AuditGuard()
    for job in request["jobs"]:
        reply = run_job(job, request["limits"], guard)
        print(json.dumps(reply), flush=True)  # noqa: T201 - standard output carries the replies
        if reply:
            break


if __name__ == "__main__":
    main()
