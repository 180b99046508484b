"""Content-addressed arrays on disk: safetensors files, written whole or not at all, verified on read."""

import errno
import hashlib
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap.errors import InputError
from modgap.paths import cache_folder

__all__ = [
    "CorruptEntry",
    "Entry",
    "EntryWriter",
    "cache_folder",
    "entries",
    "entry_path",
    "key_of",
    "prune",
    "read_entry",
    "unfinished",
]

NO_DIGEST = "0" * 64
DTYPES = {"float32": "F32", "int64": "I64"}
SUFFIX = ".safetensors"


class CorruptEntry(Exception):  # noqa: N818 - a state of the cache, not a mistake of the caller
    """A cache entry whose content is not what was written."""


@dataclass(frozen=True)
class Entry:
    """What a cache entry holds."""

    arrays: dict[str, np.ndarray]
    metadata: dict


def key_of(record: Mapping) -> str:
    """SHA-256 of a record's canonical JSON."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()


def entry_path(kind: str, key: str) -> Path:
    """Where the entry of a kind and key lies, whether it is there or not."""
    return cache_folder() / kind / key[:2] / f"{key}{SUFFIX}"


def entries() -> Iterator[Path]:
    """All entries in the cache."""
    folder = cache_folder()
    yield from sorted(folder.glob(f"*/??/*{SUFFIX}"))


def _header(layout: Mapping[str, tuple[np.dtype, tuple[int, ...]]], metadata: Mapping, digest: str) -> bytes:
    """A safetensors header; its length does not depend on the digest."""
    fields: dict = {"__metadata__": {"digest": digest, "record": json.dumps(metadata, allow_nan=False)}}
    offset = 0
    for name, (dtype, shape) in layout.items():
        end = offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        fields[name] = {"dtype": DTYPES[dtype.name], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(fields).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


class EntryWriter:
    """Streams one entry to a file that no one else writes, and renames it when it is complete.

    Small arrays are known from the start; the rows of one large array follow as they are made. Writers
    of one key cannot disturb each other: the last to finish replaces the others' equal file.
    """

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray], rows_name: str, rows_shape, metadata: Mapping):
        """Open a temporary file beside `path` and write what is known.

        Raises:
            OSError: When the folder cannot be written or lacks the space.
        """
        self._path, self._metadata = path, metadata
        self._layout = {name: (array.dtype, array.shape) for name, array in arrays.items()}
        self._layout[rows_name] = (np.dtype(np.float32), tuple(rows_shape))
        self._digest = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        needed = sum(int(np.prod(s, dtype=np.int64)) * d.itemsize for d, s in self._layout.values())
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}, {needed / 1e6:.0f} MB needed", str(path.parent))
        handle, self._temporary = tempfile.mkstemp(prefix=f".{path.stem[:16]}-", suffix=".part", dir=path.parent)
        self._stream = os.fdopen(handle, "wb")
        self._guarded(self._stream.write, _header(self._layout, metadata, NO_DIGEST))
        for array in arrays.values():
            self.append(array)

    def _guarded(self, action, *args) -> None:
        try:
            action(*args)
        except BaseException:
            self.discard()
            raise

    def append(self, rows: np.ndarray) -> None:
        """Write the next rows.

        Raises:
            OSError: When the disk is full; the unfinished file is gone by then.
        """
        data = np.ascontiguousarray(rows).data.cast("B") if rows.size else b""
        self._digest.update(data)
        self._guarded(self._stream.write, data)

    def commit(self) -> None:
        """Seal the entry with its checksum and move it into place."""
        self._guarded(self._seal)

    def _seal(self) -> None:
        self._stream.seek(0)
        self._stream.write(_header(self._layout, self._metadata, self._digest.hexdigest()))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        os.replace(self._temporary, self._path)

    def discard(self) -> None:
        """Drop the unfinished file."""
        try:
            self._stream.close()
        except OSError:
            # Closing flushes, which fails again where the disk is full; the file goes anyway.
            self._stream = open(os.devnull, "wb")  # noqa: SIM115
        Path(self._temporary).unlink(missing_ok=True)


def read_entry(path: Path) -> Entry | None:
    """Read an entry and check its content; None when there is none.

    Large arrays are mapped, not loaded.

    Raises:
        CorruptEntry: When the file is damaged or truncated.
        InputError: When it cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            fields, start = _read_header(stream.read(8), stream, path.stat().st_size)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        sealed = fields["__metadata__"]
        if digest != sealed["digest"]:
            raise CorruptEntry(f"its checksum is {digest[:12]}..., {sealed['digest'][:12]}... was written")
        return Entry(_mapped(path, fields, start), json.loads(sealed["record"]))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise CorruptEntry(f"its header is not readable ({error})") from error
    except OSError as error:
        raise InputError(f"cannot read cache entry {path}: {error.strerror}") from error


def _read_header(prefix: bytes, stream, size: int) -> tuple[dict, int]:
    (length,) = struct.unpack("<Q", prefix)
    if length > size:
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    return json.loads(stream.read(length)), 8 + length


def _mapped(path: Path, fields: Mapping, start: int) -> dict[str, np.ndarray]:
    dtypes = {code: np.dtype(name) for name, code in DTYPES.items()}
    arrays: dict[str, np.ndarray] = {}
    for name, field in fields.items():
        if name != "__metadata__":
            shape, offset = tuple(field["shape"]), start + field["data_offsets"][0]
            arrays[name] = np.memmap(path, dtypes[field["dtype"]], "r", offset, shape)
    return arrays


def unfinished() -> Iterator[Path]:
    """Files that a run left when it was killed, or that one is writing now."""
    yield from sorted(cache_folder().glob("*/??/.*.part"))


def prune(paths: Iterable[Path]) -> int:
    """Delete entries; returns the bytes freed."""
    freed = 0
    for path in paths:
        freed += path.stat().st_size
        path.unlink()
    return freed
