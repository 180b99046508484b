"""SHA-256 of files and folders."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from modgap.errors import InputError

__all__ = ["file_digest", "folder_digest"]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        InputError: When it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def folder_digest(folder: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the names, relative to the folder, and contents of its files."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(folder).as_posix()}\0{file_digest(path)}\n".encode())
    return total.hexdigest()
