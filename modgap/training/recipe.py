"""Settings of a training run: defaults of both stages, the target's recipe, and the user's overrides."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model, model_validator

from modgap.errors import UsageError, unknown_name
from modgap.targets import Manifest


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
    decay_norms: bool = Field(
        default=True, description="If false, the scales and shifts of norms and the biases have no weight decay."
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
    route: Literal["exact", "finite-difference"] = Field(
        default="exact", description="How the mixed product is computed; finite-difference needs less memory."
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
    embedder_rate_factor: float = Field(default=1, gt=0, description="Factor of the embedder's learning rate.")
    encoder_rate_factor: float = Field(default=1, gt=0, description="Factor of the encoder's learning rate.")
    predictor_rate_factor: float = Field(default=1, gt=0, description="Factor of the predictor's learning rate.")
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay of an exponential moving average of the weights, such as 0.99. The averaged weights are "
        "validated, tested and kept; if absent, those of the last update are.",
    )
    patience: int | None = Field(
        default=None, ge=1, description="Epochs without improvement after which training stops."
    )
    choose: Literal["best", "last"] = Field(
        default="best", description="Epoch whose weights are tested: the lowest validation error, or the last one."
    )
    keep_epochs: tuple[int, ...] = Field(default=(), description="Epochs whose weights are saved in DIR/epochs.")


class MethodSettings(_Settings):
    """Settings that a method adds to the recipe. A method with such settings declares them in a subclass."""


class Recipe(_Settings):
    """All settings of a training run."""

    stage1: EmbedderStage = Field(default_factory=EmbedderStage)
    stage2: FullStage = Field(default_factory=FullStage)
    method: MethodSettings = Field(default_factory=MethodSettings)
    class_weights: Literal["balanced"] | None = Field(
        default=None,
        description="Weights of the classes in the loss: with balanced, n / (K n_k) for each of the n_k training "
        "samples of a class, so that all K classes weigh the same in total; if absent, 1.",
    )
    label_smoothing: float = Field(
        default=0, ge=0, lt=1, description="Share of the label that is spread evenly over all classes."
    )
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

    def to_record(self) -> dict[str, Any]:
        """Return the settings as plain values, without options that are off and the section of a method without one."""
        record = self.model_dump(mode="json", by_alias=True)
        for section in (record, *(record[name] for name in STAGES)):
            for name, off in OPTIONS.items():
                if name in section and section[name] == off:
                    del section[name]
        return record if type(self.method).model_fields else {k: v for k, v in record.items() if k != "method"}


OPTIONS: Mapping[str, object] = {
    "class_weights": None,
    "label_smoothing": 0,
    "decay_norms": True,
    "embedder_rate_factor": 1,
    "encoder_rate_factor": 1,
    "predictor_rate_factor": 1,
    "ema_decay": None,
}
"""Values of options that are off. The record of a run leaves these out, as earlier versions without the options did."""
STAGES: dict[str, type[BaseModel]] = {"stage1": EmbedderStage, "stage2": FullStage}
"""Sections of the recipe that belong to a stage."""


def resolve_recipe(
    manifest: Manifest,
    defaults: Mapping[str, object] | None = None,
    overrides: Sequence[str] = (),
    method_settings: type[MethodSettings] = MethodSettings,
    rate_factor: float = 1.0,
) -> Recipe:
    """Return the settings of a run: the defaults, then the target's recipe, the method's and the user's settings.

    Args:
        manifest: Manifest of the target; its `training` is the benchmark's recipe.
        defaults: Stage-1 settings in which the method differs from the recipe; None for none.
        overrides: The user's settings as KEY=VALUE, such as `stage1.epochs=5` or `stage2.optimizer=sgd`.
        method_settings: Model of the settings that the method adds.
        rate_factor: Factor of the learning rate of stage 2, unless the user sets the rate.

    Raises:
        UsageError: When a key is unknown, or a value is invalid.
    """
    sections = {**STAGES, "method": method_settings}
    record: dict[str, Any] = {section: {} for section in sections}
    _add_target_recipe(record, manifest)
    record["stage1"].update(defaults or {})
    if rate_factor != 1:
        rate = record["stage2"].get("learning_rate", FullStage().learning_rate)
        record["stage2"]["learning_rate"] = rate_factor * rate
    for text in overrides:
        _add_override(record, text, sections)
    model = Recipe
    if method_settings is not MethodSettings:
        method_field = (method_settings, Field(default_factory=method_settings))
        model = create_model("Recipe", __base__=Recipe, method=method_field)
    try:
        recipe = model.model_validate(record)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}." for fault in error.errors()]
        raise UsageError(
            f'The training settings are invalid. {" ".join(faults)} Correct them with `settings={{"KEY": VALUE}}`.'
        ) from error
    for name, stage in (("stage1", recipe.stage1), ("stage2", recipe.stage2)):
        ends, is_given = stage.decay_epochs, any(text.startswith(f"{name}.decay_epochs") for text in overrides)
        if is_given and ends and ends <= stage.warmup_epochs and ends < stage.epochs:
            raise UsageError(
                f"{name}.decay_epochs={ends:g} is not after the warm-up of {stage.warmup_epochs:g} epochs. Give a "
                f'later epoch, or less warm-up: `settings={{"{name}.warmup_epochs": 0}}`.'
            )
    stage, stated = recipe.stage2, record["stage2"]
    if manifest.training is not None or "decay_epochs" in stated or not stage.epochs:
        return recipe
    # Where neither a benchmark nor the user ends the decay, it goes over stage 2, by default as a cosine.
    schedule = {"decay": stated.get("decay", "cosine"), "decay_epochs": float(stage.epochs)}
    return recipe.model_copy(update={"stage2": stage.model_copy(update=schedule)})


def describe_settings(model: type[BaseModel]) -> dict[str, tuple[object, str]]:
    """Return (default, meaning) of each setting of a section of the recipe, by the setting's name for the user."""
    return {
        field.alias or name: (field.get_default(call_default_factory=True), field.description or "")
        for name, field in model.model_fields.items()
    }


