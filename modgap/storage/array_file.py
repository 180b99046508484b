"""Arrays streamed into one safetensors file: written whole or not at all, and mapped when read."""

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from modgap.storage.atomic_files import temporary_path

__all__ = ["ArrayFile", "ArrayWriter", "data_digest", "native", "read_layout"]

NO_DIGEST = "0" * 64
DTYPES = {
    "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
    "int64": "I64", "uint64": "U64", "float16": "F16", "float32": "F32", "float64": "F64",
}  # fmt: skip
ALIGNMENT = 64
"""Every array begins at a multiple of so many bytes, so that a mapped one can be read in place."""
PADDING = "padding."
BYTES_AN_ARRAY = 320
"""Room in the header for one array's entry and that of the padding before it; names are short."""


def native(values: Any) -> np.ndarray:
    """Values as an array in the machine's byte order."""
    array = np.asarray(values)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _header(fields: Mapping, metadata: Mapping, digest: str) -> bytes:
    sealed = {"digest": digest, "record": json.dumps(metadata, allow_nan=False)}
    return json.dumps({"__metadata__": sealed, **fields}).encode()


class ArrayWriter:
    """Streams arrays, one after the other, to a file that no one else writes, and renames it when complete.

    Sizes need not be known beforehand: room for the header is kept at the start and filled at the end.
    Writers of one path cannot disturb each other: the last to finish replaces the others' file. When
    anything fails the unfinished file is gone before the error is out.
    """

    def __init__(self, path: Path, metadata: Mapping, most_arrays: int = 24):
        """Open a temporary file beside `path`.

        Args:
            path: Where the file shall lie when it is complete.
            metadata: Kept in the header, as JSON.
            most_arrays: At most so many arrays will follow.

        Raises:
            OSError: When the folder cannot be written.
        """
        self._path, self._metadata = path, dict(metadata)
        self._fields: dict[str, dict] = {}
        self._digest, self._written = hashlib.sha256(), 0
        self._open: tuple[str, np.dtype, int] | None = None
        needed = 8 + len(_header({}, self._metadata, NO_DIGEST)) + BYTES_AN_ARRAY * most_arrays
        self._start = -(-needed // ALIGNMENT) * ALIGNMENT
        path.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = temporary_path(path)
        self._stream = self.temporary.open("xb")
        self._guarded(self._stream.write, bytes(self._start))

    def _guarded(self, action, *args) -> None:
        try:
            action(*args)
        except BaseException:
            self.discard()
            raise

    def add(self, name: str, array: np.ndarray) -> None:
        """Write one array whole.

        Raises:
            OSError: When the disk is full.
        """
        array = native(array)
        self.start(name, array.dtype)
        self.append(array)
        self.end(array.shape)

    def start(self, name: str, dtype: DTypeLike) -> None:
        """Begin an array whose values follow.

        Raises:
            ValueError: When the file has no such type.
        """
        if np.dtype(dtype).name not in DTYPES:
            self._guarded(_refuse, f"expected numbers for {name}, got {np.dtype(dtype)}")
        gap = -self._written % ALIGNMENT
        if gap:
            self._field(f"{PADDING}{len(self._fields)}", np.dtype(np.uint8), (gap,), self._written)
            self._guarded(self._write, bytes(gap))
        self._open = (name, np.dtype(dtype), self._written)

    def append(self, values: np.ndarray) -> None:
        """Write the next values of the array begun.

        Raises:
            OSError: When the disk is full.
        """
        assert self._open is not None
        if values.dtype != self._open[1]:
            self._guarded(_refuse, f"expected {self._open[1]} for {self._open[0]}, got {values.dtype}")
        self._guarded(self._write, np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def _write(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._stream.write(data)
        self._written += len(data)

    def end(self, shape: Sequence[int]) -> None:
        """Close the array begun; its values fill this shape.

        Raises:
            ValueError: When they do not.
        """
        assert self._open is not None
        name, dtype, start = self._open
        expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if self._written - start != expected:
            self._guarded(_refuse, f"expected {expected} bytes of {name}, got {self._written - start}")
        self._field(name, dtype, shape, start)
        self._open = None

    def _field(self, name: str, dtype: np.dtype, shape: Sequence[int], start: int) -> None:
        end = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._fields[name] = {"dtype": DTYPES[dtype.name], "shape": list(shape), "data_offsets": [start, end]}

    def commit(self) -> None:
        """Seal the file with its checksum and move it into place.

        Raises:
            OSError: When the disk is full.
        """
        self._guarded(self._seal)

    def _seal(self) -> None:
        text = _header(self._fields, self._metadata, self._digest.hexdigest())
        room = self._start - 8
        if self._open or len(text) > room:
            raise ValueError(f"expected closed arrays and a header of at most {room} bytes, got {len(text)}")
        self._stream.seek(0)
        self._stream.write(struct.pack("<Q", room) + text.ljust(room))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        os.replace(self.temporary, self._path)

    def discard(self) -> None:
        """Drop the unfinished file."""
        try:
            self._stream.close()
        except OSError:
            # Closing flushes, which fails again where the disk is full; the file goes anyway.
            self._stream = open(os.devnull, "wb")  # noqa: SIM115
        self.temporary.unlink(missing_ok=True)


def _refuse(message: str) -> None:
    raise ValueError(message)


@dataclass(frozen=True)
class ArrayFile:
    """What a file holds, from its header alone.

    Attributes:
        path: The file.
        start: Where the arrays begin, in bytes.
        fields: Type, shape and place of each array, by name.
        digest: SHA-256 of all that follows the header, as it was written.
        metadata: What the writer was given.
    """

    path: Path
    start: int
    fields: dict[str, dict]
    digest: str
    metadata: dict

    def mapped(self, name: str) -> np.ndarray:
        """One array, mapped and read-only."""
        field = self.fields[name]
        shape, offset = tuple(field["shape"]), self.start + field["data_offsets"][0]
        dtype = np.dtype({code: kind for kind, code in DTYPES.items()}[field["dtype"]])
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(self.path, dtype, "r", offset, shape)


def read_layout(path: Path) -> ArrayFile:
    """Read a file's header and check that the file is as long as it says.

    Raises:
        ValueError: When the header is broken, or the file is truncated.
        OSError: When it cannot be read.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size:
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            fields = json.loads(stream.read(length))
        sealed = fields.pop("__metadata__")
        end = 8 + length + max((field["data_offsets"][1] for field in fields.values()), default=0)
        record, digest = json.loads(sealed["record"]), str(sealed["digest"])
    except (KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"its header is not readable ({error!r})") from error
    if end != size:
        raise ValueError(f"it has {size} bytes, {end} were written")
    own = {name: field for name, field in fields.items() if not name.startswith(PADDING)}
    return ArrayFile(path, 8 + length, own, digest, record)


def data_digest(file: ArrayFile) -> str:
    """SHA-256 of all that follows the header, read anew.

    Raises:
        OSError: When it cannot be read.
    """
    with file.path.open("rb") as stream:
        stream.seek(file.start)
        return hashlib.file_digest(stream, "sha256").hexdigest()
