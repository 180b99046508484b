"""A request to train a model, what it opens before the training, and the settings of the run for its record."""

import platform
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from modgap.errors import InputError, UsageError, count
from modgap.forward.sample_request import SampleRequest
from modgap.forward.surrogate_target import default_surrogate
from modgap.sources import ImageInput, Source, open_source
from modgap.storage.algorithms import algorithm_versions, installed_version
from modgap.storage.cache import cache_key
from modgap.targets import Target, TargetRequest, manifest_names
from modgap.training.methods import get_method
from modgap.training.native_inputs import native_data, reads_native_input
from modgap.training.recipe import EmbedderStage, Recipe, conversion_record, resolve_recipe
from modgap.training.surrogate import Surrogate, open_surrogate
from modgap.training.trained_inputs import inputs_record
from modgap.training.training_data import Protocol, TargetData, read_target_data


@dataclass(frozen=True)
class TrainRequest:
    """A request to train a model.

    Attributes:
        method: Name of the method.
        source: Name of the source, as for `modgap.sources.open_source`. Empty for a baseline.
        target: Target to train on.
        overrides: Settings of the recipe as KEY=VALUE.
        protocol: `validation`, `orca` or `labeled`, see `modgap.training.training_data.read_target_data`.
        samples: Number of samples of each split, input size, device, and the seed of everything random. Its split,
            representation, dtype and batch size do not apply, because the protocol and the recipe decide them.
        weights: File or folder with the source's weights; None for the source's default weights.
    """

    method: str
    source: str
    target: TargetRequest
    overrides: tuple[str, ...] = ()
    protocol: Protocol = "validation"
    samples: SampleRequest = field(default_factory=SampleRequest)
    weights: str | None = None

    def __post_init__(self) -> None:
        """Raise if a field of the samples is set that does not apply."""
        self.samples.refuse_changes("split", "representation", "dtype", "batch_size", purpose="training")


class TrainSetup(NamedTuple):
    """All settings of a training, the data of its target, and the surrogate of its stages; None if they need none."""

    recipe: Recipe
    data: TargetData
    surrogate: Surrogate | None


def request_recipe(request: TrainRequest, target: Target) -> Recipe:
    """Return the settings of a request.

    Raises:
        UsageError: When a setting is unknown or invalid or not for the target, or an epoch that is to be kept does not
            exist.
    """
    method, manifest = get_method(request.method), target.manifest
    recipe = resolve_recipe(
        manifest, method.stage1_defaults(manifest), request.overrides, method.settings, method.rate_factor
    )
    stage = recipe.stage2
    if outside := [epoch for epoch in stage.keep_epochs if not 1 <= epoch <= stage.epochs]:
        raise UsageError(
            f"stage2.keep_epochs names epoch {outside[0]}, and stage 2 has {count(stage.epochs, 'epoch')}, numbered "
            "from 1. Name epochs that it has."
        )
    if request.protocol == "labeled" and (stage.choose == "best" or stage.patience is not None):
        setting, other = ("choose", "last") if stage.choose == "best" else ("patience", "none")
        raise UsageError(
            f'`protocol="labeled"` trains on the validation samples, so that none choose the epoch. Pass '
            f'`settings={{"stage2.{setting}": "{other}"}}`.'
        )
    _check_loss_settings(recipe, target)
    return recipe


def _check_loss_settings(recipe: Recipe, target: Target) -> None:
    """Raise if the loss of a target takes no class weights or no label smoothing, and the recipe has them."""
    task = target.manifest.task
    if task == "regression" and recipe.class_weights is not None:
        raise UsageError(
            f'`settings["class_weights"]` is for classes, and the target {target.name} has values to predict. '
            "Leave it out."
        )
    if task != "classification" and recipe.label_smoothing:
        kind = "values to predict" if task == "regression" else "several labels for each sample"
        raise UsageError(
            f'`settings["label_smoothing"]` is for targets with one class for each sample, and {target.name} has '
            f"{kind}. Leave it out."
        )
    options = {} if target.manifest.loss is None else target.manifest.loss.options
    if recipe.class_weights is not None and "positive_weight" in options:
        raise UsageError(
            f"The loss of the target {target.name} has a weight for positive labels, {options['positive_weight']}. "
            'Leave `settings["class_weights"]` out.'
        )


