"""Definition of a transfer method: its stages, the parameters that each trains, and the objective of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modgap.models import TargetModel, normalization_parameters
from modgap.targets import Manifest
from modgap.transfer.recipe import FullStage

__all__ = [
    "Adapter",
    "Method",
    "ParameterSelector",
    "Stage",
    "all_parameters",
    "embedder_and_predictor_parameters",
    "embedder_parameters",
    "fpt_parameters",
    "full_stage",
    "predictor_parameters",
    "two_stages",
]

Objective = Literal["task", "mona", "otdd", "anchored", "replay"]
ParameterSelector = Callable[[TargetModel], list[str]]
"""A function that returns the names of some of a model's parameters."""


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: Name of the stage in logs and progress messages.
        recipe_section: Section of the recipe whose settings the stage uses.
        select_parameters: Function that returns the names of the parameters that the stage trains.
        objective: `task` is L_t (1), `mona` is the combined loss of equation (5), `otdd` is ORCA's alignment,
            `anchored` is L_t with a penalty on the distance of the encoder to the source's weights, and `replay` is L_t
            with the loss of a linear probe on surrogate samples.
        epochs_setting: Name of the setting in that section that gives the number of epochs.
        holds_statistics: True if batch normalization in the encoder uses the source's running statistics and does not
            update them, because the stage is to hold the source.
    """

    name: str
    recipe_section: Literal["stage1", "stage2"]
    select_parameters: ParameterSelector
    objective: Objective = "task"
    epochs_setting: str = "epochs"
    holds_statistics: bool = False


@dataclass(frozen=True)
class Adapter:
    """Changes of an encoder that are trained in place of its own parameters, and then merged into these.

    Attributes:
        name: Name under which the recipe lists the settings that it uses.
        add: Function that adds the changes to a model, given the settings of stage 2; the model computes the same as
            before. PyTorch's random state is seeded when it is called.
        merge: Function that merges the changes, so that the model has the parameters that it had before `add`.
    """

    name: str
    add: Callable[[TargetModel, FullStage], None]
    merge: Callable[[TargetModel], None]


@dataclass(frozen=True)
class Method:
    """A method that transfers a source model to a target.

    Attributes:
        name: Name as in `modgap train --method`.
        title: Description of the method in one line.
        reference: Publication that describes the method.
        stages: Stages in the order in which they run.
        embedder_start: Start of the embedder: random, or the weights of the source's own embedder.
        pretrained_encoder: True if the encoder starts from the source's weights, False if it starts at random.
        stage1_defaults: Function from the target's manifest to the stage-1 settings in which the method differs
            from the recipe; by default there are none.
        adapter: Changes of the encoder that are trained in place of its parameters; None for none.
    """

    name: str
    title: str
    reference: str
    stages: tuple[Stage, ...]
    embedder_start: Literal["random", "source"] = "random"
    pretrained_encoder: bool = True
    stage1_defaults: Callable[[Manifest], Mapping[str, Any]] = lambda _: {}
    adapter: Adapter | None = None

    @property
    def objectives(self) -> set[str]:
        """Objectives of the stages, and the name of the adapter: what decides which settings of the recipe apply."""
        return {stage.objective for stage in self.stages} | ({self.adapter.name} if self.adapter else set())

    @property
    def has_embedder_stage(self) -> bool:
        """True if stage 1 trains an embedder, with which the discrepancy can be measured."""
        return any(stage.recipe_section == "stage1" for stage in self.stages)


def _parameters_of(*modules: str) -> ParameterSelector:
    def select_names(model: TargetModel) -> list[str]:
        return [name for name, _ in model.named_parameters() if name.split(".")[0] in modules]

    return select_names


embedder_parameters = _parameters_of("embedder")
predictor_parameters = _parameters_of("predictor")
all_parameters = _parameters_of("embedder", "encoder", "predictor")
embedder_and_predictor_parameters = _parameters_of("embedder", "predictor")


def fpt_parameters(model: TargetModel) -> list[str]:
    """Return the names of embedder, predictor, and the scales and shifts of the encoder's normalization layers."""
    normalization = {f"encoder.{name}" for name in normalization_parameters(model.encoder)}
    names = [name for name, _ in model.named_parameters()]
    return [name for name in names if name in normalization or not name.startswith("encoder.")]


def full_stage(
    select_parameters: ParameterSelector = all_parameters,
    objective: Objective = "task",
    *,
    holds_statistics: bool = False,
) -> Stage:
    """Return stage 2, which trains the selected parameters, by default on the task loss."""
    return Stage("stage2", "stage2", select_parameters, objective, holds_statistics=holds_statistics)


def two_stages(objective: Objective) -> tuple[Stage, ...]:
    """Return a first stage that trains the embedder by an objective, and a second one that trains everything.

    Before them the predictor is trained alone, where the recipe sets `stage1.predictor_epochs`.
    """
    warm_up = Stage("predictor", "stage1", predictor_parameters, epochs_setting="predictor_epochs")
    embedder_stage = Stage("stage1", "stage1", embedder_parameters, objective)
    return warm_up, embedder_stage, full_stage()
