"""Steps of preprocessing between a reader and the source: one module each, with `apply(table, **options) -> Table`.

A step gets complete splits, so that it can fit on the training samples alone, and is lazy where it can be:
it maps samples when they are asked for.
"""

import importlib
import pkgutil
from collections.abc import Callable

from modgap.errors import unknown_name
from modgap.targets.samples import Table

__all__ = ["get_step"]


def get_step(name: str) -> Callable[..., Table]:
    """The `apply` function of the step with this name.

    Raises:
        UsageError: When there is none.
    """
    known = {module.name for module in pkgutil.iter_modules(__path__)}
    module = name.replace("-", "_")
    if module not in known:
        raise unknown_name("step", name, {each.replace("_", "-") for each in known})
    return importlib.import_module(f"{__name__}.{module}").apply
