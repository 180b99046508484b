"""Loss on one batch of target data at any parameters of the model, and its gradients."""

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from modgap.models import TargetModel
from modgap.models.normalization import repeated_pass
from modgap.process.devices import Number, map_tensors, number_of, precise_type
from modgap.training.losses import LossFunction, to_single_precision
from modgap.training.placement import Forward, Processes, call, reduced_precision

Model = TypeVar("Model", bound=nn.Module)
Result = TypeVar("Result")
Parameters = Mapping[str, Tensor]
"""Parameters of a model by name."""


class MicroBatch(NamedTuple):
    """Samples that pass through the model together.

    Attributes:
        x: Standardized inputs (n, C, ...).
        y: Classes (n,), 0/1 labels (n, K), or values (n, channels, ...).
        mask: 0/1 of y's shape, 1 for valid values. None if all are valid.
    """

    x: Tensor
    y: Tensor
    mask: Tensor | None = None

    def divide(self, size: int) -> tuple["MicroBatch", ...]:
        """Return the samples in consecutive parts of at most `size`, which share the memory of the batch."""
        spans = [slice(first, first + size) for first in range(0, len(self.x), size)]
        return tuple(map_tensors(self, operator.itemgetter(span)) for span in spans)


@dataclass(frozen=True)
class LossGradient:
    """The gradient of an update, which the optimizer applies.

    Attributes:
        gradient: Gradient by the name of each trained parameter.
        loss: Loss of the batch: a number, or a tensor of one value on the device, which is read later.
        scalars: Other such numbers for the log, by name.
    """

    gradient: dict[str, Tensor]
    loss: Number
    scalars: Mapping[str, Number] = field(default_factory=dict)


class _FunctionCaller(nn.Module):
    """Module that calls a function with a model, so that the model's parameters can be replaced for the call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[nn.Module], object]) -> object:
        return function(self.model)


def call_with_parameters(model: Model, parameters: Parameters, function: Callable[[Model], Result]) -> Result:
    """Return `function(model)`, called while some of the model's parameters are replaced by others.

    Backward passes must be part of the function: gradient checkpointing repeats the forward pass in them, which needs
    the same parameters.
    """
    present = dict(model.named_parameters())
    replacements = {f"model.{name}": value for name, value in parameters.items() if present.get(name) is not value}
    if not replacements:
        return function(model)
    result: Result = functional_call(_FunctionCaller(model), replacements, (function,))
    return result


def plain_gradients(
    values: Tensor | Sequence[Tensor], tensors: Sequence[Tensor], weights: Tensor | Sequence[Tensor] | None = None
) -> tuple[Tensor, ...]:
    """Return the gradients of values by tensors, as tensors that need no gradients themselves.

    They are zeros where no value depends on a tensor. PyTorch 2.6 makes such zeros tensors that need gradients, which
    cannot be changed in place.

    Args:
        values: Differentiable values.
        tensors: Tensors to differentiate by.
        weights: Gradients by the values, of their shapes; None where there is one value, a number.
    """
    gradients = torch.autograd.grad(values, tensors, weights, allow_unused=True, materialize_grads=True)
    return tuple(gradient.detach() for gradient in gradients)


def _with_own_memory(gradients: Iterable[Tensor]) -> list[Tensor]:
    """Return gradients that can be changed in place; autograd may return one tensor twice, or views."""
    owned: list[Tensor] = []
    used: set[int] = set()
    for gradient in gradients:
        storage = gradient.untyped_storage()
        is_own = storage.nbytes() == gradient.nbytes and storage.data_ptr() not in used
        owned.append(gradient if is_own else gradient.clone())
        used.add(storage.data_ptr())
    return owned


@dataclass(frozen=True)
class TaskLoss:
    """L_t of one batch: the mean of per-sample losses over the batch of all processes.

    Attributes:
        model: Model to evaluate.
        loss: Function from outputs, y and mask to per-sample losses (n,).
        micro_batches: Share of the batch that this process computes, in pieces that fit into memory.
        count: Number of samples in the batch, over all micro-batches and processes.
        processes: Processes that share the batch.
        autocast: Precision of the forward pass. None for the precision of the parameters.
        forward: Function that runs the model.
    """

    model: TargetModel
    loss: LossFunction
    micro_batches: tuple[MicroBatch, ...]
    count: int
    processes: Processes = field(default_factory=Processes)
    autocast: torch.dtype | None = None
    forward: Forward = call

    def value(self, model: TargetModel, micro_batch: MicroBatch, *, precise: bool = False) -> Tensor:
        """Return the contribution of a micro-batch to the batch's loss.

        Args:
            model: Model to evaluate, possibly with other parameters.
            micro_batch: Samples.
            precise: True to ignore `autocast`.
        """
        with reduced_precision(micro_batch.x.device, None if precise else self.autocast):
            outputs = self.forward(model, micro_batch.x)
        return self.loss(to_single_precision(outputs), micro_batch.y, micro_batch.mask).sum() / self.count

    def gradient(
        self, parameters: Parameters, of: Iterable[str], *, precise: bool = False
    ) -> tuple[dict[str, Tensor], Number]:
        """Compute the gradient of the loss at the given parameters, and the loss, both over all processes.

        Args:
            parameters: All parameters, or those that differ from the model's.
            of: Names of the parameters to differentiate by. They must be in `parameters`.
            precise: True to compute in the precision of the parameters, whatever `autocast` is.
        """
        names = list(of)
        variables = [parameters[name] for name in names]
        sums: list[Tensor] | None = None
        device = variables[0].device if variables else torch.device("cpu")
        loss = torch.zeros((), dtype=precise_type(device), device=device)
        for micro_batch in self.micro_batches:
            backward = functools.partial(self._backward, micro_batch, variables, precise)
            value, gradients = call_with_parameters(self.model, parameters, backward)
            loss += value
            if sums is None:
                sums = _with_own_memory(gradients)
                continue
            for total, gradient in zip(sums, gradients, strict=True):
                total += gradient
        if sums is None:
            sums = [torch.zeros_like(variable) for variable in variables]
        *sums, loss = self.processes.sum(sums) + self.processes.sum([loss])
        return dict(zip(names, sums, strict=True)), number_of(loss)

    def _backward(
        self, micro_batch: MicroBatch, variables: list[Tensor], precise: bool, model: TargetModel
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        value = self.value(model, micro_batch, precise=precise)
        with repeated_pass(self.model):
            return value.detach(), plain_gradients(value, variables)
