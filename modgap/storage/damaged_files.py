"""Files that may be damaged or hostile: the errors of libraries in one list, and gzip streams that stop at a limit."""

import csv
import gzip
import io
import lzma
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from modgap.errors import InputError, first_line
from modgap.storage.limits import check_unpacked_size
from modgap.storage.paths import has_suffix

DAMAGED_FILE_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError, csv.Error, lzma.LZMAError, pickle.UnpicklingError, struct.error,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Errors of libraries on damaged files.

NumPy parses headers as Python, zipfile refuses methods with a RuntimeError, and nesting that is too deep is one too.
"""


@contextmanager
def one_line_errors(problem: str) -> Iterator[None]:
    """Turn any error that a library raises for a user's file into an InputError of one line.

    Args:
        problem: First part of the message, which says what failed.

    Raises:
        InputError: When the block raises an error.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        # The class of the errors of libraries in Rust cannot be imported, and is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{problem}: {first_line(error)}") from error


def convert_read_errors(path: Path, content: str = "arrays") -> AbstractContextManager[None]:
    """Convert the errors that libraries raise for a damaged file to an InputError that names the file.

    Args:
        path: The file.
        content: What the file should contain, for the message.
    """
    return one_line_errors(f"cannot read {content} from {path}")


CHUNK = 1 << 18


class RawContent(io.RawIOBase):
    """A raw stream of the bytes that a function returns."""

    def __init__(self, read: Callable[[int], bytes], close: Callable[[], None] = lambda: None) -> None:
        """Keep the functions.

        Args:
            read: Returns the next bytes, at most as many as it is told; none at the end.
            close: Called when the stream is closed.
        """
        self._read = read
        self._close = close

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer, and return their number."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the stream."""
        self._close()
        super().close()


def open_content(path: Path) -> io.BufferedReader:
    """Open a file for reading, or the content of a gzip file.

    Reading raises an InputError when more bytes come out of a gzip file than the limits of `modgap.storage.limits`
    allow.

    Args:
        path: The file, which is a gzip file if its name ends with .gz.

    Raises:
        OSError: When the file cannot be opened.
    """
    if not has_suffix(path, (".gz",)):
        return path.open("rb")
    packed = path.stat().st_size
    source = gzip.open(path, "rb")  # noqa: SIM115 - closed with the stream

    def read(size: int) -> bytes:
        data = source.read(size)
        check_unpacked_size(path, packed, source.tell())
        return data

    return io.BufferedReader(RawContent(read, source.close), CHUNK)
