"""Scores, baselines and methods by name: those of modgap, and those that other packages bring."""

import functools
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint
from typing import Generic, Protocol, TypeVar

from modgap.errors import named
from modgap.process.installed_packages import (
    check_plugin,
    describe_origin,
    plugin_entries,
    requested_plugin,
    usable_plugins,
)


class Named(Protocol):
    """An object with a name."""

    @property
    def name(self) -> str:
        """The name."""


Entry = TypeVar("Entry", bound=Named)


class Registry(Generic[Entry]):
    """Objects of one class by name, which are looked for when they are first needed.

    Args:
        group: Group of the entry points, which refer to objects of the class under their names.
        noun: Name of the objects for messages, such as `Score`.
        order: Names in the order in which they are shown. Others follow, sorted by name.
        load: Function that imports modgap's own objects, and returns the class and the objects.
    """

    def __init__(
        self, group: str, noun: str, order: Sequence[str], load: Callable[[], tuple[type[Entry], Iterable[Entry]]]
    ) -> None:
        """Import nothing yet."""
        self._group, self._noun, self._order, self._load = group, noun, order, load

    @functools.cached_property
    def built_in(self) -> dict[str, Entry]:
        """The objects of modgap by name."""
        return {one.name: one for one in self._load()[1]}

    @functools.cached_property
    def _entries(self) -> dict[str, EntryPoint]:
        return plugin_entries(self._group, self._noun, self.built_in)

    @functools.cached_property
    def _all(self) -> dict[str, Entry]:
        plugins = {**self.built_in, **dict(usable_plugins(self._entries, self._noun, self._check))}
        ordered = [name for name in self._order if name in plugins]
        return {name: plugins[name] for name in (*ordered, *sorted(plugins.keys() - set(ordered)))}

    def _check(self, name: str, plugin: object) -> Entry:
        return check_plugin(name, plugin, self._load()[0])

    def names(self) -> list[str]:
        """Return the names of all objects in the order in which they are shown."""
        return list(self._all)

    def get(self, name: str) -> Entry:
        """Return the object of a name.

        Raises:
            UsageError: If there is no such object. The message suggests similar names.
            InputError: If it is a plug-in that cannot be used.
        """
        # No plug-in has the name of a built-in one, and a search for plug-ins reads the metadata of all packages.
        if name in self.built_in:
            return self.built_in[name]
        if name in self._entries:
            return requested_plugin(self._entries[name], self._noun, self._check)
        return named(self._noun.lower(), name, self._all)

    def origin(self, name: str) -> str:
        """Return the package that an object comes from, with its version if it is not modgap."""
        return describe_origin(self._entries.get(name))

    def forget(self) -> None:
        """Look for everything again when it is next needed."""
        for name in ("built_in", "_entries", "_all"):
            vars(self).pop(name, None)
