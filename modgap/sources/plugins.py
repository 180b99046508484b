"""Sources of other packages, which are entry points of the group `modgap.sources`."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from modgap.errors import InputError
from modgap.plugins import load_plugin, one_line, plugin_entries, usable_plugins
from modgap.sources.source import SourceHandle, SourceInfo

__all__ = ["GROUP", "SourcePlugin", "open_plugin", "plugin_infos", "plugin_names"]

GROUP = "modgap.sources"
NOUN = "Source"


class SourcePlugin(Protocol):
    """The object that an entry point refers to. The entry point's name is the source's name."""

    def describe(self) -> SourceInfo:
        """Return the description of the source without loading it."""

    def open(self, weights: Path | None) -> SourceHandle:
        """Return a handle of the source, with its default weights or the user's, without loading it."""


def plugin_names(reserved: frozenset[str]) -> list[str]:
    """Return the names of the plug-ins without importing them."""
    return sorted(plugin_entries(GROUP, NOUN, reserved))


def plugin_infos(reserved: frozenset[str]) -> list[SourceInfo]:
    """Return the descriptions of the plug-ins. A broken plug-in causes a warning and is skipped."""
    return [info for _, info in usable_plugins(plugin_entries(GROUP, NOUN, reserved), NOUN, _describe)]


def _describe(name: str, plugin: Any) -> SourceInfo:
    info: Any = plugin.describe()
    if not isinstance(info, SourceInfo):
        raise TypeError(f"describe() returned a {type(info).__name__}, not a SourceInfo")
    return replace(info, name=name)


def open_plugin(name: str, weights: Path | None, reserved: frozenset[str]) -> SourceHandle | None:
    """Return the handle of the plug-in with this name, or None if there is none, without importing other plug-ins.

    Raises:
        InputError: When the plug-in is broken.
    """
    entry = plugin_entries(GROUP, NOUN, reserved).get(name)
    if entry is None:
        return None
    try:
        handle: Any = load_plugin(entry, NOUN).open(weights)
        if not all(callable(getattr(handle, method, None)) for method in ("fingerprint", "load")):
            raise TypeError(f"open() returned a {type(handle).__name__}, not a source's handle")
        opened: SourceHandle = handle
        return opened
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in can fail in any way
        raise InputError(f"Source plug-in {name} ({entry.value}) is broken: {one_line(error)}") from error
