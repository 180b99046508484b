"""Definition of a transfer method: its stages, the parameters that each trains, and what each minimizes."""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from modgap.errors import Progress
from modgap.models import TargetModel, normalization_parameters
from modgap.models.embedders import EmbedderStart
from modgap.process.devices import precise_type
from modgap.sources import Source
from modgap.targets import Manifest
from modgap.training.batches import BatchFeed, chunks, shuffle_rows
from modgap.training.checkpoint import RunFiles
from modgap.training.evaluation import Evaluator
from modgap.training.losses import LossFunction, task_loss
from modgap.training.placement import Processes, forward_of
from modgap.training.recipe import EmbedderStage, FullStage, MethodSettings, Recipe
from modgap.training.surrogate import Surrogate
from modgap.training.task_loss import LossGradient, MicroBatch, TaskLoss
from modgap.training.training_data import TargetData, balanced_class_weights

ParameterSelector = Callable[[TargetModel], list[str]]
"""A function that returns the names of some of a model's parameters."""
EpochCallback = Callable[[dict[str, Any]], object]
"""A function of the line of the log of an epoch, and of the number of updates so far as its `total_updates`."""


class ReadAhead(Protocol):
    """Data that an update needs besides the target's, and that is read while earlier updates are computed."""

    @property
    def reader(self) -> Callable[[int], Any]:
        """Function that reads the data on the CPU, by the number of the update in the whole run."""

    def receive(self, update: Any) -> None:
        """Take over what the function returned for the next update."""

    def pass_one(self, model: TargetModel) -> object:
        """Pass one sample through the model, and return what keeps all that a gradient needs of it."""


