"""Sources that other packages bring: entry points of the group `modgap.sources`."""

import logging
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from modgap.errors import InputError
from modgap.sources.source import SourceHandle, SourceInfo

__all__ = ["GROUP", "SourcePlugin", "plugin", "plugin_infos", "plugin_names"]

GROUP = "modgap.sources"

log = logging.getLogger("modgap")


class SourcePlugin(Protocol):
    """What an entry point loads to. Its name is the source's name."""

    def describe(self) -> SourceInfo:
        """What there is to know of the source without loading it."""

    def open(self, weights: Path | None) -> SourceHandle:
        """The source, with weights of its own or the user's; loads nothing yet."""


def _entries(reserved: frozenset[str]) -> dict[str, metadata.EntryPoint]:
    """Entry points by name, each name once; names that modgap has itself are its own."""
    found: dict[str, metadata.EntryPoint] = {}
    # In an order that does not depend on the file system's, so that the same one of two wins everywhere.
    for entry in sorted(metadata.entry_points(group=GROUP), key=_order):
        taken = found.get(entry.name)
        if entry.name in reserved:
            log.warning("source plug-in %s (%s) is passed over: modgap has a source of that name", *_named(entry))
        elif taken and taken.value != entry.value:
            log.warning("source plug-in %s (%s) is passed over: another has that name", *_named(entry))
        else:
            found.setdefault(entry.name, entry)
    return found


def _order(entry: metadata.EntryPoint) -> tuple[str, str, str]:
    return entry.name, entry.dist.name if entry.dist else "", entry.value


def _named(entry: metadata.EntryPoint) -> tuple[str, str]:
    return entry.name, entry.value


def plugin_names(reserved: frozenset[str]) -> list[str]:
    """Names of the plug-ins; imports none of them."""
    return sorted(_entries(reserved))


def plugin_infos(reserved: frozenset[str]) -> list[SourceInfo]:
    """What the plug-ins say of themselves; one that is broken is named in a warning and passed over."""
    infos = []
    for _, entry in sorted(_entries(reserved).items()):
        try:
            info: Any = entry.load().describe()
            if not isinstance(info, SourceInfo):
                raise TypeError(f"describe() gave a {type(info).__name__}, not a SourceInfo")
        except (Exception, SystemExit) as error:  # foreign code fails in any way, and must not take the list with it
            log.warning("source plug-in %s (%s) is broken and passed over: %s", *_named(entry), _one_line(error))
            continue
        infos.append(replace(info, name=entry.name))
    return infos


def plugin(name: str, weights: Path | None, reserved: frozenset[str]) -> SourceHandle | None:
    """The handle of the plug-in of this name; None when there is none. Imports no other plug-in.

    Raises:
        InputError: When it is broken.
    """
    entry = _entries(reserved).get(name)
    if entry is None:
        return None
    try:
        handle: Any = entry.load().open(weights)
        if not all(callable(getattr(handle, method, None)) for method in ("fingerprint", "load")):
            raise TypeError(f"open() gave a {type(handle).__name__}, not a source's handle")
        return handle
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # foreign code fails in any way at all
        raise InputError(f"source plug-in {name} ({entry.value}) is broken: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
