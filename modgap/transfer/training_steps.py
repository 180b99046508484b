"""Training steps: how a stage forms the batches of an epoch, divides them, and turns each into a gradient.

The gradients themselves are computed in `gradients`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from modgap.models import TargetModel
from modgap.models.normalization import evaluation_mode
from modgap.transfer.batches import chunks, shuffle_rows
from modgap.transfer.gradients import LossGradient, OuterLoss, VirtualSteps, mona_gradient, task_gradient
from modgap.transfer.losses import LossFunction
from modgap.transfer.placement import Forward, call
from modgap.transfer.processes import Processes
from modgap.transfer.task_loss import MicroBatch, TaskLoss

__all__ = ["AnchoredStep", "MonaStep", "ReplayStep", "TaskStep", "TrainingStep"]


class TrainingStep(Protocol):
    """The interface between the training loop and the objective of a stage."""

    def plan_epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the rows of each update of an epoch, over all processes."""

    def split(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """Return this process's share of an update's rows, in parts of at most `size` samples."""

    def gradient(
        self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int, part_size: int | None = None
    ) -> LossGradient:
        """Return the gradient of an update, over all processes.

        Args:
            parts: Batches of this process, one for each array that `split` returned.
            rows: Rows of the update, over all processes.
            step: Number of the update in the whole run.
            part_size: Largest number of surrogate samples that pass through the model together; None for all.
        """

    def regularize(self, rate: float) -> None:
        """Apply to the parameters what does not go through the optimizer.

        Args:
            rate: Learning rate of the update that follows.
        """


@dataclass(frozen=True)
class TaskStep:
    """Training on L_t, equation (1), with shuffled batches.

    Attributes:
        model: The model.
        trained: Names of the parameters that the stage trains.
        loss: Function that returns the loss of each sample.
        rows: Rows to train on, shape (n,).
        size: Number of samples of an update, over all processes.
        seed: Seed of the order of the rows.
        stage: Number of the stage.
        processes: Processes that share an update.
        autocast: Reduced precision of forward passes; None for the parameters' precision.
        forward: Function that runs the model.
    """

    model: TargetModel
    trained: tuple[str, ...]
    loss: LossFunction
    rows: np.ndarray
    size: int
    seed: int
    stage: int
    processes: Processes = field(default_factory=Processes)
    autocast: torch.dtype | None = None
    forward: Forward = call

    def plan_epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the rows of each update; every row occurs once, in the epoch's random order."""
        return chunks(shuffle_rows(self.rows, self.seed, self.stage, epoch), self.size)

    def split(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """Return this process's share of an update's rows, in parts of at most `size` samples."""
        return chunks(self.processes.interleaved_share(rows), size)

    def task_loss(self, parts: Sequence[MicroBatch], rows: np.ndarray) -> TaskLoss:
        """Return L_t of an update, as a function of the parameters."""
        return TaskLoss(self.model, self.loss, tuple(parts), len(rows), self.processes, self.autocast, self.forward)

    def gradient(
        self,
        parts: Sequence[MicroBatch],
        rows: np.ndarray,
        step: int,  # noqa: ARG002
        part_size: int | None = None,  # noqa: ARG002
    ) -> LossGradient:
        """Return the gradient of L_t by the trained parameters."""
        # Detached parameters keep autograd from storing activations that only their gradients need.
        trained = set(self.trained)
        parameters = {
            name: value if name in trained else value.detach() for name, value in self.model.named_parameters()
        }
        return task_gradient(self.task_loss(parts, rows), parameters, self.trained)

    def regularize(self, rate: float) -> None:
        """Do nothing: weight decay is the optimizer's."""


@dataclass(frozen=True)
class AnchoredStep(TaskStep):
    """Training on L_t with a penalty on the distance to the source: half its square, times a weight (L2-SP).

    The gradient of the penalty, weight times the difference, is applied apart from that of L_t, as AdamW applies weight
    decay. As a part of the gradient it would be scaled by Adam, so that parameters on which L_t does not depend would
    swing by the learning rate.

    Attributes:
        anchors: Weights of the source by the name of the parameter; other parameters have no penalty.
        weight: Weight of the penalty.
    """

    anchors: Mapping[str, Tensor] = field(default_factory=dict)
    weight: float = 0.0

    def gradient(
        self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int, part_size: int | None = None
    ) -> LossGradient:
        """Return the gradient of L_t by the trained parameters, and the distance to the source for the log."""
        found = super().gradient(parts, rows, step, part_size)
        squares = sum(float(difference.double().square().sum()) for _, difference in self._differences())
        return LossGradient(found.gradient, found.loss, {**found.scalars, "distance": float(np.sqrt(squares))})

    def regularize(self, rate: float) -> None:
        """Move the parameters towards the source by the learning rate times the gradient of the penalty."""
        for parameter, difference in self._differences():
            parameter.sub_(min(1.0, rate * self.weight) * difference)

    def _differences(self) -> Iterator[tuple[Tensor, Tensor]]:
        parameters = dict(self.model.named_parameters())
        for name, anchor in self.anchors.items():
            value = parameters[name].detach()
            yield value, value - anchor


SurrogateFeatures = Callable[[int, int | None], tuple[Sequence[Callable[[TargetModel], Tensor]], Tensor]]
"""Function from the number of an update and the largest size of a part to the surrogate's batch: functions from the
model to the features of parts of this process's samples, and the classes of the samples of all processes."""


@dataclass(frozen=True)
class ReplayStep(TaskStep):
    """Training on L_t and on the loss of a fixed linear probe on surrogate samples, times a weight.

    The probe is fitted on the features of the source before the training, so that its loss rises when the encoder no
    longer tells the surrogate's classes apart where the source did. The encoder sees the surrogate in evaluation mode:
    without dropout, and with the running statistics of batch normalization, as when its knowledge is measured.

    Attributes:
        surrogate: Batches of the surrogate.
        probe_loss: Function from features (N, D) and classes (N,) to the mean loss of the probe.
        weight: Weight of that loss.
    """

    surrogate: SurrogateFeatures | None = None
    probe_loss: Callable[[Tensor, Tensor], Tensor] | None = None
    weight: float = 0.0

    def gradient(
        self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int, part_size: int | None = None
    ) -> LossGradient:
        """Return the gradient of both losses by the trained parameters, with the probe's loss for the log."""
        assert self.surrogate is not None
        assert self.probe_loss is not None
        found = super().gradient(parts, rows, step, part_size)
        features, labels = self.surrogate(step, part_size)
        outer = OuterLoss(features, labels, self.probe_loss, self.processes, normalizes=False)
        encoder = [name for name in self.trained if name.startswith("encoder.")]
        with evaluation_mode(self.model.encoder):
            replayed, loss = outer.gradient(self.model, dict(self.model.named_parameters()), encoder)
        total = {
            name: value + self.weight * replayed[name] if name in replayed else value
            for name, value in found.gradient.items()
        }
        return LossGradient(total, found.loss, {**found.scalars, "replay": loss})


@dataclass(frozen=True)
class MonaStep(TaskStep):
    """Training on equation (5): `trained` is the embedder, and all other parameters take the virtual steps.

    Attributes:
        surrogate: Batches of the surrogate.
        objective: L_outer, a function from features and classes to a scalar.
        virtual_steps: Settings of the inner loop.
    """

    surrogate: SurrogateFeatures | None = None
    objective: Callable[[Tensor, Tensor], Tensor] | None = None
    virtual_steps: VirtualSteps | None = None

    def gradient(
        self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int, part_size: int | None = None
    ) -> LossGradient:
        """Return the gradient of the combined loss by the embedder."""
        assert self.surrogate is not None
        assert self.objective is not None
        assert self.virtual_steps is not None
        features, labels = self.surrogate(step, part_size)
        outer = OuterLoss(features, labels, self.objective, self.processes)
        parameters = dict(self.model.named_parameters())
        inner = [name for name in parameters if name not in self.trained]
        task = self.task_loss(parts, rows)
        return mona_gradient(task, outer, parameters, self.trained, inner, self.virtual_steps)
