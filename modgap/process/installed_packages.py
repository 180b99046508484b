"""Installed Python packages, looked up without importing them, and the plug-ins among them.

A manifest may name a package, and a package may register a source. Neither may come from the current folder, which can
be an unpacked download: with `python -m`, in a notebook and in an interactive session Python searches it first. A
plug-in whose module is in the current folder is never imported, and a broken one is named in one warning and skipped.
"""

import contextlib
import functools
import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from modgap.errors import InputError, UsageError

log = logging.getLogger("modgap")

Plugin = TypeVar("Plugin")

PACKAGE_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
"""Pattern of the import name of a top-level package. A name with a dot would import the packages before the dot."""


def import_optional(module: str, need: str, extra: str) -> ModuleType:
    """Import and return a module of an optional package.

    Args:
        module: Name of the module.
        need: What needs the package, such as `Optimal transport needs the package POT`.
        extra: Extra of modgap that installs it.

    Raises:
        UsageError: When it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{need}, which is not installed. Run: pip install 'modgap[{extra}]'") from error


def _search_path() -> list[str]:
    """Return the folders in which Python searches for packages, without the current folder."""
    current = os.path.realpath(os.curdir)
    return [entry for entry in sys.path if not _may_be_current(entry, current)]


def _may_be_current(entry: str, current: str) -> bool:
    """Return True if an entry of the search path is the current folder, or is relative."""
    # A relative entry names another folder after each change of the current folder.
    return not os.path.isabs(entry) or os.path.realpath(entry) == current


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


def entry_points(group: str) -> list[metadata.EntryPoint]:
    """Return the entry points of a group that installed packages register.

    The files of all packages are read once for each state of their folders, in which each package has a folder:
    reading them takes 10 ms for a hundred packages, and a training asks for plug-ins several times.
    """
    return [entry for entry in _entry_points(_folder_times()) if entry.group == group]


def _folder_times() -> tuple[tuple[str, int], ...]:
    times = []
    for folder in _search_path():
        # Folders that do not exist are skipped.
        with contextlib.suppress(OSError):
            times.append((folder, os.stat(folder).st_mtime_ns))
    return tuple(times)


@functools.lru_cache(maxsize=1)
def _entry_points(folder_times: tuple[tuple[str, int], ...]) -> list[metadata.EntryPoint]:
    folders = [folder for folder, _ in folder_times]
    return [entry for distribution in metadata.distributions(path=folders) for entry in distribution.entry_points]


def _is_shadowed(module: str) -> bool:
    """Return True if importing a module would run a file of the current folder.

    Args:
        module: Import name, with or without dots.
    """
    name, current = module.partition(".")[0], os.path.realpath(os.curdir)
    is_searched = any(_may_be_current(entry, current) for entry in sys.path)
    return name not in sys.modules and is_searched and PathFinder.find_spec(name, [os.getcwd()]) is not None


BUILT_IN = "modgap"
"""Origin of everything that is not a plug-in."""


def plugin_entries(group: str, noun: str, reserved: Collection[str]) -> dict[str, metadata.EntryPoint]:
    """Return the entry points of a group by name, without duplicates and without reserved names.

    Args:
        group: Group of entry points, such as `modgap.scores`.
        noun: Kind of the plug-ins for the warnings, such as `Score`.
        reserved: Names that plug-ins cannot take.
    """
    entries: dict[str, metadata.EntryPoint] = {}
    # In an order that does not depend on the file system, so that the same one of two wins everywhere.
    for entry in sorted(entry_points(group), key=_sort_key):
        earlier = entries.get(entry.name)
        if entry.name in reserved:
            log.warning(
                "%s plug-in %s (%s) is skipped: modgap has a %s with this name.",
                noun,
                entry.name,
                entry.value,
                noun.lower(),
            )
        elif earlier and earlier.value != entry.value:
            log.warning("%s plug-in %s (%s) is skipped: another plug-in has this name.", noun, entry.name, entry.value)
        else:
            entries.setdefault(entry.name, entry)
    return entries


def _sort_key(entry: metadata.EntryPoint) -> tuple[str, str, str]:
    return entry.name, entry.dist.name if entry.dist else "", entry.value


def describe_origin(entry: metadata.EntryPoint | None) -> str:
    """Return the package that a plug-in comes from, with its version; that of modgap for None."""
    if entry is None:
        return BUILT_IN
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


def load_plugin(entry: metadata.EntryPoint, noun: str) -> Any:
    """Import the object of an entry point.

    Raises:
        InputError: When the current folder has a module of its name. All errors of the plug-in itself pass through.
    """
    if _is_shadowed(entry.module):
        raise InputError(
            f"{noun} plug-in {entry.name} ({entry.value}) is not loaded, because the current folder has a module of "
            "this name, which Python would run instead. Run modgap in another folder."
        )
    return entry.load()


def requested_plugin(entry: metadata.EntryPoint, noun: str, check: Callable[[str, Any], Plugin]) -> Plugin:
    """Return the checked object of the entry point that the user asked for.

    Args:
        entry: The entry point.
        noun: Kind of the plug-in for the message.
        check: Function of the name and the loaded object that returns what to use, or raises an error.

    Raises:
        InputError: When the plug-in cannot be used.
    """
    try:
        return check(entry.name, load_plugin(entry, noun))
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in can fail in any way
        raise InputError(f"{noun} plug-in {entry.name} ({entry.value}) is broken: {one_line(error)}") from error


def usable_plugins(
    entries: dict[str, metadata.EntryPoint], noun: str, check: Callable[[str, Any], Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the name and the checked object of each plug-in that works; name the others in one warning each.

    Args:
        entries: Entry points by name.
        noun: Kind of the plug-ins for the warnings.
        check: Function of the name and the loaded object that returns what to use, or raises an error.
    """
    for name, entry in sorted(entries.items()):
        try:
            checked = check(name, load_plugin(entry, noun))
        except InputError as error:
            log.warning("%s", error)
            continue
        except (Exception, SystemExit) as error:  # a plug-in can fail in any way, and the others must still work
            log.warning("%s plug-in %s (%s) is broken and is skipped: %s", noun, name, entry.value, one_line(error))
            continue
        yield name, checked


def check_plugin(name: str, plugin: object, expected: type[Plugin]) -> Plugin:
    """Return the object of an entry point if it has the expected class and the name of its entry point.

    Args:
        name: Name of the entry point.
        plugin: The loaded object.
        expected: Class whose objects have a `name`.

    Raises:
        TypeError: When it is of another class.
        ValueError: When it has another name.
    """
    if not isinstance(plugin, expected):
        raise TypeError(f"it is a {type(plugin).__name__}, not a {expected.__name__}")
    if (stated := getattr(plugin, "name", None)) != name:
        raise ValueError(f"its name is {stated!r}, unlike that of its entry point")
    return plugin


def one_line(error: BaseException) -> str:
    """Return the type and the message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
