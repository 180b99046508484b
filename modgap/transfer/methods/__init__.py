"""Methods of transfer; one file each, found by its METHOD."""

import importlib
import pkgutil

from modgap.errors import unknown_name
from modgap.transfer.method import Method

__all__ = ["method", "method_names"]

ORDER = ("scratch", "finetune", "finetune++", "frozen", "fpt", "emb", "orca", "mona")
"""As in the paper's tables; others follow by name."""


def _methods() -> dict[str, Method]:
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    found = {module.METHOD.name: module.METHOD for module in modules}
    return dict(sorted(found.items(), key=lambda item: (ORDER.index(item[0]) if item[0] in ORDER else 99, item[0])))


def method_names() -> list[str]:
    """Names of all methods."""
    return list(_methods())


def method(name: str) -> Method:
    """The method of this name.

    Raises:
        UsageError: When there is none, with the nearest names.
    """
    known = _methods()
    if name not in known:
        raise unknown_name("method", name, known)
    return known[name]
