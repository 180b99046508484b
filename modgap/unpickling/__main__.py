"""Do the jobs of standard input: pickles of plain data to safetensors files, each answered by one line of JSON.

Standard input holds one JSON document {"limits": {...}, "jobs": [{"path", "out", "metadata"}, ...]}.
"""

import gzip
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from modgap.unpickling.opcodes import check_opcodes
from modgap.unpickling.stand_ins import Array, Refused, Unpickler
from modgap.unpickling.tree import Tree, write

CHUNK = 1 << 20


def most_unzipped(stream: BinaryIO, limits: dict) -> int:
    """Bytes that a zipped file may unzip into."""
    return min(limits["bytes"], limits["expansion_free"] + limits["expansion"] * os.fstat(stream.fileno()).st_size)


def unzipped(stream: BinaryIO, out: Path, limits: dict) -> BinaryIO:
    """What a gzip stream holds, as a file without a name."""
    most = most_unzipped(stream, limits)
    scratch = out.with_name(out.name + ".unzipped")
    target = scratch.open("x+b")
    try:
        with gzip.GzipFile(fileobj=stream) as source:
            while chunk := source.read(CHUNK):
                target.write(chunk)
                if target.tell() > most:
                    raise Refused(f"it unzips into more than {most} bytes")
    finally:
        scratch.unlink()
    target.seek(0)
    return target


def skip_npy_header(stream: BinaryIO) -> tuple[int, ...] | None:
    """The shape of an array of objects in a .npy file, leaving the stream at its pickle; None for a bare pickle."""
    prefix = stream.read(6)
    stream.seek(0)
    if prefix != b"\x93NUMPY":
        return None
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise Refused(f"a .npy file of version {version}")
    shape, _, dtype = readers[version](stream)
    if dtype != np.dtype(object):
        raise Refused(f"a .npy file of {dtype}, which holds no pickle")
    return shape


class Watch:
    """An audit hook under which nothing that Python reports may happen: no import, file, process, compilation."""

    def __init__(self) -> None:
        """Not watching yet; there is no way to take an audit hook away."""
        self._on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple) -> None:
        if self._on:
            raise Refused(f"it causes {event}")

    def load(self, machine: Unpickler) -> Any:
        """Run a pickle under watch."""
        self._on = True
        try:
            return machine.load()
        finally:
            self._on = False


def limit_process(size: int, limits: dict) -> None:
    """Memory, file size and processor time in proportion to the content; where the system knows such limits."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + limits["seconds"] + size // limits["bytes_a_second"]
    for name, soft in (
        ("RLIMIT_AS", limits["memory"] + limits["memory_a_byte"] * size),
        ("RLIMIT_FSIZE", limits["memory"] + limits["memory_a_byte"] * size),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_CORE", 0),
    ):
        number = getattr(resource, name, None)
        if number is not None:
            hard = resource.getrlimit(number)[1]
            soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
            try:
                resource.setrlimit(number, (soft, hard))
            except (ValueError, OSError):
                # macOS refuses some of them.
                continue


def convert(job: dict, limits: dict, watch: Watch) -> None:
    """One pickle to one safetensors file; its metadata holds the object as JSON."""
    out = Path(job["out"])
    with open(job["path"], "rb") as stream:
        limit_process(most_unzipped(stream, limits), limits)
        zipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        source = unzipped(stream, out, limits) if zipped else stream
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        if not 0 < size <= limits["bytes"]:
            raise Refused(f"it has {size} bytes, more than {limits['bytes']}" if size else "the file is empty")
        limit_process(size, limits)
        shape = skip_npy_header(source)
        opcodes = check_opcodes(source, limits["opcodes"])
        value = watch.load(Unpickler(source, size))
    if shape is not None and (not isinstance(value, Array) or value.items is None or value.shape != shape):
        raise Refused(f"the .npy file says an array of objects of shape {shape}, its pickle holds another")
    tree = Tree(limits["nodes"] + limits["nodes_an_opcode"] * opcodes, limits["depth"])
    encoded = json.dumps(tree.of(value))
    write(out, tree.arrays, {**job["metadata"], "tree": encoded})


def answer(job: dict, limits: dict, watch: Watch) -> dict:
    """Do a job; what was wrong with the file, if anything."""
    try:
        convert(job, limits, watch)
    except Refused as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "it asks for more memory than its size explains"}
    except RecursionError:
        return {"refused": "it is nested too deeply"}
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return {"refused": f"it is truncated or damaged ({error})"}
    except OSError as error:
        place = Path(job["out"]).parent
        return {"refused": f"{error.strerror or error}, while it is read or its content written to {place}"}
    except Exception as error:
        # The machine fails in many ways on what is no pickle; all mean the same.
        return {"refused": f"it is no pickle of plain data ({type(error).__name__}: {error})"}
    return {}


def main() -> None:
    """Do the jobs one after the other, up to the first that is refused."""
    order, watch = json.load(sys.stdin), Watch()
    for job in order["jobs"]:
        reply = answer(job, order["limits"], watch)
        print(json.dumps(reply), flush=True)  # noqa: T201 - how it answers
        if reply:
            break


if __name__ == "__main__":
    main()
