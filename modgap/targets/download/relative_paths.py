"""Relative paths in manifests and archives; paths that could leave their folder are refused."""

import re
from pathlib import PurePosixPath

__all__ = ["LOCK_NAME", "RECORDS_FOLDER", "format_name", "parse_relative_path"]

RECORDS_FOLDER = ".modgap"
"""Folder in a data directory for modgap's own files."""
LOCK_NAME = "modgap-lock.json"
"""File in a data directory with the checksums of its files."""
MAX_PART_BYTES = 255
MAX_PATH_BYTES = 1024
MAX_CHARACTERS_SHOWN = 80
DRIVE = re.compile(r"^[A-Za-z]:")


def parse_relative_path(name: str, max_depth: int = 32) -> PurePosixPath:
    """Parse a path and check that it stays within the folder that it is relative to.

    Args:
        name: The path, with slashes.
        max_depth: The largest number of parts.

    Raises:
        ValueError: When the path is refused. The message follows the name in a sentence.

    Example:
        >>> parse_relative_path("./audio/a.wav")
        PurePosixPath('audio/a.wav')
        >>> parse_relative_path("audio/../../a.wav")
        Traceback (most recent call last):
            ...
        ValueError: leads out of its folder
    """
    _check_characters(name)
    if name.startswith("/") or DRIVE.match(name):
        raise ValueError("is an absolute path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("leads out of its folder")
    if len(parts) > max_depth:
        raise ValueError(f"lies {len(parts)} folders deep, more than {max_depth}")
    sizes = [len(part.encode()) for part in parts]
    if max(sizes, default=0) > MAX_PART_BYTES or sum(sizes) + len(sizes) > MAX_PATH_BYTES:
        raise ValueError(f"has a name longer than {MAX_PART_BYTES} bytes, or {MAX_PATH_BYTES} in all")
    if any(part.casefold() in (RECORDS_FOLDER, LOCK_NAME) for part in parts):
        raise ValueError("has a name that is reserved for modgap")
    return PurePosixPath(*parts)


def _check_characters(name: str) -> None:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise ValueError("has control characters in its name")
    if "\\" in name:
        raise ValueError("has a backslash in its name")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("has a name that is not UTF-8") from None


def format_name(name: str) -> str:
    r"""Format a name from a host or an archive for messages: quoted, shortened, and without control characters.

    Example:
        >>> format_name("a\nb")
        "'a\\nb'"
    """
    return ascii(name if len(name) <= MAX_CHARACTERS_SHOWN else f"{name[: MAX_CHARACTERS_SHOWN - 3]}...")
