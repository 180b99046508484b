"""ORCA: the embedder is aligned to the surrogate by optimal transport, then everything is fine-tuned."""

from collections.abc import Mapping
from typing import Any

from modgap.targets import Manifest
from modgap.transfer.method import Method, two_stages
from modgap.transfer.recipe import FullStage

__all__ = ["METHOD"]

EPOCHS = 60
LOW_LEARNING_RATE = 1e-3
LEARNING_RATE_FACTOR = 10
"""Stage 1 multiplies learning rates of at most LOW_LEARNING_RATE by this factor."""
DROP_EPOCHS = (21, 41, 61)
"""Numbers of epochs of stage 1 after which the learning rate drops to a fifth.

ORCA's code lowers it after the epochs 20, 40 and 60, and numbers them from 0.
"""


def _stage1_defaults(manifest: Manifest) -> Mapping[str, Any]:
    """Return stage 1 of ORCA's code: the optimizer of stage 2, with a low learning rate raised."""
    training = manifest.training
    recipe = FullStage().model_dump() if training is None else training.model_dump(exclude_none=True)
    settings: dict[str, Any] = {"epochs": recipe.get("stage1_epochs", EPOCHS), "drop_epochs": DROP_EPOCHS}
    settings |= {name: recipe[name] for name in ("optimizer", "weight_decay", "momentum", "betas") if name in recipe}
    if "learning_rate" in recipe:
        rate = recipe["learning_rate"]
        settings["learning_rate"] = rate * LEARNING_RATE_FACTOR if rate <= LOW_LEARNING_RATE else rate
    if "stage1_samples_per_class" in recipe:
        settings["samples_per_class"] = recipe["stage1_samples_per_class"]
    return settings


METHOD = Method(
    name="orca",
    title="the source's embedder is aligned to the surrogate class by class (OTDD), then everything is trained",
    reference="Shen et al. (2023), Cross-modal fine-tuning: align then refine",
    stages=two_stages("otdd"),
    embedder_start="source",
    stage1_defaults=_stage1_defaults,
)
