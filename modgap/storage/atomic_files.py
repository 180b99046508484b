"""Files that appear complete or not at all, and one message for those that cannot be written."""

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from modgap.errors import InputError

TEMPORARY_SUFFIX = ".part"
NAME_LENGTH = 40
"""Characters of the final name that the temporary name repeats, so that it stays below the file system's limit."""


def temporary_path(path: Path) -> Path:
    """Return a hidden path beside `path` whose name no other process or thread chooses; nothing is created."""
    token = f"{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name[:NAME_LENGTH]}-{token}{TEMPORARY_SUFFIX}")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename the file written there to `path` when the block ends without an error.

    The file gets the permissions that the umask allows, whatever those of the block's file are. Missing parent folders
    of `path` are created. When the block raises, the temporary file is removed, and a previous file at `path` stays as
    it was.

    Args:
        path: The final path.

    Raises:
        OSError: When the folder cannot be created, or the file cannot be renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        # Some libraries create files that only their owner may read, which would make a shared cache useless.
        temporary.touch()
        mode = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        if temporary.stat().st_mode != mode:
            temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    r"""Write a text file in UTF-8, complete or not at all.

    Bytes of names that are no text, which Python holds as lone surrogates, are written as escapes such as `\udcff`.

    Raises:
        OSError: When the folder cannot be written, or the disk is full.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


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
