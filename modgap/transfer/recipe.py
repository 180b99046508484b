"""Settings of a training run: defaults of both stages, the target's recipe, and the user's overrides."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from modgap.errors import UsageError, unknown_name
from modgap.targets import Manifest
from modgap.transfer.benchmark_recipe import benchmark_augmentation, benchmark_settings

__all__ = [
    "STAGES",
    "EmbedderStage",
    "FullStage",
    "OptimizerSettings",
    "Recipe",
    "borrowed_settings",
    "choose_route",
    "find_unused_settings",
    "resolve_recipe",
    "stage_settings",
]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


Moment = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSettings(_Settings):
    """Settings of the optimizer and of its learning-rate schedule."""

    optimizer: Literal["adam", "adamw", "sgd"] = Field(default="adamw", description="Optimizer.")
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd; other optimizers ignore it.")
    betas: tuple[Moment, Moment] = Field(
        default=(0.9, 0.999), description="Decay rates of the moments of adam and adamw; sgd ignores them."
    )
    batch_size: int = Field(default=64, ge=1, description="Samples that pass through the model together.")
    gradient_accumulation: int = Field(default=1, ge=1, description="Batches whose gradients make one update.")
    warmup_epochs: float = Field(default=0, ge=0, description="Epochs of the linear rise of the learning rate.")
    decay_epochs: float | None = Field(
        default=None, gt=0, description="Epoch at which the decay of the learning rate ends at 0."
    )
    decay: Literal["linear", "cosine"] = Field(
        default="linear", description="Shape of the decay of the learning rate, if decay_epochs is set."
    )
    drop_epochs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="Epochs after which the learning rate drops to a fifth, each time once more."
    )
    gradient_clip: float | None = Field(
        default=None, gt=0, description="Largest norm of the gradient; a larger gradient is scaled down to it."
    )


class EmbedderStage(OptimizerSettings):
    """Settings of stage 1, which trains the embedder alone."""

    epochs: int = Field(default=10, ge=0, description="Passes over the training samples.")
    learning_rate: float = Field(default=3e-5, gt=0, description="Learning rate after the warm-up.")
    weight_decay: float = Field(default=0.1, ge=0, description="Weight decay of the optimizer.")
    weight: float = Field(default=0.4, ge=0, alias="lambda", description="Lambda of equation (5).")
    alpha: float = Field(default=1e-2, gt=0, description="Learning rate of the virtual step, equations (2) and (3).")
    inner_steps: int = Field(
        default=1, ge=1, le=10, description="Number of virtual steps; more than one needs route=exact."
    )
    route: Literal["exact", "finite-difference"] | None = Field(
        default=None,
        description="How the mixed product is computed; if absent, exact for convolutional sources, for several inner "
        "steps and in bfloat16, otherwise finite-difference.",
    )
    objective: Literal["alignment-uniformity", "supervised-contrastive", "davies-bouldin"] = Field(
        default="alignment-uniformity", description="Outer loss on the surrogate's features, equation (4)."
    )
    uniform_pairs: Literal["different-classes", "all"] = Field(
        default="different-classes", description="Pairs of samples over which the uniformity is computed."
    )
    task_loss: bool = Field(default=True, description="If false, equation (5) is without L_t (an ablation).")
    predictor_epochs: int = Field(
        default=0, ge=0, description="Epochs that train the predictor alone before the embedder."
    )
    surrogate: str | None = Field(
        default=None, description="Labeled data of the source's modality; if absent, the source's default surrogate."
    )
    surrogate_split: Literal["train", "val", "test"] | None = Field(
        default=None, description="Split of the named surrogate that is used; the training split if absent."
    )
    surrogate_batch: int = Field(default=64, ge=2, description="Surrogate samples of one update.")
    surrogate_samples: int = Field(
        default=5000,
        ge=2,
        description="Largest number of surrogate samples; half of the surrogate is left for linear probes.",
    )
    samples_per_class: int = Field(
        default=128, ge=2, description="Largest number of target samples of a class in one alignment by orca."
    )

    @model_validator(mode="after")
    def _check_inner_steps(self) -> "EmbedderStage":
        if self.inner_steps > 1 and self.route == "finite-difference":
            raise ValueError(f"stage1.inner_steps={self.inner_steps} needs stage1.route=exact")
        return self


class FullStage(OptimizerSettings):
    """Settings of stage 2, which fine-tunes every parameter that the method trains."""

    epochs: int = Field(default=30, ge=0, description="Passes over the training samples.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate after the warm-up.")
    weight_decay: float = Field(default=0.05, ge=0, description="Weight decay of the optimizer.")
    warmup_epochs: float = Field(default=2, ge=0, description="Epochs of the linear rise of the learning rate.")
    gradient_clip: float | None = Field(
        default=1.0, gt=0, description="Largest norm of the gradient; a larger gradient is scaled down to it."
    )
    augmentation: Annotated[
        Literal["none", "crop-flip", "spec-augment", "noise-spec-augment", "background-level"],
        BeforeValidator(lambda value: "none" if value is None else value),
    ] = Field(default="none", description="Random augmentation of the training images or spectrograms.")
    anchor: float = Field(
        default=10,
        ge=0,
        description="Weight of half the squared distance of the encoder's parameters to the source's. Its gradient is "
        "applied apart from that of the loss; the encoder then has no weight decay.",
    )
    replay: float = Field(
        default=1.0, ge=0, description="Weight of the loss of a fixed linear probe on surrogate samples."
    )
    lora_rank: int = Field(default=8, ge=1, description="Rank of the changes of the encoder's layers.")
    lora_alpha: float = Field(
        default=16, gt=0, description="Scale of the changes: they are multiplied by lora_alpha / lora_rank."
    )
    lora_targets: tuple[str, ...] = Field(
        default=(),
        description="Names of the layers that are changed, such as qkv; all linear and ungrouped convolutional layers "
        "if empty.",
    )
    patience: int | None = Field(
        default=None, ge=1, description="Epochs without improvement after which training stops."
    )
    choose: Literal["best", "last"] = Field(
        default="best", description="Epoch whose weights are tested: the lowest validation error, or the last one."
    )
    keep_epochs: tuple[int, ...] = Field(default=(), description="Epochs whose weights are saved in DIR/epochs.")


class Recipe(_Settings):
    """All settings of a training run."""

    stage1: EmbedderStage = Field(default_factory=EmbedderStage)
    stage2: FullStage = Field(default_factory=FullStage)
    target_sequence_length: int | None = Field(
        default=None, ge=1, description="Largest number of tokens of a target sample, for sources of text."
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Probability of every dropout of the model; its own if absent."
    )
    precision: Literal["float32", "bfloat16", "float64"] = Field(
        default="float32", description="Number format; bfloat16 is mixed precision, with parameters in float32."
    )
    compile_model: bool = Field(
        default=False, description="Compile the model for stage 2 (torch.compile), which takes minutes at the start."
    )
    merge_batches: bool | None = Field(
        default=None,
        description="Let the accumulated batches of an update pass through the model together; if absent, on a GPU, "
        "unless the model has batch normalization. Less memory halves the batch again.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass to save memory."
    )
    loader_workers: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Processes that read samples; with 0 a thread reads them. Results are equal.",
    )
    checkpoint_seconds: float = Field(default=60, ge=0, description="Seconds between checkpoints within an epoch.")
    keep_checkpoint: bool = Field(
        default=True, description="Keep the last checkpoint of a finished run, so that --resume can add epochs."
    )


STAGES: dict[str, type[BaseModel]] = {"stage1": EmbedderStage, "stage2": FullStage}
"""Sections of the recipe that belong to a stage."""


def resolve_recipe(
    manifest: Manifest, defaults: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> Recipe:
    """Return the settings of a run: the defaults, then the target's recipe, the method's and the user's settings.

    Args:
        manifest: Manifest of the target; its `training` is the benchmark's recipe.
        defaults: Stage-1 settings in which the method differs from the recipe; None for none.
        overrides: The user's settings as KEY=VALUE, such as `stage1.epochs=5` or `stage2.optimizer=sgd`.

    Raises:
        UsageError: When a key is unknown, or a value is invalid.
    """
    record: dict[str, Any] = {"stage1": {}, "stage2": {}}
    _add_target_recipe(record, manifest)
    record["stage1"].update(defaults or {})
    for text in overrides:
        _add_override(record, text)
    try:
        return _with_default_schedule(Recipe.model_validate(record), manifest, record["stage2"])
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}." for fault in error.errors()]
        raise UsageError(
            f"The training settings are invalid. {' '.join(faults)} Correct them with --set KEY=VALUE."
        ) from error


def _with_default_schedule(recipe: Recipe, manifest: Manifest, given: Mapping[str, Any]) -> Recipe:
    """Return the recipe with a decay over stage 2, a cosine by default, if neither a benchmark nor the user ends it."""
    stage = recipe.stage2
    if manifest.training is not None or "decay_epochs" in given or not stage.epochs:
        return recipe
    schedule = {"decay": given.get("decay", "cosine"), "decay_epochs": float(stage.epochs)}
    return recipe.model_copy(update={"stage2": stage.model_copy(update=schedule)})


def choose_route(recipe: Recipe, *, kinks: bool) -> Recipe:
    """Return the recipe with a route for the mixed product, where the user has set none.

    Args:
        recipe: All settings.
        kinks: True if the source is a network of ReLUs. Such a network has kinks in place of a second derivative.
            Finite differences step across the kinks, so they do not estimate the mixed product. In reduced precision
            they would drown in the rounding, so they are not the default there either.
    """
    stage = recipe.stage1
    if stage.route is not None:
        return recipe
    reduced = recipe.precision == "bfloat16"
    route = "exact" if kinks or reduced or stage.inner_steps > 1 else "finite-difference"
    return recipe.model_copy(update={"stage1": stage.model_copy(update={"route": route})})


SURROGATE_SETTINGS = ("surrogate", "surrogate_split", "surrogate_batch", "surrogate_samples")
MONA_SETTINGS = ("lambda", "alpha", "inner_steps", "route", "objective", "uniform_pairs", "task_loss")
OBJECTIVE_SETTINGS = {
    "mona": (*MONA_SETTINGS, *SURROGATE_SETTINGS),
    "otdd": ("samples_per_class", *SURROGATE_SETTINGS),
    "anchored": ("anchor",),
    "replay": ("replay", *SURROGATE_SETTINGS),
    "lora": ("lora_rank", "lora_alpha", "lora_targets"),
}
"""Settings that only some objectives and adapters use, by objective or name of the adapter."""


def stage_settings(model: type[BaseModel], objectives: Collection[str]) -> dict[str, tuple[Any, str]]:
    """Return (default, meaning) of each setting that some objectives use, by the setting's name for the user.

    Args:
        model: Section of the recipe, or the recipe itself.
        objectives: Objectives of the method, see `Method.objectives`.
    """
    used = {name for objective in objectives for name in OBJECTIVE_SETTINGS.get(objective, ())}
    unused = {name for names in OBJECTIVE_SETTINGS.values() for name in names} - used
    return {
        field.alias or name: (field.get_default(call_default_factory=True), field.description or "")
        for name, field in model.model_fields.items()
        if (field.alias or name) not in unused
    }


def borrowed_settings(objectives: Collection[str]) -> tuple[str, ...]:
    """Return the settings of stage 1 that objectives of stage 2 use: those of the surrogate, for `replay`."""
    return SURROGATE_SETTINGS if "replay" in objectives else ()


def find_unused_settings(overrides: Sequence[str], stages: Collection[str], objectives: Collection[str]) -> list[str]:
    """Return the keys of the user's settings that a method does not use.

    Args:
        overrides: The user's settings, as for `resolve_recipe`.
        stages: Recipe sections that the method uses, among `stage1` and `stage2`.
        objectives: Objectives of the method.
    """
    used = {f"{stage}.{name}" for stage in stages for name in stage_settings(STAGES[stage], objectives)}
    used |= {f"stage1.{name}" for name in borrowed_settings(objectives)}
    keys = (text.partition("=")[0].strip() for text in overrides)
    return [key for key in keys if "." in key and key not in used]


BATCH_FIELDS = ("batch_size", "gradient_accumulation")
"""Settings of a target's recipe that apply to both stages."""
SCHEDULE_FIELDS = (
    "epochs", "optimizer", "learning_rate", "weight_decay", "momentum", "betas", "warmup_epochs", "decay_epochs"
)  # fmt: skip
"""Settings of a target's recipe that apply to stage 2 alone."""


