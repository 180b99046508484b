"""What a method is: its stages, and in each what is trained and by which objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modgap.models import TargetModel, normalization_parameters
from modgap.targets import Manifest

__all__ = [
    "Method",
    "Stage",
    "embedder",
    "embedder_and_predictor",
    "everything",
    "full_stage",
    "normalization",
    "predictor",
    "two_stages",
]

Trains = Callable[[TargetModel], list[str]]


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: In logs and folders.
        settings: Which part of the recipe it goes by.
        trains: The model to names of the parameters that it trains.
        objective: `task` is L_t (1), `mona` equation (5), `otdd` the alignment of orca.
        epochs: Name of the setting that says for how long.
    """

    name: str
    settings: Literal["stage1", "stage2"]
    trains: Trains
    objective: Literal["task", "mona", "otdd"] = "task"
    epochs: str = "epochs"


@dataclass(frozen=True)
class Method:
    """A way of transferring.

    Attributes:
        name: As in `modgap train --method`.
        title: What it does, in a line.
        reference: Where it is described.
        stages: In order.
        embedder_start: Start of the embedder: random, or the source embedder's weights.
        pretrained_encoder: Whether the encoder starts from the source's weights.
        defaults: The target's manifest to stage-1 settings of its own.
    """

    name: str
    title: str
    reference: str
    stages: tuple[Stage, ...]
    embedder_start: Literal["random", "source"] = "random"
    pretrained_encoder: bool = True
    defaults: Callable[[Manifest], Mapping[str, Any]] = lambda manifest: {}

    @property
    def trains_embedder_first(self) -> bool:
        """Whether it has a stage-1 embedder, which the discrepancy can be measured with."""
        return any(stage.settings == "stage1" for stage in self.stages)


def _under(*parts: str) -> Trains:
    def names(model: TargetModel) -> list[str]:
        return [name for name, _ in model.named_parameters() if name.split(".")[0] in parts]

    return names


embedder = _under("embedder")
predictor = _under("predictor")
everything = _under("embedder", "encoder", "predictor")
embedder_and_predictor = _under("embedder", "predictor")


def normalization(model: TargetModel) -> list[str]:
    """Embedder, predictor, and the scales and shifts of the encoder's normalization layers."""
    chosen = {f"encoder.{name}" for name in normalization_parameters(model.encoder)}
    return [name for name, _ in model.named_parameters() if name in chosen or not name.startswith("encoder.")]


def full_stage(trains: Trains = everything) -> Stage:
    """Stage 2: the task loss on all that is trained."""
    return Stage("stage2", "stage2", trains)


def two_stages(objective: Literal["task", "mona", "otdd"]) -> tuple[Stage, ...]:
    """The embedder by an objective, after the predictor alone where the recipe asks for it; then everything."""
    warm_up = Stage("predictor", "stage1", predictor, epochs="predictor_epochs")
    return warm_up, Stage("stage1", "stage1", embedder, objective), full_stage()
