"""Check of a transfer method: its description, its settings, and the parameters that its stages train."""

import numpy as np
import torch

from modgap.models import TargetModel, target_model
from modgap.models.native_model import native_model
from modgap.sources import Source, open_source
from modgap.targets import named_manifest
from modgap.targets.output import Output
from modgap.training.method import Method
from modgap.training.methods import get_method, method_settings
from modgap.training.recipe import FullStage

__all__ = ["check_method"]

SOURCE = "vit-fashion"
SHAPE = (1, 8, 8)


def check_method(method: str | Method) -> None:
    """Check a transfer method on a small target model of the source that comes with modgap.

    Its description is complete; each stage uses a section of the recipe with settings that exist, and trains at least
    one parameter of the model, each of which exists; and its defaults for stage 1 are settings of stage 1.

    Args:
        method: Name of an installed method, or a method.

    Raises:
        AssertionError: If the method breaks one of these rules.
    """
    method = get_method(method) if isinstance(method, str) else method
    for field in ("name", "title", "reference"):
        assert getattr(method, field).strip(), f"The {field} of the method {method.name!r} is empty."
    assert method.stages, f"{method.name} has no stages."
    source = open_source(SOURCE).load(None)
    model = _model(source, method)
    plain_names = {name for name, _ in model.named_parameters()}
    if method.adapter is not None:
        method.adapter.add(model, FullStage())
    names = {name for name, _ in model.named_parameters()}
    settings = method_settings(method)
    for stage in method.stages:
        is_known = stage.epochs_setting in settings[stage.recipe_section]
        assert is_known, f"Stage {stage.name} of {method.name} has the unknown setting {stage.epochs_setting}."
        trained = stage.select_parameters(model)
        assert trained, f"Stage {stage.name} of {method.name} trains no parameter."
        missing = [name for name in trained if name not in names]
        assert not missing, f"Stage {stage.name} of {method.name} trains {missing[0]}, which the model does not have."
    unknown = set(method.stage1_defaults(named_manifest("digits"))) - set(settings["stage1"])
    assert not unknown, f"{method.name} has a default for {', '.join(sorted(unknown))}, which stage 1 does not have."
    if method.adapter is not None:
        method.adapter.merge(model)
        merged_names = {name for name, _ in model.named_parameters()}
        assert merged_names == plain_names, f"The adapter of {method.name} does not merge to the parameters before it."


def _model(source: Source, method: Method) -> TargetModel:
    output = Output("classification", (3,))
    if method.embedder_start == "native":
        return native_model(source, torch.zeros(SHAPE), output, pretrained=method.pretrained_encoder)
    return target_model(
        source,
        np.zeros(SHAPE),
        output,
        embedder_start=method.embedder_start,
        pretrained_encoder=method.pretrained_encoder,
    )
