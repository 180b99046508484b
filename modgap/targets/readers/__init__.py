"""Readers: one module for each file format, with `read(files, **options) -> Table`.

A reader receives the manifest's files by role and imports the library of its format only when it runs.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from modgap.errors import unknown_name
from modgap.targets.samples import Table

__all__ = ["get_converter", "get_reader"]


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


def _module(name: str) -> ModuleType:
    modules = {module.name for module in pkgutil.iter_modules(__path__)}
    if name not in modules:
        raise unknown_name("reader", name, modules)
    return importlib.import_module(f"{__name__}.{name}")
