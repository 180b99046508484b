"""ORCA: the embedder is aligned to the surrogate by optimal transport, then everything is fine-tuned."""

from collections.abc import Mapping
from typing import Any

from modgap.targets import Manifest
from modgap.transfer.method import Method, two_stages
from modgap.transfer.recipe import FullStage

__all__ = ["METHOD"]

EPOCHS = 60
SLOW, FASTER = 1e-3, 10
"""Learning rates up to SLOW are raised by FASTER in its first stage."""


def _defaults(manifest: Manifest) -> Mapping[str, Any]:
    """Its code's settings of stage 1: the optimizer of stage 2, faster where that is slow."""
    given = FullStage().model_dump() if manifest.training is None else manifest.training.model_dump(exclude_none=True)
    settings: dict[str, Any] = {"epochs": given.get("stage1_epochs", EPOCHS)}
    settings |= {name: given[name] for name in ("optimizer", "weight_decay", "momentum") if name in given}
    if "learning_rate" in given:
        rate = given["learning_rate"]
        settings["learning_rate"] = rate * FASTER if rate <= SLOW else rate
    if "stage1_samples_per_class" in given:
        settings["samples_per_class"] = given["stage1_samples_per_class"]
    return settings


METHOD = Method(
    name="orca",
    title="the embedder is aligned to the surrogate class by class (OTDD), then everything is trained",
    reference="Shen et al. (2023), Cross-modal fine-tuning: align then refine",
    stages=two_stages("otdd"),
    defaults=_defaults,
)
