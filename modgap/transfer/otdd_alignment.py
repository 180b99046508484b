"""ORCA's first stage: token means of the target at the embedder, brought near the surrogate's class by class."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from modgap.models import TargetModel
from modgap.transfer.batches import generator
from modgap.transfer.gradients import LossGradient
from modgap.transfer.otdd import LabeledSource, class_distance
from modgap.transfer.processes import Processes
from modgap.transfer.task_loss import MicroBatch, call_with_parameters

__all__ = ["OtddStep"]


@dataclass(frozen=True)
class OtddStep:
    """One update an epoch: the optimal-transport dataset distance to the surrogate, summed over classes.

    Attributes:
        model: The model.
        trained: Names of the embedder's parameters.
        source: The surrogate's features at the source's embedder.
        rows: Rows to train on.
        labels: Class, or pseudo-class, of each of these rows, shape (len(rows),).
        per_class: Samples of a class at most.
        seed: Of their choice.
        stage: Number of the stage.
        processes: Who shares the classes.
    """

    model: TargetModel
    trained: tuple[str, ...]
    source: LabeledSource
    rows: np.ndarray
    labels: np.ndarray
    per_class: int
    seed: int
    stage: int
    processes: Processes = field(default_factory=Processes)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """One update: each class's samples in turn, as many as there are at most."""
        order = generator(self.seed, 0, self.stage, epoch).permutation(len(self.rows))
        kept = [order[self.labels[order] == k][: self.per_class] for k in range(int(self.labels.max()) + 1)]
        return [self.rows[np.concatenate(kept)]]

    def split(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """Whole classes: a distance between clouds cannot be added up from parts of them."""
        return [rows[classes == k] for classes in [self._classes(rows)] for k in self._own(rows)]

    def update(self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int) -> LossGradient:
        """The gradient of the distance by the embedder."""
        classes, parameters = self._classes(rows), dict(self.model.named_parameters())
        held = {name: parameters[name] for name in self.trained}
        sums = [torch.zeros_like(value) for value in held.values()]
        loss = torch.zeros((), dtype=torch.float64, device=sums[0].device)
        for part, k in zip(parts, self._own(rows), strict=True):
            share = float((classes == k).sum() / len(rows))
            value, gradients = call_with_parameters(
                self.model, held, functools.partial(self._backward, part, list(held.values()))
            )
            loss += share * value
            sums = [total + share * gradient for total, gradient in zip(sums, gradients, strict=True)]
        *sums, loss = self.processes.sum(sums) + self.processes.sum([loss])
        return LossGradient(dict(zip(held, sums, strict=True)), float(loss))

    def _backward(self, part: MicroBatch, by: list[Tensor], model: TargetModel) -> tuple[Tensor, tuple[Tensor, ...]]:
        tokens = model.embed(part.x)
        # A stem's feature map has its channels second.
        features = tokens.mean(dim=1) if tokens.ndim == 3 else tokens.flatten(2).mean(dim=2)
        value = class_distance(features, self.source)
        return value.detach(), torch.autograd.grad(value, by, allow_unused=True, materialize_grads=True)

    def _classes(self, rows: np.ndarray) -> np.ndarray:
        return self.labels[np.searchsorted(self.rows, rows)]

    def _own(self, rows: np.ndarray) -> list[int]:
        """Classes of this process."""
        return [int(k) for k in self.processes.interleaved_share(np.unique(self._classes(rows)))]
