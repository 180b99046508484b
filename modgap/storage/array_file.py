"""Files of arrays in which every byte has a digest: memory-mapped, and compared with the digests when first used.

A file is a safetensors file. Its header has the SHA-256 of the header itself (computed with zeros in its own position)
and that of the last array, which has the SHA-256 of each chunk of all other bytes. The header is compared before it is
parsed, the digests of the chunks when the file is opened, and each chunk when it is first used.

A process does not compare a chunk twice while the file keeps its inode, size and times. Damage that occurs on the disk
after the first use, without a change of these, is therefore detected by the next process only.
"""

import functools
import hashlib
import os
import re
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from modgap.storage.json_records import parse_json
from modgap.storage.memory_map import release_pages
from modgap.storage.safetensors_header import NUMPY_DTYPES, StoredArray

__all__ = ["CHUNK", "CHUNK_DIGESTS", "DIGEST_PLACEHOLDER", "FORMAT", "PADDING_PREFIX", "ArrayFile", "read_array_file"]

FORMAT = "2"
CHUNK = 1 << 18
"""Bytes that have one digest. A sample is compared with its chunk, and digests add one byte to 8,192."""
CHUNK_DIGESTS = "chunk_digests"
"""Name of the array that has the digests of the chunks."""
DIGEST_PLACEHOLDER = "0" * 64
PADDING_PREFIX = "padding."
MAX_HEADER_BYTES = 100_000_000
"""Largest header that the safetensors format allows."""
LENGTH = struct.Struct("<Q")
DIGEST = re.compile(rb'"digest": "([0-9a-f]{64})"')
MIN_CHUNKS_FOR_THREADS = 64
MAX_THREADS = 4
PARTS_PER_THREAD = 8
CHUNKS_IN_MEMORY = 64
"""Chunks that are compared before their mapped pages are released."""
FILES_REMEMBERED = 64
MIN_AGE_TO_REMEMBER = 2.0
"""Seconds since a file's last change after which its time stamp can be trusted to differ at the next change."""
DAMAGE = (KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError, struct.error)
"""Errors beside ValueError that a header of another structure causes."""

Identity = tuple[int, ...]


@functools.lru_cache(maxsize=FILES_REMEMBERED)
def _remembered_flags(_identity: Identity, n_chunks: int) -> np.ndarray:
    return np.zeros(n_chunks, bool)


@dataclass(frozen=True)
class ArrayFile:
    """A file of `ArrayWriter`, as its header describes it. It can be sent to another process.

    Attributes:
        path: The file.
        data_start: Bytes before the first array.
        arrays: Type, shape and position of each array, by name.
        chunk_digests: SHA-256 of each chunk, shape (n, 32).
        size: Bytes of all chunks.
        identity: Device, inode, size and time of change in nanoseconds of the file when its header was read.
        metadata: The record that the writer was given.
    """

    path: Path
    data_start: int
    arrays: dict[str, StoredArray]
    chunk_digests: np.ndarray
    size: int
    identity: Identity
    metadata: dict[str, Any]

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields, without what this process has mapped and compared."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the fields."""
        self.__dict__.update(state)

    @functools.cached_property
    def _compared(self) -> np.ndarray:
        """True for each chunk that this process has compared with its digest."""
        status = self.path.stat()
        n_chunks = len(self.chunk_digests)
        if time.time() - status.st_mtime < MIN_AGE_TO_REMEMBER:
            return np.zeros(n_chunks, bool)
        return _remembered_flags((*self.identity, status.st_ctime_ns, hash(self.chunk_digests.tobytes())), n_chunks)

    @functools.cached_property
    def _data(self) -> np.ndarray:
        """All chunks, mapped. In the process that read the header, this is the same file even if it was replaced."""
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
            start: First row.
            stop: Row after the last one.

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
        """Compare the chunks of a range of bytes, as far as this process has not done so."""
        first = start // CHUNK
        flags = self._compared[first : -(-end // CHUNK)]
        chunks = first + np.flatnonzero(~flags)
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
    if size == 0:
        return np.empty(0, np.uint8)
    content: np.ndarray = np.memmap(stream, np.uint8, "r", start, (size,))
    return content.view(np.ndarray)


def _identity(stream: IO[bytes]) -> Identity:
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
    header = _read_header(stream)
    fields = parse_json(header[LENGTH.size :])
    metadata = fields.pop("__metadata__")
    arrays = {
        name: StoredArray(field["dtype"], tuple(field["shape"]), *field["data_offsets"])
        for name, field in fields.items()
        if not name.startswith(PADDING_PREFIX)
    }
    table = arrays.pop(CHUNK_DIGESTS)
    stream.seek(len(header) + table.start)
    digests = stream.read()
    if len(digests) != table.end - table.start:
        raise ValueError("it is truncated, or has bytes after its end")
    if hashlib.sha256(digests).hexdigest() != metadata["chunks"]:
        raise ValueError("its digests do not fit their own checksum")
    chunk_digests = np.frombuffer(digests, np.uint8).reshape(table.shape)
    file = ArrayFile(path, len(header), arrays, chunk_digests, table.start, identity, parse_json(metadata["record"]))
    file.__dict__["_data"] = _map(stream, len(header), table.start)
    return file


def _read_header(stream: IO[bytes]) -> bytes:
    """Return the header with its length, compared with its digest."""
    prefix = stream.read(LENGTH.size)
    (length,) = LENGTH.unpack(prefix)
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header claims {length:,} bytes")
    header = prefix + stream.read(length)
    digest = DIGEST.search(header)
    if digest is None:
        raise ValueError("its header has no digest")
    blank = header[: digest.start(1)] + DIGEST_PLACEHOLDER.encode() + header[digest.end(1) :]
    if hashlib.sha256(blank).hexdigest().encode() != digest[1]:
        raise ValueError("its header does not fit its checksum, or another version of modgap wrote it")
    return header
