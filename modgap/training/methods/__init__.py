"""Methods of transfer: a module for each, or for a few that belong together; other packages bring more.

A module defines each of its methods as a constant, such as METHOD.

The entry points of the group `modgap.methods` refer to objects of the class Method, under their names. Importing this
package is fast; its functions import torch.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modgap.process.registry import Registry

if TYPE_CHECKING:
    from modgap.training.method import Method

METHOD_ORDER = (
    "scratch", "finetune", "finetune++", "frozen", "fpt", "lora", "emb", "orca", "mona", "l2-sp", "replay", "lp-ft"
)  # fmt: skip
"""Order of the paper's tables, then methods that hold the source; others follow, sorted by name."""


def _load() -> "tuple[type[Method], list[Method]]":
    from modgap.training.method import Method

    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    constants = (value for module in modules for value in vars(module).values())
    return Method, [constant for constant in constants if isinstance(constant, Method)]


METHODS = Registry("modgap.methods", "Method", METHOD_ORDER, _load)
get_method, method_names, method_origin = METHODS.get, METHODS.names, METHODS.origin


def method_settings(method: "Method") -> dict[str, dict[str, tuple[object, str]]]:
    """Return (default, meaning) of each setting that a method uses, by section of the recipe and name of the setting.

    Settings of a stage that only some methods use belong to those that name them. The section "" has the settings of
    the whole run.
    """
    from modgap.training.recipe import STAGES, Recipe, describe_settings

    sections = {stage.recipe_section for stage in method.stages}
    special = {key for other in METHODS.built_in.values() for key in other.special_settings}
    used = {}
    for section, model in STAGES.items():
        general = section in sections
        used[section] = {
            name: row
            for name, row in describe_settings(model).items()
            if (key := f"{section}.{name}") in method.special_settings or (general and key not in special)
        }
    used["method"] = describe_settings(method.settings)
    used[""] = {name: row for name, row in describe_settings(Recipe).items() if name not in (*STAGES, "method")}
    return used


def find_unused_settings(overrides: Sequence[str], method: "Method") -> list[str]:
    """Return the keys of the user's settings, KEY=VALUE, that belong to a stage and that a method does not use."""
    used = method_settings(method)
    keys = (text.partition("=")[0].strip().rpartition(".") for text in overrides)
    return [f"{section}.{name}" for section, _, name in keys if section and name not in used.get(section, {})]
