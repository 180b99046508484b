"""Readers: one module a file format, each with `read(files, **options) -> Table`.

A reader gets the manifest's files by role and imports its library only when it runs.
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
    """The `read` function of the reader with this name.

    Raises:
        UsageError: When there is none.
    """
    return _module(name).read


def get_converter(name: str) -> Callable[[Mapping[str, Sequence[Path]]], list[Path]] | None:
    """The `convert` function of a reader whose samples are much larger than its files; None for the others.

    It writes files beside the originals that `read` then takes in their place.
    """
    return getattr(_module(name), "convert", None)


def _module(name: str) -> ModuleType:
    known = {module.name for module in pkgutil.iter_modules(__path__)}
    if name not in known:
        raise unknown_name("reader", name, known)
    return importlib.import_module(f"{__name__}.{name}")
