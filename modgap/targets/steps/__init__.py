"""Preprocessing steps between a reader and the source: one module each, with `apply(table, **options) -> Table`.

A step receives complete splits, so that it can be fitted on the training samples alone. Steps are lazy where
possible: they transform a sample when it is read.
"""

import importlib
import pkgutil
from collections.abc import Callable

from modgap.errors import unknown_name
from modgap.targets.samples import Table

__all__ = ["get_step"]


def get_step(name: str) -> Callable[..., Table]:
    """Return the `apply` function of the step with this name.

    Raises:
        UsageError: When there is no such step.
    """
    modules = {module.name for module in pkgutil.iter_modules(__path__)}
    module = name.replace("-", "_")
    if module not in modules:
        raise unknown_name("step", name, {step.replace("_", "-") for step in modules})
    apply: Callable[..., Table] = importlib.import_module(f"{__name__}.{module}").apply
    return apply
