"""Paths of the user, and the folder where modgap stores its files on this machine."""

import os
from collections.abc import Collection
from pathlib import Path

from modgap.errors import UsageError

__all__ = [
    "SHARED_CACHE",
    "cache_folder",
    "data_folder",
    "expand_user",
    "has_suffix",
    "is_folder",
    "is_regular_file",
    "shared_path",
]

SHARED_CACHE = "MODGAP_SHARED_CACHE"
"""Environment variable with a cache that is only read; a command sets it for its worker processes."""


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


def shared_path(path: Path) -> Path:
    """Return the path of a file of the cache in the shared cache that is only read; the same path if there is none."""
    shared = os.environ.get(SHARED_CACHE)
    return Path(shared) / path.relative_to(cache_folder()) if shared else path


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
