"""Gzip files as streams that stop at the limit of unpacked bytes."""

import gzip
import io
from pathlib import Path
from typing import Any

from modgap.limits import check_unpacked_size

__all__ = ["open_gzip"]

CHUNK = 1 << 18


class _BoundedGzip(io.RawIOBase):
    """The content of a gzip file, which raises an InputError when more bytes come out than the limits allow."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packed = path.stat().st_size
        self._stream = gzip.open(path, "rb")  # noqa: SIM115 - closed by close()
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._unpacked += len(data)
        check_unpacked_size(self._path, self._packed, self._unpacked)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def open_gzip(path: Path) -> io.BufferedReader:
    """Open the content of a gzip file for reading.

    Reading raises an InputError when more bytes come out than the limits of `modgap.limits` allow.

    Args:
        path: The gzip file.

    Raises:
        OSError: When the file cannot be opened.
    """
    return io.BufferedReader(_BoundedGzip(path), CHUNK)
