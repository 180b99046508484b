"""Plug-ins: objects of other packages that entry points name, found without importing them.

A plug-in comes from an installed package. One whose module is in the current folder is never imported, because that
folder can be an unpacked download. A broken plug-in is named in one warning and skipped.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from importlib import metadata
from typing import Any

from modgap.errors import InputError
from modgap.installed_packages import entry_points, is_shadowed

__all__ = ["BUILT_IN", "describe_origin", "load_plugin", "one_line", "plugin_entries", "usable_plugins"]

BUILT_IN = "modgap"
"""Origin of everything that is not a plug-in."""

log = logging.getLogger("modgap")


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


def describe_origin(entry: metadata.EntryPoint) -> str:
    """Return the package that a plug-in comes from, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


def load_plugin(entry: metadata.EntryPoint, noun: str) -> Any:
    """Import the object of an entry point.

    Raises:
        InputError: When the current folder has a module of its name. All errors of the plug-in itself pass through.
    """
    if is_shadowed(entry.module):
        raise InputError(
            f"{noun} plug-in {entry.name} ({entry.value}) is not loaded, because the current folder has a module of "
            "this name, which Python would run instead. Run modgap in another folder."
        )
    return entry.load()


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


def one_line(error: BaseException) -> str:
    """Return the type and the message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
