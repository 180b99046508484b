"""Readers: one module for each file format, with `read(files, **options) -> Table`; other packages bring more.

The entry points of the group `modgap.readers` refer to such modules, or to objects with a method `read`.

A reader receives the manifest's files by role and imports the library of its format only when it runs.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from modgap.errors import UsageError, unknown_name
from modgap.process.installed_packages import describe_origin, plugin_entries, requested_plugin
from modgap.targets.samples import Table
from modgap.zoo import zoo_hint

GROUP = "modgap.readers"
NOUN = "Reader"


def get_reader(name: str) -> Callable[..., Table]:
    """Return the `read` function of the reader with this name.

    Raises:
        UsageError: When there is no such reader.
    """
    read: Callable[..., Table] = _module(name).read
    return read


def get_converter(name: str) -> Callable[[Mapping[str, Sequence[Path]]], list[Path]] | None:
    """Return the `convert` function of a reader whose samples are much larger than its files; None for the others.

    It writes files beside the originals, which `read` then uses instead.
    """
    return getattr(_module(name), "convert", None)


def get_reader_versions(name: str) -> dict[str, str]:
    """Return the versions on which the samples of a reader depend, by name; they are part of fingerprints of targets.

    The samples of a plug-in are computed anew with each version of its package, unless its reader has a function
    `sample_versions`, which returns what they depend on instead, such as programs that render them.
    """
    # A search for plug-ins reads the metadata of all packages.
    if name in _built_in():
        return {}
    versions: Callable[[], dict[str, str]] | None = getattr(_module(name), "sample_versions", None)
    return {f"reader {name}": describe_origin(_plugins()[name])} if versions is None else versions()


def _built_in() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(__path__)}


def _plugins() -> dict[str, EntryPoint]:
    return plugin_entries(GROUP, NOUN, _built_in())


def _module(name: str) -> Any:
    if name in _built_in():
        return importlib.import_module(f"{__name__}.{name}")
    plugins = _plugins()
    if name not in plugins:
        if hint := zoo_hint("reader", name):
            raise UsageError(hint)
        raise unknown_name("reader", name, [*_built_in(), *plugins])
    entry = plugins[name]

    def check(_name: str, reader: object) -> object:
        if not callable(getattr(reader, "read", None)):
            raise TypeError(f"{entry.value} has no function read")
        return reader

    return requested_plugin(entry, NOUN, check)
