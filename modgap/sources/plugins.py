"""Sources of other packages, which are entry points of the group `modgap.sources`."""

import logging
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from modgap.errors import InputError
from modgap.installed_packages import entry_points, is_shadowed
from modgap.sources.source import SourceHandle, SourceInfo

__all__ = ["GROUP", "SourcePlugin", "open_plugin", "plugin_infos", "plugin_names"]

GROUP = "modgap.sources"

log = logging.getLogger("modgap")


class SourcePlugin(Protocol):
    """The object that an entry point refers to. The entry point's name is the source's name."""

    def describe(self) -> SourceInfo:
        """Return the description of the source without loading it."""

    def open(self, weights: Path | None) -> SourceHandle:
        """Return a handle of the source, with its default weights or the user's, without loading it."""


def _entries(reserved: frozenset[str]) -> dict[str, metadata.EntryPoint]:
    """Return the entry points by name, without duplicates and without the reserved names."""
    entries: dict[str, metadata.EntryPoint] = {}
    # In an order that does not depend on the file system, so that the same one of two wins everywhere.
    for entry in sorted(entry_points(GROUP), key=_sort_key):
        earlier = entries.get(entry.name)
        if entry.name in reserved:
            log.warning("Source plug-in %s (%s) is skipped: modgap has a source with this name.", *_label(entry))
        elif earlier and earlier.value != entry.value:
            log.warning("Source plug-in %s (%s) is skipped: another plug-in has this name.", *_label(entry))
        else:
            entries.setdefault(entry.name, entry)
    return entries


def _sort_key(entry: metadata.EntryPoint) -> tuple[str, str, str]:
    return entry.name, entry.dist.name if entry.dist else "", entry.value


def _label(entry: metadata.EntryPoint) -> tuple[str, str]:
    return entry.name, entry.value


def plugin_names(reserved: frozenset[str]) -> list[str]:
    """Return the names of the plug-ins without importing them."""
    return sorted(_entries(reserved))


def plugin_infos(reserved: frozenset[str]) -> list[SourceInfo]:
    """Return the descriptions of the plug-ins. A broken plug-in causes a warning and is skipped."""
    infos = []
    for _, entry in sorted(_entries(reserved).items()):
        try:
            info: Any = _load(entry).describe()
            if not isinstance(info, SourceInfo):
                raise TypeError(f"describe() returned a {type(info).__name__}, not a SourceInfo")
        except InputError as error:
            log.warning("%s", error)
            continue
        except (Exception, SystemExit) as error:  # a plug-in can fail in any way, and the others must still be listed
            log.warning("Source plug-in %s (%s) is broken and is skipped: %s", *_label(entry), _one_line(error))
            continue
        infos.append(replace(info, name=entry.name))
    return infos


def open_plugin(name: str, weights: Path | None, reserved: frozenset[str]) -> SourceHandle | None:
    """Return the handle of the plug-in with this name, or None if there is none, without importing other plug-ins.

    Raises:
        InputError: When the plug-in is broken.
    """
    entry = _entries(reserved).get(name)
    if entry is None:
        return None
    try:
        handle: Any = _load(entry).open(weights)
        if not all(callable(getattr(handle, method, None)) for method in ("fingerprint", "load")):
            raise TypeError(f"open() returned a {type(handle).__name__}, not a source's handle")
        opened: SourceHandle = handle
        return opened
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in can fail in any way
        raise InputError(f"Source plug-in {name} ({entry.value}) is broken: {_one_line(error)}") from error


def _load(entry: metadata.EntryPoint) -> Any:
    if is_shadowed(entry.module):
        raise InputError(
            f"Source plug-in {entry.name} ({entry.value}) is not loaded, because the current folder has a module of "
            "this name, which Python would run instead. Run modgap in another folder."
        )
    return entry.load()


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
