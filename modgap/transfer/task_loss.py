"""The loss on one batch of target data, at any parameters of the model, and its gradients."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from modgap.models import TargetModel
from modgap.transfer.losses import LossFunction
from modgap.transfer.processes import Processes

__all__ = ["MicroBatch", "TaskLoss", "call_with_parameters"]

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class MicroBatch:
    """Samples that go through the model together.

    Attributes:
        x: Standardized inputs (n, C, ...).
        y: Classes (n,), 0/1 labels (n, K), or values (n, channels, ...).
        mask: Where values count, 0/1 of y's shape; None where all do.
    """

    x: Tensor
    y: Tensor
    mask: Tensor | None = None


class _Holding(nn.Module):
    """A model that any piece of work can be done with, while its parameters are exchanged."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[Any], Any]) -> Any:
        return work(self.model)


def call_with_parameters(model: nn.Module, parameters: Parameters, work: Callable[[Any], Any]) -> Any:
    """`work(model)` with some of the model's parameters exchanged for others.

    Backward passes belong into `work`: gradient checkpointing computes forward again in them, and must
    meet the same parameters.
    """
    return functional_call(_Holding(model), {f"model.{name}": value for name, value in parameters.items()}, (work,))


@dataclass(frozen=True)
class TaskLoss:
    """L_t of one batch: the mean of per-sample losses over the batch of all processes.

    Attributes:
        model: The model.
        loss: Outputs, y and mask to per-sample losses (n,).
        micro_batches: What of the batch falls to this process, in parts that fit into memory.
        count: Samples of the whole batch, over all parts and processes.
        processes: Who shares the batch.
        autocast: Precision of the forward pass where it is not that of the parameters.
    """

    model: TargetModel
    loss: LossFunction
    micro_batches: tuple[MicroBatch, ...]
    count: int
    processes: Processes = field(default_factory=Processes)
    autocast: torch.dtype | None = None

    def value(self, model: TargetModel, part: MicroBatch, *, precise: bool = False) -> Tensor:
        """What a part adds to the batch's loss."""
        reduced: contextlib.AbstractContextManager = contextlib.nullcontext()
        if self.autocast and not precise:
            reduced = torch.autocast(part.x.device.type, self.autocast)
        with reduced:
            outputs = model(part.x)
        # Losses are not for half precision.
        outputs = outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
        return self.loss(outputs, part.y, part.mask).sum() / self.count

    def gradient(
        self, parameters: Parameters, of: Iterable[str], *, precise: bool = False
    ) -> tuple[dict[str, Tensor], float]:
        """Gradient of the loss at these parameters, and the loss, both over all processes.

        Args:
            parameters: Those that differ from the model's own, or all.
            of: Names of the parameters to take the gradient by; they must be among `parameters`.
            precise: In the parameters' own precision, whatever `autocast` says.
        """
        names = list(of)
        sums = [torch.zeros_like(parameters[name]) for name in names]
        loss = torch.zeros((), dtype=torch.float64, device=sums[0].device if sums else "cpu")
        by = [parameters[name] for name in names]
        for part in self.micro_batches:
            value, gradients = call_with_parameters(
                self.model, parameters, functools.partial(self._backward, part, by, precise)
            )
            loss += value
            for total, gradient in zip(sums, gradients, strict=True):
                total += gradient
        *sums, loss = self.processes.sum(sums) + self.processes.sum([loss])
        return dict(zip(names, sums, strict=True)), float(loss)

    def _backward(
        self, part: MicroBatch, by: list[Tensor], precise: bool, model: TargetModel
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        value = self.value(model, part, precise=precise)
        return value.detach(), torch.autograd.grad(value, by, allow_unused=True, materialize_grads=True)
