"""Baselines: what the field of a target would use without any pretrained model; other packages bring more.

A module for each kind of samples defines its baselines as BASELINES. The entry points of the group `modgap.baselines`
refer to objects of the class Baseline, under their names. Importing this package is fast; its functions import torch.
"""

import importlib
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from modgap.errors import named
from modgap.process.installed_packages import check_plugin, describe_origin, plugin_entries, usable_plugins

if TYPE_CHECKING:
    from modgap.baselines.baseline import Baseline

__all__ = ["BASELINE_ORDER", "baseline_names", "baseline_origin", "get_baseline"]

GROUP = "modgap.baselines"
NOUN = "Baseline"
MODULES = ("series", "images", "sounds", "texts", "fields")
BASELINE_ORDER = (
    "linear",
    "neighbors",
    "extra-trees",
    "minirocket",
    "boosting",
    "pixels",
    "hog",
    "residual-network",
    "mfcc",
    "mfcc-trees",
    "tf-idf-words",
    "tf-idf-letters",
    "k-mers",
    "k-mer-trees",
    "mean-field",
    "patches",
)
"""Names of modgap's baselines by kind of samples, the simplest of each kind first, for the completion of the shell."""


def _declared() -> dict[str, "Baseline"]:
    modules = (importlib.import_module(f"{__name__}.{name}") for name in MODULES)
    return {baseline.name: baseline for module in modules for baseline in module.BASELINES}


def _plugin_entries() -> dict[str, EntryPoint]:
    return plugin_entries(GROUP, NOUN, _declared())


def _baselines() -> dict[str, "Baseline"]:
    return {**_declared(), **dict(usable_plugins(_plugin_entries(), NOUN, _check))}


def _check(name: str, plugin: Any) -> "Baseline":
    """Return a plug-in if it is a baseline of its entry point's name."""
    from modgap.baselines.baseline import Baseline

    return check_plugin(name, plugin, Baseline)


def baseline_origin(name: str) -> str:
    """Return the package that a baseline comes from, with its version if it is not modgap."""
    return describe_origin(_plugin_entries().get(name))


def baseline_names() -> list[str]:
    """Return the names of all baselines, by kind of samples, the simplest first."""
    return list(_baselines())


def get_baseline(name: str) -> "Baseline":
    """Return the baseline with this name.

    Raises:
        UsageError: When there is no such baseline; the message names the nearest ones.
    """
    # No plug-in has the name of a built-in one, and a search for plug-ins reads the metadata of all packages.
    return named("baseline", name, declared if name in (declared := _declared()) else _baselines())
