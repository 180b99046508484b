"""Arrays streamed into one safetensors file with digests of all its bytes; it appears complete or not at all."""

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from modgap.storage.array_file import CHUNK, CHUNK_DIGESTS, DIGEST_PLACEHOLDER, FORMAT, PADDING_PREFIX
from modgap.storage.atomic_files import temporary_path
from modgap.storage.json_records import format_json
from modgap.storage.safetensors_header import NUMPY_DTYPES

__all__ = ["ArrayWriter", "with_native_byte_order"]

TYPE_CODES = {name: code for code, name in NUMPY_DTYPES.items()}
ALIGNMENT = 64
"""Each array begins at a multiple of this number of bytes, so that it can be used where it is mapped."""
HEADER_BYTES_PER_ARRAY = 320
"""Bytes reserved in the header for the entries of one array and of the padding before it; names are short."""


def with_native_byte_order(values: Any) -> np.ndarray:
    """Convert values to an array in the byte order of this machine."""
    array = np.asarray(values)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _header(fields: Mapping[str, Any], record: str, digest: str, chunks: str) -> bytes:
    text_metadata = {"format": FORMAT, "digest": digest, "chunks": chunks, "record": record}
    return format_json({"__metadata__": text_metadata, **fields}, indent=None).encode()


class _ChunkHasher:
    """Computes the SHA-256 of each chunk of a stream of bytes."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._current = hashlib.sha256()
        self._size = 0

    def update(self, data: memoryview) -> None:
        while len(data):
            part = data[: CHUNK - self._size]
            self._current.update(part)
            self._size += len(part)
            if self._size == CHUNK:
                self._end_chunk()
            data = data[len(part) :]

    def finish(self) -> np.ndarray:
        """Return the digests (n, 32) of all chunks, the last of which may be shorter."""
        if self._size:
            self._end_chunk()
        return np.frombuffer(bytes(self._digests), np.uint8).reshape(-1, 32)

    def _end_chunk(self) -> None:
        self._digests += self._current.digest()
        self._current = hashlib.sha256()
        self._size = 0


@dataclass(frozen=True)
class _OpenArray:
    name: str
    dtype: np.dtype
    start: int


class ArrayWriter:
    """Streams arrays, one after the other, to a temporary file and renames it when it is complete.

    The sizes of the arrays need not be known in advance: space for the header is reserved at the start of the
    file and filled at the end. Writers of one path do not disturb each other; the last one to finish replaces the
    file of the others. When a method raises, the unfinished file has been removed.

    Attributes:
        temporary: Path of the unfinished file.
    """

    def __init__(self, path: Path, metadata: Mapping[str, Any], max_arrays: int = 24) -> None:
        """Open a temporary file beside `path`.

        Args:
            path: Path of the complete file. Missing parent folders are created.
            metadata: Record of plain values that is stored in the header as JSON.
            max_arrays: Number of arrays to reserve header space for.

        Raises:
            OSError: When the folder cannot be written.
        """
        self._path = path
        self._record = format_json(dict(metadata), indent=None)
        self._fields: dict[str, dict[str, Any]] = {}
        self._hasher = _ChunkHasher()
        self._bytes_written = 0
        self._open: _OpenArray | None = None
        empty_header = _header({}, self._record, DIGEST_PLACEHOLDER, DIGEST_PLACEHOLDER)
        needed = 8 + len(empty_header) + HEADER_BYTES_PER_ARRAY * (max_arrays + 1)
        self._data_start = -(-needed // ALIGNMENT) * ALIGNMENT
        path.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = temporary_path(path)
        self._stream = self.temporary.open("xb")
        with self._discard_on_error():
            self._stream.write(bytes(self._data_start))

    @contextlib.contextmanager
    def _discard_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.discard()
            raise

    def add_array(self, name: str, array: np.ndarray) -> None:
        """Write a complete array.

        Raises:
            ValueError: When safetensors has no type for its values.
            OSError: When the disk is full.
        """
        array = with_native_byte_order(array)
        self.begin_array(name, array.dtype)
        self.append(array)
        self.end_array(array.shape)

    def begin_array(self, name: str, dtype: DTypeLike) -> None:
        """Begin an array, whose values follow by `append`.

        Raises:
            ValueError: When safetensors has no such type.
            OSError: When the disk is full.
        """
        with self._discard_on_error():
            if np.dtype(dtype).name not in TYPE_CODES:
                raise ValueError(f"array {name} has the type {np.dtype(dtype)}; expected numbers or booleans")
            gap = -self._bytes_written % ALIGNMENT
            if gap:
                self._add_field(f"{PADDING_PREFIX}{len(self._fields)}", np.dtype(np.uint8), (gap,), self._bytes_written)
                self._write(bytes(gap))
            self._open = _OpenArray(name, np.dtype(dtype), self._bytes_written)

    def append(self, values: np.ndarray) -> None:
        """Write the next values of the current array.

        Raises:
            ValueError: When the values are of another type than the array.
            OSError: When the disk is full.
        """
        assert self._open is not None
        with self._discard_on_error():
            if values.dtype != self._open.dtype:
                raise ValueError(f"expected {self._open.dtype} values for array {self._open.name}, got {values.dtype}")
            self._write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def _write(self, data: bytes | memoryview) -> None:
        self._hasher.update(memoryview(data))
        self._stream.write(data)
        self._bytes_written += len(data)

    def end_array(self, shape: Sequence[int]) -> None:
        """End the current array.

        Args:
            shape: Shape of the array, which the appended values fill in C order.

        Raises:
            ValueError: When the number of appended values does not match the shape.
        """
        assert self._open is not None
        current = self._open
        with self._discard_on_error():
            expected = int(np.prod(shape, dtype=np.int64)) * current.dtype.itemsize
            actual = self._bytes_written - current.start
            if actual != expected:
                raise ValueError(f"expected {expected} bytes of array {current.name}, got {actual}")
            self._add_field(current.name, current.dtype, shape, current.start)
        self._open = None

    def _add_field(self, name: str, dtype: np.dtype, shape: Sequence[int], start: int) -> None:
        end = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._fields[name] = {"dtype": TYPE_CODES[dtype.name], "shape": list(shape), "data_offsets": [start, end]}

    def commit(self) -> None:
        """Write the digests and the header, and rename the file to its final path.

        Raises:
            ValueError: When an array has not been ended, or the header does not fit the reserved space.
            OSError: When the disk is full.
        """
        with self._discard_on_error():
            if self._open is not None:
                raise ValueError(f"array {self._open.name} has not been ended")
            header = self._finish_header()
            self._stream.seek(0)
            self._stream.write(header)
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            os.replace(self.temporary, self._path)

    def _finish_header(self) -> bytes:
        """Write the digests of the chunks as the last array, and return the header, which has the digest of itself."""
        table = self._hasher.finish()
        self._stream.write(table.data)
        self._add_field(CHUNK_DIGESTS, table.dtype, table.shape, self._bytes_written)
        chunks = hashlib.sha256(table.tobytes()).hexdigest()
        reserved = self._data_start - 8
        header = _header(self._fields, self._record, DIGEST_PLACEHOLDER, chunks)
        if len(header) > reserved:
            raise ValueError(f"expected a header of at most {reserved} bytes, got {len(header)}")
        complete = struct.pack("<Q", reserved) + header.ljust(reserved)
        digest = hashlib.sha256(complete).hexdigest()
        return complete.replace(DIGEST_PLACEHOLDER.encode(), digest.encode(), 1)

    def discard(self) -> None:
        """Remove the unfinished file."""
        # Closing flushes, which fails again where the disk is full. The file is removed in any case.
        with contextlib.suppress(OSError):
            self._stream.close()
        self.temporary.unlink(missing_ok=True)