def is_real_setting(key: str) -> bool:
    """Return True if a setting of the recipe, such as `stage2.dropout`, is a real number."""
    section, _, name = key.rpartition(".")
    sections: dict[str, type[BaseModel]] = {"": Recipe, "stage1": EmbedderStage, "stage2": FullStage}
    fields = sections[section].model_fields if section in sections else {}
    types = [field.annotation for field_name, field in fields.items() if (field.alias or field_name) == name]
    return any(float in (one, *get_args(one)) for one in types)


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


def _add_override(record: dict[str, Any], text: str, sections: Mapping[str, type[BaseModel]]) -> None:
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise UsageError(
            f'`settings` {text!r} is not of the form KEY=VALUE. Pass for example `settings={{"stage1.epochs": 5}}`.'
        )
    keys = [f"{section}.{name}" for section, model in sections.items() for name in describe_settings(model)]
    keys += [name for name in Recipe.model_fields if name not in sections]
    if ".".join(path) not in keys:
        raise unknown_name("setting", key, keys)
    section = record if len(path) == 1 else record[path[0]]
    value = value.strip()
    try:
        section[path[-1]] = None if value.lower() == "none" else tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        # Text that is not valid TOML stands for itself.
        section[path[-1]] = value


# Recipes of benchmarks. Those in the manifests are ORCA's (Shen et al., ICML 2023), whose code adds the gradients of A
# batches before an update. modgap averages them, so that a rate means the same for every A. The two rules make equal
# updates if
#
# - `sgd` has A times the rate and 1/A of the decay: rate (sum + decay w) = A rate (mean + decay w / A);
# - `adam`, whose decay is part of the gradient and whose steps do not depend on the gradient's scale, has 1/A of the
#   decay;
# - `adamw`, whose decay is apart from the gradient, is unchanged;
# - gradients are clipped at 1/A of the norm.


def benchmark_settings(manifest: Manifest) -> dict[str, Any]:
    """Return the settings of a manifest's recipe, for updates with the mean gradient; empty if it has none."""
    if manifest.training is None:
        return {}
    settings = manifest.training.model_dump(exclude_none=True)
    n_batches = settings.get("gradient_accumulation", 1)
    optimizer = settings.get("optimizer", "adamw")
    factors = {"gradient_clip": 1 / n_batches}
    if optimizer == "sgd":
        factors["learning_rate"] = n_batches
    if optimizer in ("sgd", "adam"):
        factors["weight_decay"] = 1 / n_batches
    if n_batches == 1:
        return settings
    return settings | {name: settings[name] * factor for name, factor in factors.items() if name in settings}


AUGMENTATIONS = {
    ("crop", "flip"): "crop-flip",
    ("background noise", "SpecAugment"): "noise-spec-augment",
    ("SpecAugment",): "spec-augment",
    ("sky level",): "background-level",
}
"""Settings of stage 2 by words that occur in the description of a recipe's augmentation."""


def benchmark_augmentation(manifest: Manifest) -> tuple[str | None, str]:
    """Return the augmentation of a recipe as a setting of stage 2, and the part of it that modgap does not have.

    Returns:
        The setting, None if there is none; and the description of the missing part, empty if nothing is missing.
    """
    stated = None if manifest.training is None else manifest.training.augmentation
    if stated is None:
        return None, ""
    for phrases, name in AUGMENTATIONS.items():
        if all(word in stated for word in phrases):
            parts = [part.strip() for part in stated.split(";")]
            return name, "; ".join(part for part in parts if not any(word in part for word in phrases))
    return None, stated


def conversion_record(manifest: Manifest) -> dict[str, dict[str, float]]:
    """Return the settings that the conversion changed, each as in the recipe and as used; empty if there are none."""
    published = {} if manifest.training is None else manifest.training.model_dump(exclude_none=True)
    used = benchmark_settings(manifest)
    return {name: {"recipe": value, "used": used[name]} for name, value in published.items() if used[name] != value}
