"""Method, settings, source, data and surrogate of a run, before it trains, and the record of them."""

from dataclasses import dataclass
from typing import Any

from modgap.errors import UsageError
from modgap.formatting import count
from modgap.sources import ImageInput, Source, open_source
from modgap.targets import Target, open_target
from modgap.transfer.loop_setup import stages_with_epochs
from modgap.transfer.method import Method
from modgap.transfer.methods import get_method
from modgap.transfer.recipe import Recipe, choose_route, resolve_recipe
from modgap.transfer.stage_surrogate import open_stage_surrogate
from modgap.transfer.surrogate import Surrogate
from modgap.transfer.train_request import TrainRequest, settings_record
from modgap.transfer.training_data import TargetData, read_target_data

__all__ = ["RunSetup", "open_request_target", "request_recipe", "set_up_run"]


@dataclass(frozen=True)
class RunSetup:
    """Method, settings, source, data and surrogate of a run, before it trains.

    Attributes:
        method: The method.
        recipe: All settings of the training.
        source: The source.
        data: The target's data.
        surrogate: The surrogate of the stages; None if they need none.
        settings: Settings of the run for its record.
    """

    method: Method
    recipe: Recipe
    source: Source
    data: TargetData
    surrogate: Surrogate | None
    settings: dict[str, Any]


def open_request_target(request: TrainRequest) -> Target:
    """Open the target of a request, without reading its samples."""
    return open_target(
        request.target,
        custom_data=request.custom_data,
        data_dir=request.data_dir,
        pseudo_classes=request.pseudo_classes,
    )


def request_recipe(request: TrainRequest, target: Target) -> Recipe:
    """Return the settings of a request, before the source decides on the route of the mixed product.

    Raises:
        UsageError: When a setting is unknown or invalid, or an epoch that is to be kept does not exist.
    """
    method = get_method(request.method)
    recipe = resolve_recipe(target.manifest, method.stage1_defaults(target.manifest), request.overrides)
    stage = recipe.stage2
    if outside := [epoch for epoch in stage.keep_epochs if not 1 <= epoch <= stage.epochs]:
        raise UsageError(
            f"stage2.keep_epochs names epoch {outside[0]}, and stage 2 has {count(stage.epochs, 'epoch')}, numbered "
            "from 1. Name epochs that it has."
        )
    return recipe


def set_up_run(request: TrainRequest) -> RunSetup:
    """Open the source, the data and the surrogate of a request, and resolve its settings; nothing is written.

    Raises:
        UsageError: When the request is invalid.
        InputError: When data or weights are missing or do not match.
    """
    method = get_method(request.method)
    target = open_request_target(request)
    recipe = request_recipe(request, target)
    handle = open_source(request.source, weights=request.weights)
    source = handle.load(request.samples.input_size, head=False)
    recipe = choose_route(recipe, kinks=source.convolutional)
    data = _read_data(request, source, target)
    surrogate = open_stage_surrogate(
        stages_with_epochs(method, recipe), recipe, source, request.source, request.samples.seed
    )
    settings = settings_record(request, recipe, data, handle.fingerprint(), target.fingerprint, surrogate)
    return RunSetup(method, recipe, source, data, surrogate, settings)


def _read_data(request: TrainRequest, source: Source, target: Target) -> TargetData:
    samples = request.samples
    size = source.input.size if isinstance(source.input, ImageInput) else None
    return read_target_data(target, protocol=request.protocol, limit=samples.limit, seed=samples.seed, size=size)
