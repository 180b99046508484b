"""Errors that libraries raise while they read a damaged file, in one list for all readers."""

import csv
import lzma
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modgap.errors import InputError, first_line

__all__ = ["DAMAGED_FILE_ERRORS", "convert_read_errors", "is_panic"]

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
def convert_read_errors(path: Path, content: str = "arrays") -> Iterator[None]:
    """Convert the errors that libraries raise for a damaged file to an InputError that names the file.

    Args:
        path: The file.
        content: What the file should contain, for the message.

    Raises:
        InputError: When the block raises such an error.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, DAMAGED_FILE_ERRORS) and not is_panic(error):
            raise
        raise InputError(f"cannot read {content} from {path}: {first_line(error)}") from error
