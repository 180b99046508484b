"""How a model computes: device, precision, compilation, dropout, what saves memory, and several processes."""

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modgap.errors import UsageError
from modgap.models import TargetModel
from modgap.process.devices import precise_type, seeded
from modgap.process.installed_packages import import_optional
from modgap.training.recipe import OptimizerSettings, Recipe

log = logging.getLogger("modgap")


Forward = Callable[[TargetModel, Tensor], Tensor]
"""Function from a model and its inputs to the outputs."""


def place(model: TargetModel, device: torch.device, dtype: torch.dtype, *, convolutional: bool) -> TargetModel:
    """Return a model on a device. On a GPU, a convolutional one has the channels last in memory, as its kernels do.

    Args:
        model: The model, which is changed in place.
        device: The device.
        dtype: Precision of the parameters.
        convolutional: True if the encoder is a convolutional network of images.
    """
    placed: TargetModel = model.to(device=device, dtype=dtype)
    if convolutional and device.type == "cuda":
        placed = placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def reduced_precision(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[object]:
    """Return a context whose forward passes on a device have a precision; None for that of the parameters."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def call(model: TargetModel, x: Tensor) -> Tensor:
    """Return the outputs of a model."""
    outputs: Tensor = model(x)
    return outputs


def forward_of(recipe: Recipe, section: str) -> Forward:
    """Return the function that runs the model: compiled in stage 2 if the recipe says so.

    Stage 1 differentiates twice, which compiled functions do not allow.
    """
    return torch.compile(call) if recipe.compile_model and section == "stage2" else call


DROPOUT_ATTRIBUTES = ("dropout", "dropout_p", "attention_dropout", "activation_dropout", "hidden_dropout")
"""Attributes of layers that are probabilities of dropout, besides those of torch's own dropout layers."""


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set the probability of every dropout in a model.

    Stochastic depth, which drops whole layers, stays as it is.

    Args:
        model: The model.
        probability: Probability with which a value is dropped, in [0, 1).
    """
    for module in model.modules():
        names = ("p",) if isinstance(module, nn.modules.dropout._DropoutNd) else DROPOUT_ATTRIBUTES
        for name in names:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, probability)


# Memory

TRAINING_MODE_ONLY = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
"""Functions of transformers, whose layers recompute activations in training mode alone. Stage 1 has evaluation mode."""
CHECKPOINTING_FUNCTIONS = ("set_grad_checkpointing", *TRAINING_MODE_ONLY)
ACTIVATION_BYTES = 1 << 32
"""Bytes that a batch on a CPU may keep for its backward pass, besides the parameters."""


def enable_gradient_checkpointing(encoder: nn.Module, *, has_stage1: bool = False) -> None:
    """Call the function that the source's library provides for this, on each module that has one.

    Args:
        encoder: The encoder, which is changed in place.
        has_stage1: True if the run has a stage 1. A warning says so where the library does not support it there.
    """
    used = set()
    for module in list(encoder.modules()):
        names = [name for name in CHECKPOINTING_FUNCTIONS if callable(getattr(module, name, None))]
        if names:
            getattr(module, names[0])()
            used.add(names[0])
    if not used:
        log.warning("The source's library does not support gradient checkpointing. Continuing without it.")
    elif has_stage1 and not used.isdisjoint(TRAINING_MODE_ONLY):
        log.warning(
            "Gradient checkpointing of this source works in stage 2 alone, because its library recomputes activations "
            "only while dropout is on. If stage 1 needs too much memory, lower stage1.batch_size and raise "
            "stage1.gradient_accumulation."
        )


def merges_batches(recipe: Recipe, model: nn.Module, device: torch.device, trains_all: bool) -> bool:
    """Return True if the batches of one update pass through the model together, which changes it only by rounding.

    A GPU is hardly busy with a small batch. Batch normalization that trains would see another batch.

    Args:
        recipe: All settings; `merge_batches` decides if it is set.
        model: The model.
        device: Its device.
        trains_all: True in stage 2, where batch normalization trains.
    """
    if recipe.merge_batches is not None:
        return recipe.merge_batches
    normalizes = trains_all and any(isinstance(module, _BatchNorm) for module in model.modules())
    return device.type == "cuda" and not normalizes


def check_precision(precision: str, device: torch.device) -> None:
    """Raise if a device does not have the number format of a training, and warn if it is slow.

    Args:
        precision: Value of the setting `precision`.
        device: Device to train on.

    Raises:
        UsageError: When the device has no double precision.
    """
    way_out = 'Pass `settings={"precision": "float32"}`'
    if precision == "float64" and precise_type(device) != torch.float64:
        raise UsageError(f'The device {device} has no double precision. {way_out}, or `device="cpu"`.')
    is_slow = precision == "bfloat16" and device.type == "cuda"
    if is_slow and not torch.cuda.is_bf16_supported(including_emulation=False):
        log.warning(
            "The GPU %s has no bfloat16, and training in float16 is not supported. PyTorch emulates bfloat16, which is "
            "slower than float32. %s.",
            torch.cuda.get_device_name(device),
            way_out,
        )


def fitting_batch(model: nn.Module, pass_one: Callable[[], object]) -> int:
    """Return how many samples may pass through a model on a CPU together: a power of two.

    A GPU says when its memory does not suffice. On a CPU the system may end the process without a word.

    Args:
        model: The model.
        pass_one: Function that passes one sample through it.
    """
    constants = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # A storage that is freed within the pass would give its address to the next one.
        detached = tensor.detach()
        kept[tensor.untyped_storage().data_ptr()] = detached
        return detached

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), seeded(torch.device("cpu"), 0):
        pass_one()
    size = sum(one.untyped_storage().nbytes() for address, one in kept.items() if address not in constants)
    return 1 << max(0, (ACTIVATION_BYTES // max(1, size)).bit_length() - 1)


@dataclass
class BatchSizes:
    """Largest numbers of target and of surrogate samples that pass through the model together.

    Attributes:
        settings: Settings of the stage.
        surrogate_batch: Number of surrogate samples of one update.
        merged: True if all batches of an update start together.
        fitting: Numbers of target and of surrogate samples that fit into the memory; empty if they are not known.
        divides: False if the objective cannot take its samples in smaller parts, as the alignment of classes by `orca`.
        halvings: How often the numbers were halved.
    """

    settings: OptimizerSettings
    surrogate_batch: int
    merged: bool
    fitting: Sequence[int] = ()
    divides: bool = True
    halvings: int = 0

    @property
    def target(self) -> int:
        """Largest number of target samples."""
        together = self.settings.batch_size * (self.settings.gradient_accumulation if self.merged else 1)
        return max(1, min([together, *self.fitting[:1]]) >> self.halvings)

    @property
    def surrogate(self) -> int | None:
        """Largest number of surrogate samples; None for all of an update."""
        size = max(1, min([self.surrogate_batch, *self.fitting[1:]]) >> self.halvings)
        return size if size < self.surrogate_batch else None

    @property
    def can_halve(self) -> bool:
        """True if one of the numbers is still above 1, and smaller ones would help."""
        return self.divides and max(self.target, self.surrogate or self.surrogate_batch) > 1

    def halve(self) -> None:
        """Halve both numbers, give unused memory back, and say so."""
        self.halvings += 1
        log.warning("The memory does not suffice. Continuing with batches of %d samples.", self.target)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


# Several processes


@dataclass(frozen=True)
class Processes:
    """The processes that train together, as seen by one of them; a single one unless torchrun started several.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        device: Device on which the processes exchange tensors.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """True for the one process that writes files and prints."""
        return self.rank == 0

    def interleaved_share(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's share of rows (n, ...): every `size`-th row, from `rank` on."""
        return rows[self.rank :: self.size]

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """Return the element-wise sums over all processes, from one exchange."""
        if self.size == 1 or not tensors:
            return tensors
        from accelerate.utils import reduce

        flat = reduce(torch.cat([tensor.detach().reshape(-1) for tensor in tensors]), reduction="sum")
        sums = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [total.view_as(tensor) for total, tensor in zip(sums, tensors, strict=True)]

    def gather(self, share: Tensor, total: int) -> Tensor:
        """Return the rows of all processes (total, ...), in the order before `interleaved_share` divided them.

        Gradients flow only through this process's rows; their sum over all processes is the complete gradient.

        Args:
            share: Rows of this process (n, ...).
            total: Number of rows of all processes.
        """
        if self.size == 1:
            return share
        positions = torch.arange(self.rank, total, self.size, device=share.device)
        rows = share.new_zeros((total, *share.shape[1:])).index_copy(0, positions, share.detach())
        return self.sum([rows])[0].index_copy(0, positions, share)

    def contiguous_share(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's share of rows (n, ...): neighboring rows, so that the ranks give their order."""
        first = self.rank * len(rows) // self.size
        end = (self.rank + 1) * len(rows) // self.size
        return rows[first:end]

    def average_batch_statistics(self, model: nn.Module) -> None:
        """Replace the running statistics of batch normalization, which differ by process, by their mean."""
        layers = [
            layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None
        ]
        statistics = [
            values for layer in layers for values in (layer.running_mean, layer.running_var) if values is not None
        ]
        for values, total in zip(statistics, self.sum(statistics), strict=True):
            if total is not values:
                values.copy_(total / self.size)

    def barrier(self) -> None:
        """Wait until all processes have reached this call."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def current_processes(device: str = "auto") -> Processes:
    """Return the processes that torchrun or accelerate started, or a single one if neither did.

    Args:
        device: `cpu` makes the processes exchange tensors on the CPU. Otherwise each process has an accelerator of
            its own, if there are any.

    Raises:
        UsageError: When there are several processes, but accelerate, which connects them, is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    accelerate = import_optional("accelerate", "Training in several processes needs accelerate", "distributed")
    state = accelerate.PartialState(cpu=device == "cpu" or not torch.accelerator.is_available())
    return Processes(state.process_index, state.num_processes, str(state.device))
