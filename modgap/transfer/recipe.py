"""How a run is trained: settings of both stages with defaults, the target's own recipe, and what the user sets."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from modgap.errors import UsageError, unknown_name
from modgap.targets import Manifest

__all__ = [
    "STAGES",
    "EmbedderStage",
    "FullStage",
    "OptimizerSettings",
    "Recipe",
    "choose_route",
    "find_unused_settings",
    "resolve_recipe",
    "stage_settings",
]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class OptimizerSettings(_Settings):
    """What moves the parameters, and how fast."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Of sgd.")
    batch_size: int = Field(default=64, ge=1, description="Samples that go through the model together.")
    gradient_accumulation: int = Field(default=1, ge=1, description="Batches of one update.")
    warmup_epochs: float = Field(default=0, ge=0, description="Linear rise of the learning rate.")
    decay_epochs: float | None = Field(default=None, gt=0, description="Where its linear fall ends at 0.")
    gradient_clip: float | None = Field(default=None, gt=0, description="Largest norm of the gradient.")


class EmbedderStage(OptimizerSettings):
    """Stage 1, which trains the embedder alone; of the methods that have it."""

    epochs: int = Field(default=10, ge=0)
    learning_rate: float = Field(default=3e-5, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    weight: float = Field(default=0.4, ge=0, alias="lambda", description="Lambda of equation (5).")
    alpha: float = Field(default=1e-2, gt=0, description="Learning rate of the virtual step, equations (2) and (3).")
    inner_steps: int = Field(default=1, ge=1, le=10, description="Virtual steps; more than one by the exact route.")
    route: Literal["exact", "finite-difference"] | None = Field(
        default=None,
        description="How the mixed product is taken; if absent, exact for convolutional sources and for several inner "
        "steps, else finite-difference.",
    )
    objective: Literal["alignment-uniformity", "supervised-contrastive", "davies-bouldin"] = "alignment-uniformity"
    uniform_pairs: Literal["different-classes", "all"] = Field(
        default="different-classes", description="Pairs of the uniformity."
    )
    task_loss: bool = Field(default=True, description="Whether L_t is part of equation (5); false is an ablation.")
    predictor_epochs: int = Field(default=0, ge=0, description="Epochs that train the predictor alone beforehand.")
    surrogate: str | None = Field(default=None, description="Labeled source data; the source's own if absent.")
    surrogate_split: Literal["train", "val", "test"] | None = Field(
        default=None, description="Which samples of a surrogate named here; the training split if absent."
    )
    surrogate_batch: int = Field(default=64, ge=2)
    surrogate_samples: int = Field(default=5000, ge=2, description="At most; half of what there is is left for probes.")
    samples_per_class: int = Field(default=128, ge=2, description="Of the target in one alignment by orca.")

    @model_validator(mode="after")
    def _steps_fit_the_route(self) -> "EmbedderStage":
        if self.inner_steps > 1 and self.route == "finite-difference":
            raise ValueError(f"stage1.inner_steps={self.inner_steps} needs stage1.route=exact")
        return self


class FullStage(OptimizerSettings):
    """Stage 2: fine-tuning of all that the method trains."""

    epochs: int = Field(default=30, ge=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_epochs: float = Field(default=2, ge=0)
    gradient_clip: float | None = Field(default=1.0, gt=0)
    augmentation: Literal["none", "crop-flip"] = Field(default="none", description="Of images.")
    patience: int | None = Field(default=None, ge=1, description="Epochs without improvement after which it stops.")
    choose: Literal["best", "last"] = Field(default="best", description="Which epoch is tested, by validation error.")
    keep_epochs: tuple[int, ...] = Field(default=(), description="Epochs whose weights are kept.")


class Recipe(_Settings):
    """All settings of a run."""

    stage1: EmbedderStage = Field(default_factory=EmbedderStage)
    stage2: FullStage = Field(default_factory=FullStage)
    target_sequence_length: int | None = Field(default=None, ge=1, description="Tokens of a series at most.")
    precision: Literal["float32", "bfloat16", "float64"] = Field(
        default="float32", description="bfloat16 is mixed: parameters stay float32."
    )
    gradient_checkpointing: bool = False
    checkpoint_seconds: float = Field(default=60, ge=0, description="Between checkpoints within an epoch.")


STAGES: dict[str, type[BaseModel]] = {"stage1": EmbedderStage, "stage2": FullStage}


def resolve_recipe(
    manifest: Manifest, defaults: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> Recipe:
    """The defaults, then the manifest's recipe, then the method's, then the user's `key=value`.

    Args:
        manifest: Of the target; its `training` is the benchmark's recipe.
        defaults: Stage 1's settings where the method has its own.
        overrides: Such as `stage1.epochs=5` or `stage2.optimizer=sgd`.

    Raises:
        UsageError: When a key is unknown or a value does not fit.
    """
    record: dict[str, Any] = {"stage1": {}, "stage2": {}}
    _take_training(record, manifest)
    record["stage1"].update(defaults or {})
    for text in overrides:
        _override(record, text)
    try:
        return Recipe.model_validate(record)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"the settings of this run do not fit: {faults}") from error


def choose_route(recipe: Recipe, *, kinks: bool) -> Recipe:
    """The recipe with its route chosen.

    Args:
        recipe: All settings.
        kinks: Whether the source is a network of ReLUs: it has kinks in place of a second derivative, which differences
            step across, so that they say nothing of it.
    """
    stage = recipe.stage1
    if stage.route is not None:
        return recipe
    route = "exact" if kinks or stage.inner_steps > 1 else "finite-difference"
    return recipe.model_copy(update={"stage1": stage.model_copy(update={"route": route})})


OF_SURROGATES = ("surrogate", "surrogate_split", "surrogate_batch", "surrogate_samples")
OF_OBJECTIVES = {
    "mona": ("lambda", "alpha", "inner_steps", "route", "objective", "uniform_pairs", "task_loss", *OF_SURROGATES),
    "otdd": ("samples_per_class", *OF_SURROGATES),
}
"""Settings of stage 1 that only some objectives look at."""


def stage_settings(model: type[BaseModel], objectives: Collection[str]) -> dict[str, tuple[Any, str]]:
    """Settings by the name that the user gives them, with default and meaning, that these objectives look at."""
    others = {name for objective, names in OF_OBJECTIVES.items() if objective not in objectives for name in names}
    others -= {name for objective in objectives for name in OF_OBJECTIVES.get(objective, ())}
    return {
        field.alias or name: (field.get_default(call_default_factory=True), field.description or "")
        for name, field in model.model_fields.items()
        if (field.alias or name) not in others
    }


def find_unused_settings(overrides: Sequence[str], stages: Collection[str], objectives: Collection[str]) -> list[str]:
    """Settings that the user gives and that stages and objectives do not look at.

    Args:
        overrides: As for `resolved_recipe`.
        stages: Among `stage1` and `stage2`.
        objectives: Of the method.
    """
    used = {f"{stage}.{name}" for stage in stages for name in stage_settings(STAGES[stage], objectives)}
    given = (text.partition("=")[0].strip() for text in overrides)
    return [key for key in given if "." in key and key not in used]


SHARED = ("batch_size", "gradient_accumulation")
OWN = ("epochs", "optimizer", "learning_rate", "weight_decay", "momentum", "warmup_epochs", "decay_epochs")


def _take_training(record: dict[str, Any], manifest: Manifest) -> None:
    training = manifest.training
    if training is None:
        return
    given = training.model_dump(exclude_none=True)
    record["stage2"] |= {name: given[name] for name in (*OWN, *SHARED) if name in given}
    record["stage2"]["gradient_clip"] = given.get("gradient_clip")
    record["stage1"] |= {name: given[name] for name in SHARED if name in given}
    record["target_sequence_length"] = given.get("target_sequence_length")
    if "crop" in (training.augmentation or "") and "flip" in (training.augmentation or ""):
        record["stage2"]["augmentation"] = "crop-flip"


def _override(record: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise UsageError(f"expected --set KEY=VALUE such as stage1.epochs=5, got {text!r}")
    known = [*(f"{stage}.{name}" for stage, model in STAGES.items() for name in _names(model)),
             *(name for name in Recipe.model_fields if name not in STAGES)]  # fmt: skip
    if ".".join(path) not in known:
        raise unknown_name("setting", key, known)
    place = record if len(path) == 1 else record[path[0]]
    place[path[-1]] = _parsed(value.strip())


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _parsed(value: str) -> Any:
    """A TOML value; what is none is text. `none` is nothing."""
    if value.lower() == "none":
        return None
    try:
        return tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return value
