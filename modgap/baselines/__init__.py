"""Baselines: what the field of a target would use without any pretrained model; other packages bring more.

A module for each kind of samples defines its baselines as BASELINES. The entry points of the group `modgap.baselines`
refer to objects of the class Baseline, under their names. Importing this package is fast; its functions import torch.
"""

import importlib
from typing import TYPE_CHECKING

from modgap.process.registry import Registry

if TYPE_CHECKING:
    from modgap.baselines.baseline import Baseline

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
"""Names of modgap's baselines by kind of samples, the simplest of each kind first; others follow, sorted by name."""


def _load() -> "tuple[type[Baseline], list[Baseline]]":
    from modgap.baselines.baseline import Baseline

    modules = (importlib.import_module(f"{__name__}.{name}") for name in MODULES)
    return Baseline, [baseline for module in modules for baseline in module.BASELINES]


BASELINES = Registry("modgap.baselines", "Baseline", BASELINE_ORDER, _load)
get_baseline, baseline_names, baseline_origin = BASELINES.get, BASELINES.names, BASELINES.origin
