"""Methods of transfer: one module each, which defines the constant METHOD."""

import importlib
import pkgutil

from modgap.errors import unknown_name
from modgap.transfer.method import Method
from modgap.transfer.method_order import METHOD_ORDER

__all__ = ["get_method", "method_names"]


def _methods() -> dict[str, Method]:
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    methods = {module.METHOD.name: module.METHOD for module in modules}
    return {name: methods[name] for name in sorted(methods, key=_table_position)}


def _table_position(name: str) -> tuple[int, str]:
    position = METHOD_ORDER.index(name) if name in METHOD_ORDER else len(METHOD_ORDER)
    return position, name


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
