"""Files of results, and one message for those that cannot be written."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from modgap.errors import InputError
from modgap.storage.atomic_files import write_text_atomically

__all__ = ["write_texts", "writing"]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the failure of writing a file or folder in the block into a message.

    Args:
        path: The file or folder.

    Raises:
        InputError: When the block raises an OSError, such as that of a full disk.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose another folder."
        ) from error


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write text files to an existing folder, each complete or not at all.

    Args:
        folder: The folder.
        texts: Texts by file name.

    Returns:
        Paths of the files.

    Raises:
        OSError: When the folder cannot be written, or the disk is full.
    """
    for name, text in texts.items():
        write_text_atomically(folder / name, text)
    return [folder / name for name in texts]