def _add_target_recipe(record: dict[str, Any], manifest: Manifest) -> None:
    training = manifest.training
    if training is None:
        return
    settings = benchmark_settings(manifest)
    record["stage2"] |= {name: settings[name] for name in (*SCHEDULE_FIELDS, *BATCH_FIELDS) if name in settings}
    record["stage2"]["gradient_clip"] = settings.get("gradient_clip")
    record["stage1"] |= {name: settings[name] for name in BATCH_FIELDS if name in settings}
    record["target_sequence_length"] = settings.get("target_sequence_length")
    record["dropout"] = settings.get("dropout")
    if (augmentation := benchmark_augmentation(manifest)[0]) is not None:
        record["stage2"]["augmentation"] = augmentation


def _add_override(record: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise UsageError(f"--set {text!r} is not of the form KEY=VALUE. Pass for example --set stage1.epochs=5.")
    keys = _all_keys()
    if ".".join(path) not in keys:
        raise unknown_name("setting", key, keys)
    section = record if len(path) == 1 else record[path[0]]
    section[path[-1]] = _parse_value(value.strip())


def _all_keys() -> list[str]:
    """Return every key that `--set` accepts."""
    keys = [
        f"{stage}.{field.alias or name}"
        for stage, model in STAGES.items()
        for name, field in model.model_fields.items()
    ]
    return keys + [name for name in Recipe.model_fields if name not in STAGES]


def _parse_value(value: str) -> Any:
    """Parse a TOML value; `none` is None, and text that is not valid TOML is returned as it is."""
    if value.lower() == "none":
        return None
    try:
        return tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return value
