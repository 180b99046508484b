"""The output folder of a command: created, writable, and written to by one process at a time."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from modgap.errors import InputError
from modgap.storage.locks import exclusive_folder
from modgap.storage.paths import expand_user

__all__ = ["create_output_folder", "output_folder"]


def create_output_folder(path: str) -> Path:
    """Create a folder for results and check that it is writable, before anything is computed.

    Args:
        path: Path of the folder; `~` is expanded.

    Raises:
        InputError: If the folder cannot be created or written to.
    """
    folder = expand_user(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise InputError(
            f"Cannot write to the output folder {folder}: {error.strerror}. Choose a writable folder."
        ) from error


@contextlib.contextmanager
def output_folder(path: str | None) -> Iterator[Path | None]:
    """Create the folder of `--out`, and refuse other processes that write to it within a block.

    Args:
        path: Path of the folder; `~` is expanded. None for no folder, which is yielded.

    Raises:
        InputError: If the folder cannot be created or written to, or if another process writes to it.
    """
    if path is None:
        yield None
        return
    folder = create_output_folder(path)
    with exclusive_folder(folder):
        yield folder
