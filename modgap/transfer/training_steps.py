"""What makes one update of a stage: which rows, in which parts, and the gradient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from modgap.models import TargetModel
from modgap.transfer.batches import chunks, shuffle_rows
from modgap.transfer.gradients import LossGradient, OuterLoss, VirtualSteps, mona_gradient, task_gradient
from modgap.transfer.losses import LossFunction
from modgap.transfer.processes import Processes
from modgap.transfer.task_loss import MicroBatch, TaskLoss

__all__ = ["MonaStep", "TaskStep", "TrainingStep"]


class TrainingStep(Protocol):
    """A stage's way from samples to gradients."""

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Rows of each update of an epoch, over all processes."""

    def split(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """What of an update's rows falls to this process, in parts of at most `size` samples."""

    def update(self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int) -> LossGradient:
        """The gradient of an update, over all processes; `step` counts those of the run."""


@dataclass(frozen=True)
class TaskStep:
    """L_t on shuffled batches, equation (1).

    Attributes:
        model: The model.
        trained: Names of the parameters that the stage trains.
        loss: Per-sample loss.
        rows: Rows to train on.
        size: Samples of an update, over all processes.
        seed: Of the order.
        stage: Number of the stage.
        processes: Who shares an update.
        autocast: Precision of forward passes where it is reduced.
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

    def plan(self, epoch: int) -> list[np.ndarray]:
        """All rows once, in the epoch's order."""
        return chunks(shuffle_rows(self.rows, self.seed, self.stage, epoch), self.size)

    def split(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """This process's share."""
        return chunks(self.processes.interleaved_share(rows), size)

    def task(self, parts: Sequence[MicroBatch], rows: np.ndarray) -> TaskLoss:
        """L_t of an update."""
        return TaskLoss(self.model, self.loss, tuple(parts), len(rows), self.processes, self.autocast)

    def update(self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int) -> LossGradient:
        """The gradient of L_t by what is trained."""
        # What is not trained needs no gradient, nor what a gradient would keep in memory.
        trained = set(self.trained)
        held = {n: p if n in trained else p.detach() for n, p in self.model.named_parameters()}
        return task_gradient(self.task(parts, rows), held, self.trained)


@dataclass(frozen=True)
class MonaStep(TaskStep):
    """Equation (5): `trained` is the embedder, all else takes the virtual steps.

    Attributes:
        surrogate: Step to (features of this process's samples, classes of the samples of all).
        objective: L_outer.
        how: The inner loop.
    """

    surrogate: Callable[[int], tuple[Callable[[TargetModel], Tensor], Tensor]] | None = None
    objective: Callable[[Tensor, Tensor], Tensor] | None = None
    how: VirtualSteps | None = None

    def update(self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int) -> LossGradient:
        """The gradient of the combined loss by the embedder."""
        assert self.surrogate is not None
        assert self.objective is not None
        assert self.how is not None
        features, labels = self.surrogate(step)
        outer = OuterLoss(features, labels, self.objective, self.processes)
        parameters = dict(self.model.named_parameters())
        inner = [name for name in parameters if name not in self.trained]
        return mona_gradient(self.task(parts, rows), outer, parameters, self.trained, inner, self.how)