class Objective:
    """Objective of a stage. This one is the loss of the target, L_t of equation (1); others are its subclasses.

    It is created when its stage begins, so that a subclass prepares in `__init__` what it needs. The training loop then
    calls the other functions. A subclass overrides those in which it differs: `loss` for another loss of the samples,
    or `gradient` for another gradient of an update.

    Attributes:
        settings: Keys of the settings that only this objective uses, such as `stage2.anchor`.
        divides: False if an update cannot be computed in smaller parts where the memory does not suffice.
        training: Everything that the stages of the run share.
        model: The model.
        number: Number of the stage.
        stage_settings: Settings of the stage.
        trained: Names of the parameters that the stage trains.
        surrogate: Features of the surrogate, whose samples are then read ahead with those of the target; None for an
            objective without one, or one that reads them itself.
    """

    settings: ClassVar[tuple[str, ...]] = ()
    divides: ClassVar[bool] = True
    surrogate: "ReadAhead | None" = None

    def __init__(self, training: "Training", stage: "Stage", number: int) -> None:
        """Prepare a stage.

        Args:
            training: Everything that the stages of the run share.
            stage: The stage.
            number: Number of the stage among those of the run.
        """
        self.training = training
        self.model = training.model
        self.number = number
        self.stage_settings = stage.settings(training.recipe)
        self.trained = tuple(stage.select_parameters(training.model))
        self._target_loss = training.target_loss()
        self._forward = forward_of(training.recipe, stage.recipe_section)

    @classmethod
    def needs_surrogate(cls, recipe: Recipe) -> bool:  # noqa: ARG003
        """Return True if the objective uses labeled surrogate data of the source's modality.

        It is called before the training.

        Raises:
            UsageError: When a package that the objective needs is not installed.
        """
        return False

    @property
    def allows_tf32(self) -> bool:
        """True if matrix products may round their factors to TF32, on GPUs that have it."""
        # Double precision is for checks.
        return self.training.recipe.precision != "float64"

    @property
    def without_decay(self) -> frozenset[str]:
        """Names of trained parameters to which weight decay does not apply."""
        return frozenset()

    def plan_epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the rows of each update over all processes; every row occurs once, in the epoch's random order."""
        size = self.stage_settings.batch_size * self.stage_settings.gradient_accumulation
        return chunks(shuffle_rows(self.training.data.train, self.training.seed, self.number, epoch), size)

    def split(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """Return this process's share of an update's rows, in parts of at most `size` samples."""
        return chunks(self.training.processes.interleaved_share(rows), size)

    def loss(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        """Return the loss of each sample, shape (n,), with the class weights and the label smoothing of the recipe.

        Args:
            outputs: Outputs of the model, (n, ...).
            y: Classes (n,), 0/1 labels (n, K), or values (n, channels, ...).
            mask: 0/1 of y's shape, 1 for valid values. None if all are valid.
        """
        return self._target_loss(outputs, y, mask)

    def task_loss(self, parts: Sequence[MicroBatch], rows: np.ndarray) -> TaskLoss:
        """Return the mean of `loss` over the samples of an update, as a function of the parameters."""
        training = self.training
        return TaskLoss(
            self.model, self.loss, tuple(parts), len(rows), training.processes, training.autocast, self._forward
        )

    def pass_one(self, part: MicroBatch) -> object:
        """Pass one sample of the target through the model, and return what keeps all that a gradient needs of it."""
        return self.task_loss([part], np.zeros(1)).value(self.model, part)

    def gradient(
        self,
        parts: Sequence[MicroBatch],
        rows: np.ndarray,
        step: int,  # noqa: ARG002
        part_size: int | None = None,  # noqa: ARG002
    ) -> LossGradient:
        """Return the gradient of an update by the trained parameters, over all processes.

        Args:
            parts: Batches of this process, one for each array that `split` returned.
            rows: Rows of the update, over all processes.
            step: Number of the update in the whole run.
            part_size: Largest number of surrogate samples that pass through the model together; None for all.
        """
        # Detached parameters keep autograd from storing activations that only their gradients need.
        trained = set(self.trained)
        parameters = {
            name: value if name in trained else value.detach() for name, value in self.model.named_parameters()
        }
        return LossGradient(*self.task_loss(parts, rows).gradient(parameters, self.trained))

    def before_step(self, rate: float) -> None:
        """Change the parameters before the optimizer does, by what does not go through the optimizer.

        Args:
            rate: Learning rate of the update.
        """


NAMED_OBJECTIVES = {
    "task": "modgap.training.method:Objective",
    "mona": "modgap.training.methods.mona:MonaObjective",
    "otdd": "modgap.training.methods.orca:AlignmentObjective",
    "anchored": "modgap.training.methods.l2_sp:AnchoredObjective",
    "replay": "modgap.training.methods.replay:ReplayObjective",
}
"""Classes of the objectives that stages of plug-ins may refer to by name."""


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: Name of the stage in logs and progress messages.
        recipe_section: Section of the recipe whose settings the stage uses.
        select_parameters: Function that returns the names of the parameters that the stage trains.
        objective: Class of the objective, or one of NAMED_OBJECTIVES.
        epochs_setting: Name of the setting in that section that gives the number of epochs.
        holds_statistics: True if batch normalization in the encoder uses the source's running statistics and does not
            update them, because the stage is to hold the source.
    """

    name: str
    recipe_section: Literal["stage1", "stage2"]
    select_parameters: ParameterSelector
    objective: type[Objective] | str = Objective
    epochs_setting: str = "epochs"
    holds_statistics: bool = False

    @property
    def objective_class(self) -> type[Objective]:
        """Class of the objective."""
        if not isinstance(self.objective, str):
            return self.objective
        return cast(type[Objective], pkgutil.resolve_name(NAMED_OBJECTIVES[self.objective]))

    def settings(self, recipe: Recipe) -> EmbedderStage | FullStage:
        """Return the settings of the stage."""
        return recipe.stage1 if self.recipe_section == "stage1" else recipe.stage2

    def n_epochs(self, recipe: Recipe) -> int:
        """Return the number of epochs of the stage."""
        return int(getattr(self.settings(recipe), self.epochs_setting))


@dataclass(frozen=True)
class Adapter:
    """Changes of an encoder that are trained in place of its own parameters, and then merged into these.

    Attributes:
        name: Name of the kind of changes.
        add: Function that adds the changes to a model, given the settings of stage 2; the model computes the same as
            before. PyTorch's random state is seeded when it is called.
        merge: Function that merges the changes, so that the model has the parameters that it had before `add`.
        settings: Keys of the settings that only this adapter uses, such as `stage2.lora_rank`.
    """

    name: str
    add: Callable[[TargetModel, FullStage], None]
    merge: Callable[[TargetModel], None]
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """A method that transfers a source model to a target.

    Attributes:
        name: Name as in `modgap train --method`.
        title: Description of the method in one line.
        reference: Publication that describes the method.
        stages: Stages in the order in which they run.
        embedder_start: Start of the embedder: random, the weights of the source's own embedder, or `native` for that
            embedder as it is, with the source's own input. Texts always have the source's own.
        pretrained_encoder: True if the encoder starts from the source's weights, False if it starts at random.
        predictor_start: Start of the predictor: random, or the linear probe of the source, for a native embedder.
        rate_factor: Factor of the learning rate of stage 2, unless the user sets the rate.
        stage1_defaults: Function from the target's manifest to the stage-1 settings in which the method differs
            from the recipe; by default there are none.
        adapter: Changes of the encoder that are trained in place of its parameters; None for none.
        settings: Model of settings that the method adds to the recipe, as its section `method`.
    """

    name: str
    title: str
    reference: str
    stages: tuple[Stage, ...]
    embedder_start: EmbedderStart = "random"
    pretrained_encoder: bool = True
    predictor_start: Literal["random", "probe"] = "random"
    rate_factor: float = 1.0
    stage1_defaults: Callable[[Manifest], Mapping[str, object]] = lambda _: {}
    adapter: Adapter | None = None
    settings: type[MethodSettings] = MethodSettings

    @property
    def special_settings(self) -> set[str]:
        """Keys of the settings that the method's objectives and its adapter use, and most other methods do not."""
        keys = {key for stage in self.stages for key in stage.objective_class.settings}
        return keys | set(self.adapter.settings if self.adapter else ())

    @property
    def has_embedder_stage(self) -> bool:
        """True if stage 1 trains an embedder, with which the discrepancy can be measured."""
        return any(stage.recipe_section == "stage1" for stage in self.stages)

    def stages_with_epochs(self, recipe: Recipe) -> tuple[Stage, ...]:
        """Return the stages that have epochs."""
        return tuple(stage for stage in self.stages if stage.n_epochs(recipe) > 0)


@dataclass(frozen=True)
class Training:
    """Everything that the stages of a run share, and that is constant during the run.

    Attributes:
        method: The method.
        recipe: All settings.
        source: The source, whose own embedder takes the surrogate.
        data: The target.
        surrogate: The first half of labeled surrogate data; linear probes use the second half. None if no stage needs
            it.
        model: The model, which is trained in place.
        seed: Seed of everything random.
        feed: Loader of the batches.
        evaluator: Evaluator of the task's metric.
        files: Files of the run.
        processes: Processes that train together.
        progress: Callback that is called with a stage's name and the share done since the last call; None for none.
        tensorboard_folder: Folder of the TensorBoard log; None for no such log.
        on_epoch_end: Callback that is called with the line of the log of each epoch; None for none.
    """

    method: Method
    recipe: Recipe
    source: Source
    data: TargetData
    surrogate: Surrogate | None
    model: TargetModel
    seed: int
    feed: BatchFeed
    evaluator: Evaluator
    files: RunFiles
    processes: Processes = field(default_factory=Processes)
    progress: Progress | None = None
    tensorboard_folder: Path | None = None
    on_epoch_end: EpochCallback | None = None

    @property
    def device(self) -> torch.device:
        """Device to train on."""
        return self.feed.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        return self.feed.dtype

    @property
    def autocast(self) -> torch.dtype | None:
        """Reduced precision of forward passes; None for the parameters' precision."""
        return self.evaluator.autocast

    def target_loss(self) -> LossFunction:
        """Return the loss of each sample of the target, with the class weights and the label smoothing of the recipe.

        Values that the trainer standardized keep that unit in the loss, so the learning rate does not depend on the
        unit of the data.

        Raises:
            UsageError: When the loss of the target does not take them.
        """
        scale = None
        if self.data.scale is not None and self.data.y_standardization is None:
            mean, sd = (torch.from_numpy(array.copy()).to(self.device, self.dtype) for array in self.data.scale)
            scale = mean, sd
        options: dict[str, Any] = {}
        if self.recipe.label_smoothing:
            options["label_smoothing"] = self.recipe.label_smoothing
        if self.recipe.class_weights == "balanced":
            options["class_weights"] = torch.from_numpy(balanced_class_weights(self.data)).to(
                self.device, precise_type(self.device)
            )
        return task_loss(self.data.target.manifest, scale, **options)

    def merge_adapter(self, model: TargetModel) -> None:
        """Merge the changes of the method's adapter into a model, in place, if there is one."""
        if self.method.adapter is not None:
            self.method.adapter.merge(model)


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
    objective: type[Objective] | str = Objective,
    *,
    holds_statistics: bool = False,
) -> Stage:
    """Return stage 2, which trains the selected parameters, by default on the task loss."""
    return Stage("stage2", "stage2", select_parameters, objective, holds_statistics=holds_statistics)


def two_stages(objective: type[Objective] | str) -> tuple[Stage, ...]:
    """Return a first stage that trains the embedder by an objective, and a second one that trains everything.

    Before them the predictor is trained alone, where the recipe sets `stage1.predictor_epochs`.
    """
    warm_up = Stage("predictor", "stage1", predictor_parameters, epochs_setting="predictor_epochs")
    embedder_stage = Stage("stage1", "stage1", embedder_parameters, objective)
    return warm_up, embedder_stage, full_stage()
