"""ORCA's first stage: token means of the target at the embedder are aligned to the surrogate, class by class."""

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
from modgap.transfer.task_loss import MicroBatch, call_with_parameters, plain_gradients

__all__ = ["OtddStep"]


@dataclass(frozen=True)
class OtddStep:
    """Training on the optimal-transport dataset distance to the surrogate, with one update per epoch.

    The distance is the mean of those of the target's classes, weighted by their shares of all samples, of which a large
    class shows only some.

    Attributes:
        model: The model.
        trained: Names of the embedder's parameters.
        source: The surrogate's features at the source's embedder.
        rows: Rows to train on in ascending order, shape (n,).
        labels: Class, or pseudo-class, of each of these rows, shape (n,).
        per_class: Largest number of samples of a class in one update.
        seed: Seed of the choice of samples.
        stage: Number of the stage.
        processes: Processes that share the classes.
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

    def plan_epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the rows of the epoch's single update: of each class in turn, at most `per_class` samples."""
        order = generator(self.seed, 0, self.stage, epoch).permutation(len(self.rows))
        n_classes = int(self.labels.max()) + 1
        samples = [order[self.labels[order] == k][: self.per_class] for k in range(n_classes)]
        return [self.rows[np.concatenate(samples)]]

    def split(self, rows: np.ndarray, size: int) -> list[np.ndarray]:  # noqa: ARG002
        """Return the rows of each of this process's classes.

        Classes are not divided further, because the distance of a class is no sum over its samples.
        """
        classes = self._classes(rows)
        return [rows[classes == k] for k in self._class_share(rows)]

    def gradient(
        self,
        parts: Sequence[MicroBatch],
        rows: np.ndarray,
        step: int,  # noqa: ARG002
        part_size: int | None = None,  # noqa: ARG002
    ) -> LossGradient:
        """Return the gradient of the distance by the embedder."""
        all_parameters = dict(self.model.named_parameters())
        embedder = {name: all_parameters[name] for name in self.trained}
        tensors: list[Tensor] = list(embedder.values())
        sums = [torch.zeros_like(tensor) for tensor in tensors]
        shares = np.bincount(self.labels) / len(self.labels)
        loss = torch.zeros((), dtype=torch.float64, device=sums[0].device)
        for part, k in zip(parts, self._class_share(rows), strict=True):
            weight = float(shares[k])
            backward = functools.partial(self._backward, part, tensors)
            value, gradients = call_with_parameters(self.model, embedder, backward)
            loss += weight * value
            sums = [total + weight * gradient for total, gradient in zip(sums, gradients, strict=True)]
        sums = self.processes.sum(sums)
        (loss,) = self.processes.sum([loss])
        return LossGradient(dict(zip(embedder, sums, strict=True)), float(loss))

    def regularize(self, rate: float) -> None:
        """Do nothing: weight decay is the optimizer's."""

    def _backward(
        self, part: MicroBatch, tensors: list[Tensor], model: TargetModel
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        tokens = model.embed(part.x)
        # The feature map of a convolutional stem has its channels on the second axis.
        features = tokens.mean(dim=1) if tokens.ndim == 3 else tokens.flatten(2).mean(dim=2)
        value = class_distance(features, self.source)
        return value.detach(), plain_gradients(value, tensors)

    def _classes(self, rows: np.ndarray) -> np.ndarray:
        """Return the class of each row, shape (n,)."""
        classes: np.ndarray = self.labels[np.searchsorted(self.rows, rows)]
        return classes

    def _class_share(self, rows: np.ndarray) -> list[int]:
        """Return the classes of these rows that this process computes."""
        return [int(k) for k in self.processes.interleaved_share(np.unique(self._classes(rows)))]
