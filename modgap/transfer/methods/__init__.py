"""Methods of transfer: one module each, which defines the constant METHOD; other packages bring more.

The entry points of the group `modgap.methods` refer to objects of the class Method, under their names.
"""

import importlib
import pkgutil
from importlib.metadata import EntryPoint
from typing import Any

from modgap.errors import unknown_name
from modgap.installed_packages import BUILT_IN, describe_origin, plugin_entries, usable_plugins
from modgap.transfer.method import Method
from modgap.transfer.method_order import METHOD_ORDER

__all__ = ["get_method", "method_names", "method_origin"]

GROUP = "modgap.methods"
NOUN = "Method"


def _declared() -> dict[str, Method]:
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return {module.METHOD.name: module.METHOD for module in modules}


def _plugin_entries() -> dict[str, EntryPoint]:
    return plugin_entries(GROUP, NOUN, _declared())


def _methods() -> dict[str, Method]:
    methods = {**_declared(), **dict(usable_plugins(_plugin_entries(), NOUN, _check))}
    return {name: methods[name] for name in sorted(methods, key=_table_position)}


def _table_position(name: str) -> tuple[int, str]:
    position = METHOD_ORDER.index(name) if name in METHOD_ORDER else len(METHOD_ORDER)
    return position, name


def _check(name: str, plugin: Any) -> Method:
    """Return a plug-in if it is a method of its entry point's name."""
    if not isinstance(plugin, Method):
        raise TypeError(f"it is a {type(plugin).__name__}, not a Method")
    if plugin.name != name:
        raise ValueError(f"its name is {plugin.name!r}, unlike that of its entry point")
    return plugin


def method_origin(name: str) -> str:
    """Return the package that a method comes from, with its version if it is not modgap."""
    entry = _plugin_entries().get(name)
    return BUILT_IN if entry is None else describe_origin(entry)


def method_names() -> list[str]:
    """Return the names of all methods, in the order of the paper's tables."""
    return list(_methods())


def get_method(name: str) -> Method:
    """Return the method with this name.

    Raises:
        UsageError: When there is no such method; the message names the nearest ones.
    """
    methods = _methods()
    if name not in methods:
        raise unknown_name("method", name, methods)
    return methods[name]
