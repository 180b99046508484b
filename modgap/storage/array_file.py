"""Files of arrays in which every byte has a digest: streamed to the disk, memory-mapped, and compared when first used.

A file is a safetensors file. Its header has the SHA-256 of the header itself (computed with zeros in its own position)
and that of the last array, which has the SHA-256 of each chunk of all other bytes. The header is compared before it is
parsed, the digests of the chunks when the file is opened, and each chunk when it is first used.

A process does not compare a chunk twice while the file keeps its inode, size and times. Damage that occurs on the disk
after the first use, without a change of these, is therefore detected by the next process only.
"""

import contextlib
import functools
import hashlib
import os
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from modgap.storage.array_formats import (
    FILES_REMEMBERED,
    LENGTH,
    MIN_AGE_TO_REMEMBER,
    NUMPY_DTYPES,
    StoredArray,
    stored_arrays,
)
from modgap.storage.atomic_files import temporary_path
from modgap.storage.json_records import format_json, parse_json
from modgap.storage.memory_map import release_pages

FORMAT = "2"
CHUNK = 1 << 18
"""Bytes that have one digest. A sample is compared with its chunk, and digests add one byte to 8,192."""
CHUNK_DIGESTS = "chunk_digests"
"""Name of the array that has the digests of the chunks."""
DIGEST_PLACEHOLDER = "0" * 64
"""Text in the place of the header's digest while this is computed."""
PADDING_PREFIX = "padding."
"""Prefix of the names of the arrays of zeros that fill the gaps between others."""
MAX_HEADER_BYTES = 100_000_000
"""Largest header that the safetensors format allows."""
DIGEST = re.compile(rb'"digest": "([0-9a-f]{64})"')
MIN_CHUNKS_FOR_THREADS = 64
"""Number of chunks from which they are compared by several threads."""
MAX_THREADS = 4
PARTS_PER_THREAD = 8
"""Parts into which the chunks are divided for each thread, so that all threads end at about the same time."""
CHUNKS_IN_MEMORY = 64
"""Chunks that are compared before their mapped pages are released."""
DAMAGE = (KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError, struct.error)
"""Errors beside ValueError that a header of another structure causes."""

Identity = tuple[int, ...]
"""Numbers that change when a file is replaced or written; see `_identity`."""


# Reading


@functools.lru_cache(maxsize=FILES_REMEMBERED)
def _remembered_flags(_identity: Identity, n_chunks: int) -> np.ndarray:
    """Return the flags of a file's compared chunks, which are one array for all readers of the file in this process."""
    return np.zeros(n_chunks, bool)


