"""Readers: one module a file format, each with `read(files, **options) -> Table`.

A reader gets the manifest's files by role and imports its library only when it runs.
"""

import importlib
import pkgutil
from collections.abc import Callable

from modgap.errors import unknown_name
from modgap.targets.samples import Table

__all__ = ["reader"]


def reader(name: str) -> Callable[..., Table]:
    """The `read` function of the reader with this name.

    Raises:
        UsageError: When there is none.
    """
    known = {module.name for module in pkgutil.iter_modules(__path__)}
    if name not in known:
        raise unknown_name("reader", name, known)
    return importlib.import_module(f"{__name__}.{name}").read
