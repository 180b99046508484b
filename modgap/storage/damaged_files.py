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
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from modgap.errors import InputError, first_line
from modgap.storage.limits import check_unpacked_size
from modgap.storage.paths import has_suffix

DAMAGED_FILE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    csv.Error,
    lzma.LZMAError,
    pickle.UnpicklingError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors of libraries on damaged files.

NumPy parses headers as Python, zipfile refuses methods with a RuntimeError, and nesting that is too deep is one too.
"""


def is_panic(error: BaseException) -> bool:
    """Return True for the errors of libraries in Rust, whose class cannot be imported and is no Exception."""
    return type(error).__name__ == "PanicException"


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
        if not isinstance(error, Exception) and not is_panic(error):
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


def open_content(path: Path) -> io.BufferedReader:
    """Open a file for reading, or the content of a gzip file.

    Reading raises an InputError when more bytes come out of a gzip file than the limits of `modgap.storage.limits`
    allow.

    Args:
        path: The file, which is a gzip file if its name ends with .gz.

    Raises:
        OSError: When the file cannot be opened.
    """
    return io.BufferedReader(_BoundedGzip(path), CHUNK) if has_suffix(path, (".gz",)) else path.open("rb")