@dataclass(frozen=True)
class ArrayFile:
    """A file of `ArrayWriter`, as its header describes it. It can be sent to another process.

    Attributes:
        path: The file.
        data_start: Number of bytes before the first array.
        arrays: Type, shape and position of each array, by name.
        chunk_digests: SHA-256 of each chunk, shape (n, 32), unsigned bytes.
        size: Number of bytes of all chunks together.
        identity: Device, inode, size in bytes and modification time in nanoseconds of the file when its header was
            read.
        metadata: The record that the writer was given.
    """

    path: Path
    data_start: int
    arrays: dict[str, StoredArray]
    chunk_digests: np.ndarray
    size: int
    identity: Identity
    metadata: dict[str, Any]

    def __getstate__(self) -> dict[str, object]:
        """Return the fields, without what this process has mapped and compared."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    @functools.cached_property
    def _compared(self) -> np.ndarray:
        """Flag of each chunk, True if this process has compared it with its digest; shape (n,)."""
        status = self.path.stat()
        n_chunks = len(self.chunk_digests)
        if time.time() - status.st_mtime < MIN_AGE_TO_REMEMBER:
            return np.zeros(n_chunks, bool)
        return _remembered_flags((*self.identity, status.st_ctime_ns, hash(self.chunk_digests.tobytes())), n_chunks)

    @functools.cached_property
    def _data(self) -> np.ndarray:
        """Bytes of all chunks, memory-mapped.

        In the process that read the header, `_parse` has set this value, so the data is that of the same file even if
        the path has another one by now. Other processes open the path again.
        """
        with self.path.open("rb") as stream:
            if _identity(stream) != self.identity:
                raise ValueError("it was replaced or changed while it was read")
            return _map(stream, self.data_start, self.size)

    def map_array(self, name: str) -> np.ndarray:
        """Return one array, read-only and memory-mapped, after comparing all of it with its digests.

        Raises:
            ValueError: When the array is damaged.
            OSError: When the file cannot be read.
        """
        stored = self.arrays[name]
        self._compare(stored.start, stored.end)
        return self._view(name)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return a copy of some rows of an array, after comparing their chunks with the digests.

        Args:
            name: Name of the array.
            start: Number of the first row.
            stop: Number of the row after the last one, at most the number of rows.

        Raises:
            ValueError: When the rows are damaged.
            OSError: When the file cannot be read.
        """
        stored = self.arrays[name]
        row_bytes = (stored.end - stored.start) // max(stored.shape[0], 1)
        self._compare(stored.start + start * row_bytes, stored.start + stop * row_bytes)
        return np.array(self._view(name)[start:stop])

    def verify(self) -> None:
        """Compare all bytes with their digests.

        Raises:
            ValueError: When the file is damaged.
            OSError: When the file cannot be read.
        """
        self._compare(0, self.size)

    def _view(self, name: str) -> np.ndarray:
        stored = self.arrays[name]
        dtype = np.dtype(NUMPY_DTYPES[stored.dtype])
        if 0 in stored.shape:
            return np.empty(stored.shape, dtype)
        return self._data[stored.start : stored.end].view(dtype).reshape(stored.shape)

    def _compare(self, start: int, end: int) -> None:
        """Compare the chunks of a range of bytes, except those that this process has compared before.

        Args:
            start: First byte, counted from the end of the header.
            end: Byte after the last one.
        """
        first = start // CHUNK
        chunks = first + np.flatnonzero(~self._compared[first : -(-end // CHUNK)])
        if not len(chunks):
            return
        if len(chunks) < MIN_CHUNKS_FOR_THREADS:
            self._compare_chunks(chunks)
            return
        threads = min(MAX_THREADS, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._compare_chunks, np.array_split(chunks, PARTS_PER_THREAD * threads)))

    def _compare_chunks(self, chunks: np.ndarray) -> None:
        for count, number in enumerate(map(int, chunks), 1):
            data = self._data[number * CHUNK : (number + 1) * CHUNK]
            if hashlib.sha256(data.data).digest() != self.chunk_digests[number].tobytes():
                position = self.data_start + number * CHUNK
                raise ValueError(f"its bytes from {position:,} on do not fit their checksum")
            self._compared[number] = True
            if count % CHUNKS_IN_MEMORY == 0:
                release_pages(self._data)


def _map(stream: IO[bytes], start: int, size: int) -> np.ndarray:
    """Return `size` bytes of a file from byte `start` on, memory-mapped; an empty file cannot be mapped."""
    if size == 0:
        return np.empty(0, np.uint8)
    content: np.ndarray = np.memmap(stream, np.uint8, "r", start, (size,))
    return content.view(np.ndarray)


def _identity(stream: IO[bytes]) -> Identity:
    """Return device, inode, size in bytes and modification time in nanoseconds of an open file."""
    status = os.fstat(stream.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read_array_file(path: Path) -> ArrayFile:
    """Read the header of a file that `ArrayWriter` wrote, after comparing it with its digest.

    Raises:
        ValueError: When the header is damaged, or the file is truncated, too long, or of another format.
        OSError: When the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return _parse(path, stream)
    except DAMAGE as error:
        raise ValueError(f"its header is not of this format ({type(error).__name__}: {error})") from error


def _parse(path: Path, stream: IO[bytes]) -> ArrayFile:
    identity = _identity(stream)
    prefix = stream.read(LENGTH.size)
    (length,) = LENGTH.unpack(prefix)
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header claims {length:,} bytes")
    header = prefix + stream.read(length)
    digest = DIGEST.search(header)
    if digest is None:
        raise ValueError("its header has no digest")
    # The header is parsed only after it was compared with its digest.
    blank = header[: digest.start(1)] + DIGEST_PLACEHOLDER.encode() + header[digest.end(1) :]
    if hashlib.sha256(blank).hexdigest().encode() != digest[1]:
        raise ValueError("its header does not fit its checksum, or another version of modgap wrote it")
    fields = parse_json(header[LENGTH.size :])
    metadata = fields.pop("__metadata__")
    arrays = stored_arrays({name: field for name, field in fields.items() if not name.startswith(PADDING_PREFIX)})
    table = arrays.pop(CHUNK_DIGESTS)
    stream.seek(len(header) + table.start)
    digests = stream.read()
    if len(digests) != table.end - table.start:
        raise ValueError("it is truncated, or has bytes after its end")
    if hashlib.sha256(digests).hexdigest() != metadata["chunks"]:
        raise ValueError("its digests do not fit their own checksum")
    chunk_digests = np.frombuffer(digests, np.uint8).reshape(table.shape)
    file = ArrayFile(path, len(header), arrays, chunk_digests, table.start, identity, parse_json(metadata["record"]))
    # The cached property is set here, while the file that has this header is open.
    file.__dict__["_data"] = _map(stream, len(header), table.start)
    return file


# Writing

TYPE_CODES = {name: code for code, name in NUMPY_DTYPES.items()}
ALIGNMENT = 64
"""Each array begins at a multiple of this number of bytes, so that it can be used where it is mapped."""
HEADER_BYTES_PER_ARRAY = 320
"""Bytes reserved in the header for the fields of one array and of the padding before it, if names are short."""


def with_native_byte_order(values: ArrayLike) -> np.ndarray:
    """Convert values to an array in the byte order of this machine."""
    array = np.asarray(values)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _header(fields: Mapping[str, object], record: str, digest: str, chunks: str) -> bytes:
    """Return the header of a safetensors file, without its length.

    Args:
        fields: Type, shape and position of each array, by name.
        record: JSON text of the record.
        digest: SHA-256 of the header itself, or its placeholder.
        chunks: SHA-256 of the digests of the chunks.
    """
    text_metadata = {"format": FORMAT, "digest": digest, "chunks": chunks, "record": record}
    return format_json({"__metadata__": text_metadata, **fields}, indent=None).encode()


class ArrayWriter:
    """Streams arrays, one after the other, to a temporary file and renames it when it is complete.

    The sizes of the arrays need not be known in advance: space for the header is reserved at the start of the
    file and filled at the end. Writers of one path do not disturb each other; the last one to finish replaces the
    file of the others. When a method raises, the unfinished file has been removed.

    Attributes:
        temporary: Path of the unfinished file.
    """

    def __init__(self, path: Path, metadata: Mapping[str, object], max_arrays: int = 24) -> None:
        """Open a temporary file beside `path`.

        Args:
            path: Path of the complete file. Missing parent folders are created.
            metadata: Record of plain values that is stored in the header as JSON.
            max_arrays: Largest number of arrays, for which space in the header is reserved.

        Raises:
            OSError: When the folder cannot be written.
        """
        self._path = path
        self._record = format_json(dict(metadata), indent=None)
        self._fields: dict[str, dict[str, object]] = {}
        self._digests = bytearray()
        self._chunk = hashlib.sha256()
        self._bytes_written = 0
        # Name, type and first byte of the array that was begun.
        self._open: tuple[str, np.dtype, int] | None = None
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
            if gap := -self._bytes_written % ALIGNMENT:
                self._add_field(f"{PADDING_PREFIX}{len(self._fields)}", np.dtype(np.uint8), (gap,), self._bytes_written)
                self._write(bytes(gap))
            self._open = name, np.dtype(dtype), self._bytes_written

    def append(self, values: np.ndarray) -> None:
        """Write the next values of the current array.

        Raises:
            ValueError: When the values are of another type than the array.
            OSError: When the disk is full.
        """
        assert self._open is not None
        name, dtype, _ = self._open
        with self._discard_on_error():
            if values.dtype != dtype:
                raise ValueError(f"expected {dtype} values for array {name}, got {values.dtype}")
            self._write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def _write(self, data: bytes | memoryview) -> None:
        """Write bytes, and compute the SHA-256 of each chunk that they complete."""
        self._stream.write(data)
        rest = memoryview(data)
        while len(rest):
            part = rest[: CHUNK - self._bytes_written % CHUNK]
            self._chunk.update(part)
            self._bytes_written += len(part)
            if self._bytes_written % CHUNK == 0:
                self._end_chunk()
            rest = rest[len(part) :]

    def _end_chunk(self) -> None:
        self._digests += self._chunk.digest()
        self._chunk = hashlib.sha256()

    def end_array(self, shape: Sequence[int]) -> None:
        """End the current array.

        Args:
            shape: Shape of the array, which the appended values fill in C order.

        Raises:
            ValueError: When the number of appended values does not match the shape.
        """
        assert self._open is not None
        name, dtype, start = self._open
        with self._discard_on_error():
            expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            actual = self._bytes_written - start
            if actual != expected:
                raise ValueError(f"expected {expected} bytes of array {name}, got {actual}")
            self._add_field(name, dtype, shape, start)
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
                raise ValueError(f"array {self._open[0]} has not been ended")
            # The digests of the chunks are the last array, and the header has the digest of itself.
            if self._bytes_written % CHUNK:
                self._end_chunk()
            table = np.frombuffer(bytes(self._digests), np.uint8).reshape(-1, 32)
            self._stream.write(table.data)
            self._add_field(CHUNK_DIGESTS, table.dtype, table.shape, self._bytes_written)
            chunks = hashlib.sha256(table.tobytes()).hexdigest()
            reserved = self._data_start - 8
            header = _header(self._fields, self._record, DIGEST_PLACEHOLDER, chunks)
            if len(header) > reserved:
                raise ValueError(f"expected a header of at most {reserved} bytes, got {len(header)}")
            complete = LENGTH.pack(reserved) + header.ljust(reserved)
            digest = hashlib.sha256(complete).hexdigest()
            self._stream.seek(0)
            self._stream.write(complete.replace(DIGEST_PLACEHOLDER.encode(), digest.encode(), 1))
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            os.replace(self.temporary, self._path)

    def discard(self) -> None:
        """Remove the unfinished file."""
        # Closing flushes, which fails again where the disk is full. The file is removed in any case.
        with contextlib.suppress(OSError):
            self._stream.close()
        self.temporary.unlink(missing_ok=True)