def set_up_run(request: TrainRequest) -> tuple[Source, TrainSetup, dict[str, Any]]:
    """Open the source, the data and the surrogate of a request, and resolve its settings; nothing is written.

    Returns:
        The source without its head, what `set_up_training` returns, and the settings of the run for its record; a
        resumed run must have the same.

    Raises:
        UsageError: When the request is invalid.
        InputError: When data or weights are missing or do not match.
    """
    target = request.target.open()
    # Called for its errors alone, which are raised before the source and the data are read.
    request_recipe(request, target)
    handle = open_source(request.source, weights=request.weights)
    samples = request.samples
    source = handle.load(samples.input_size, head=False)
    size = source.input.size if isinstance(source.input, ImageInput) else None
    data = read_target_data(
        target,
        protocol=request.protocol,
        limit=samples.limit,
        seed=samples.seed,
        size=size,
        standardized=not reads_native_input(get_method(request.method), target.manifest.input),
    )
    setup = set_up_training(request, source, data)
    record = settings_record(request, setup.data)
    record["recipe"] = setup.recipe.to_record()
    record["recipe_conversion"] = conversion_record(target.manifest)
    record["provenance"]["source"] = dict(handle.fingerprint())
    if setup.surrogate is not None:
        # The seed and the limit of the surrogate stand elsewhere in the record.
        provenance = {k: v for k, v in setup.surrogate.provenance.items() if k not in ("seed", "limit")}
        record["provenance"]["surrogate"] = provenance
    return source, setup, record


def set_up_training(request: TrainRequest, source: Source, data: TargetData) -> TrainSetup:
    """Resolve the settings of a request, and open its surrogate, for a source and data that are open.

    Raises:
        UsageError: When a setting is invalid.
        InputError: When the surrogate is missing.
    """
    method = get_method(request.method)
    recipe = request_recipe(request, data.target)
    if reads_native_input(method, data.target.manifest.input):
        data = native_data(data, source, recipe.target_sequence_length)
    # The surrogate is opened before the training, so that what is missing is noticed and recorded early.
    stages = method.stages_with_epochs(recipe)
    needs_surrogate = any(stage.objective_class.needs_surrogate(recipe) for stage in stages)
    return TrainSetup(recipe, data, _open_surrogate(request, recipe.stage1, source) if needs_surrogate else None)


def _open_surrogate(request: TrainRequest, settings: EmbedderStage, source: Source) -> Surrogate:
    """Open the first half of the labeled surrogate data; linear probes use the second half."""
    name = settings.surrogate
    split: str | None = settings.surrogate_split
    if name is None:
        name, default_split = default_surrogate(request.source)
        split = split or default_split
    try:
        return open_surrogate(
            name, source, split=split, half=0, limit=settings.surrogate_samples, seed=request.samples.seed
        )
    except InputError as error:
        # --data-dir of `modgap train` is the target's directory, so the message names another command.
        register = f"Register its data with: modgap data path {name} --data-dir DIR. "
        raise type(error)(
            f"{error} This concerns {name}, the surrogate of stage 1. "
            f"{register if name in manifest_names() else ''}"
            'To use another surrogate, pass `settings={"stage1.surrogate": "NAME"}`.'
        ) from error


def settings_record(request: TrainRequest, data: TargetData) -> dict[str, Any]:
    """Return the settings of a run for its record.

    The recipe and the provenance of the source are empty; the caller fills them in, where there are any.
    """
    target = data.target.fingerprint
    standardization = {}
    if data.y_standardization is not None:
        mean, sd = data.y_standardization
        standardization = {"mean": mean.tolist(), "sd": sd.tolist()}
    # A run on the CPU leaves GPUs alone.
    has_gpu = request.samples.device != "cpu" and torch.cuda.is_available()
    return {
        "method": request.method,
        "source": request.source,
        "target": request.target.name,
        "protocol": request.protocol,
        "seed": request.samples.seed,
        "limit": request.samples.limit,
        "input_size": request.samples.input_size,
        "recipe": {},
        "recipe_conversion": {},
        "samples": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "inputs": data.transform.to_dict(),
        "data": inputs_record(data),
        "output": {"task": data.output.task, "shape": list(data.output.shape), **standardization},
        "provenance": {
            "modgap": installed_version(),
            "algorithms": algorithm_versions("reading", "inference", "training"),
            "torch": torch.__version__,
            "source": {},
            "target": {"manifest": cache_key(target["manifest"]), "files": target["files"]},
            "surrogate": None,
        },
        # It may differ when a run is resumed elsewhere.
        "environment": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "device": request.samples.device,
            "gpu": torch.cuda.get_device_name() if has_gpu else None,
            "threads": torch.get_num_threads(),
        },
    }
