"""Paths of the user, paths from hosts and archives, and the folder where modgap stores its files on this machine."""

import os
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from modgap.errors import UsageError

RECORDS_FOLDER = ".modgap"
"""Folder in a data directory for modgap's own files."""
LOCK_NAME = "modgap-lock.json"
"""File in a data directory with the checksums of its files."""
MAX_PART_BYTES = 255
MAX_PATH_BYTES = 1024
MAX_CHARACTERS_SHOWN = 80
DRIVE = re.compile(r"^[A-Za-z]:")


def cache_folder() -> Path:
    """Return the folder in the environment variable `MODGAP_CACHE`, or else the platform's folder for user caches."""
    if folder := os.environ.get("MODGAP_CACHE"):
        return expand_user(folder)
    import platformdirs

    return Path(platformdirs.user_cache_dir("modgap", appauthor=False))


def data_folder() -> Path:
    """Return the folder in the environment variable `MODGAP_DATA`, or else `data` in the cache folder."""
    folder = os.environ.get("MODGAP_DATA")
    return expand_user(folder) if folder else cache_folder() / "data"


def expand_user(path: str | Path) -> Path:
    """Return a path with `~` and `~name` replaced by the home folder of the user.

    Raises:
        UsageError: When there is no user of that name, or the home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{path} starts with the home folder of a user that is not known here. Pass the path itself, or ./{path} "
            "for a file whose name starts with ~."
        ) from error


def is_regular_file(path: Path) -> bool:
    """Return True if there is a file at the path; False also for names that no file can have, such as too long ones."""
    # Path.is_file raises an error for a name that is too long.
    return os.path.isfile(path)


def is_folder(path: Path) -> bool:
    """Return True if there is a folder at the path; False also for names that no folder can have."""
    # Path.is_dir raises an error for a name that is too long.
    return os.path.isdir(path)


def has_suffix(path: Path, suffixes: Collection[str]) -> bool:
    """Return True if a path ends with one of the suffixes (lower case), in upper or lower case.

    Example:
        >>> has_suffix(Path("Data.CSV.GZ"), [".csv.gz"]), has_suffix(Path("data.txt"), [".csv", ".npz"])
        (True, False)
    """
    return path.name.lower().endswith(tuple(suffixes))


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
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise ValueError("has control characters in its name")
    if "\\" in name:
        raise ValueError("has a backslash in its name")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("has a name that is not UTF-8") from None
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


def format_name(name: str) -> str:
    r"""Format a name from a host or an archive for messages: quoted, shortened, and without control characters.

    Example:
        >>> format_name("a\nb")
        "'a\\nb'"
    """
    return ascii(name if len(name) <= MAX_CHARACTERS_SHOWN else f"{name[: MAX_CHARACTERS_SHOWN - 3]}...")
