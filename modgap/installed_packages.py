"""Installed Python packages, looked up without importing them and without looking into the current folder.

A manifest may name a package, and a package may register a source. Neither may come from the current folder, which can
be an unpacked download: with `python -m`, in a notebook and in an interactive session Python searches it first.
"""

import functools
import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

__all__ = ["PACKAGE_NAME", "entry_points", "find_package_folder", "installed_library_version", "is_shadowed"]

PACKAGE_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
"""Pattern of the import name of a top-level package. A name with a dot would import the packages before the dot."""


def _search_path() -> list[str]:
    """Return the folders in which Python searches for packages, without the current folder."""
    return [entry for entry in sys.path if not _is_current_folder(entry)]


def _is_current_folder(entry: str) -> bool:
    # A relative entry names another folder after each change of the current folder.
    return not os.path.isabs(entry) or os.path.realpath(entry) == os.path.realpath(os.curdir)


def find_package_folder(name: str) -> Path | None:
    """Return the folder of an installed package; None if there is none.

    Args:
        name: Import name of a top-level package.

    Raises:
        ValueError: If the name is not that of a top-level package.
    """
    if not re.fullmatch(PACKAGE_NAME, name):
        raise ValueError(f"{name!r} is not the import name of a top-level package")
    if sys.modules.get(name, ...) is None:  # Python's way to forbid an import
        return None
    # The path finder reads folders only. importlib.util.find_spec would ask finders that packages install.
    spec = PathFinder.find_spec(name, _search_path())
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))) if locations else None


@functools.cache
def installed_library_version(name: str) -> str | None:
    """Return the version of an installed library; None if it is not installed.

    It is read once for each process: of the versions of ten libraries, reading their metadata takes 40 ms.

    Args:
        name: Name under which the library is distributed.
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def entry_points(group: str) -> Iterator[metadata.EntryPoint]:
    """Yield the entry points of a group that installed packages register."""
    for distribution in metadata.distributions(path=_search_path()):
        yield from distribution.entry_points.select(group=group)


def is_shadowed(module: str) -> bool:
    """Return True if importing a module would run a file of the current folder.

    Args:
        module: Import name, with or without dots.
    """
    name = module.partition(".")[0]
    current = [entry for entry in sys.path if _is_current_folder(entry)]
    return name not in sys.modules and bool(current) and PathFinder.find_spec(name, [os.getcwd()]) is not None
