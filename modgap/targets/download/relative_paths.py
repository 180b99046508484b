"""Relative paths as manifests and archives name them, refused where they could leave their folder."""

import re
from pathlib import PurePosixPath

__all__ = ["LOCK_NAME", "OWN_FOLDER", "checked_path", "shown"]

OWN_FOLDER = ".modgap"
LOCK_NAME = "modgap-lock.json"
LONGEST_PART, LONGEST_PATH = 255, 1024
SHOWN = 80
DRIVE = re.compile(r"^[A-Za-z]:")


def checked_path(name: str, most_parts: int = 32) -> PurePosixPath:
    """A path that stays within the folder it is put into.

    Args:
        name: As it was given, with slashes.
        most_parts: So many folders deep at most.

    Raises:
        ValueError: With the reason, to be put after the name.

    Example:
        >>> checked_path("./audio/a.wav")
        PurePosixPath('audio/a.wav')
        >>> checked_path("audio/../../a.wav")
        Traceback (most recent call last):
            ...
        ValueError: leads out of its folder
    """
    _refuse_characters(name)
    if name.startswith("/") or DRIVE.match(name):
        raise ValueError("is an absolute path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("leads out of its folder")
    if len(parts) > most_parts:
        raise ValueError(f"lies {len(parts)} folders deep, more than {most_parts}")
    sizes = [len(part.encode()) for part in parts]
    if max(sizes, default=0) > LONGEST_PART or sum(sizes) + len(sizes) > LONGEST_PATH:
        raise ValueError(f"has a name longer than {LONGEST_PART} bytes, or {LONGEST_PATH} in all")
    if any(part.casefold() in (OWN_FOLDER, LOCK_NAME) for part in parts):
        raise ValueError("has a name that modgap keeps for itself")
    return PurePosixPath(*parts)


def _refuse_characters(name: str) -> None:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise ValueError("has control characters in its name")
    if "\\" in name:
        raise ValueError("has a backslash in its name")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("has a name that is not UTF-8") from None


def shown(name: str) -> str:
    """A name that a host or an archive gave, short and without control characters, for messages.

    Example:
        >>> shown("a\\nb")
        "'a\\\\nb'"
    """
    return ascii(name if len(name) <= SHOWN else f"{name[: SHOWN - 3]}...")
