"""Where and how a model computes: device, precision, layout of images in memory, TF32, and compilation."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from modgap.models import TargetModel
from modgap.transfer.recipe import Recipe

__all__ = ["Forward", "allows_tf32", "call", "channels_last", "forward_of", "place", "tf32"]

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
    return channels_last(placed) if convolutional and device.type == "cuda" else placed


def channels_last(model: TargetModel) -> TargetModel:
    """Return a model with the channels of its convolutions' weights last in memory; its values stay as they are."""
    converted: TargetModel = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return converted


def allows_tf32(recipe: Recipe, section: str, objective: str) -> bool:
    """Return True if a stage may round the factors of matrix products to TF32, on GPUs that have it.

    Finite differences would drown in that rounding, and double precision is for checks.

    Args:
        recipe: All settings.
        section: Section of the recipe that the stage uses.
        objective: Objective of the stage.
    """
    differences = section == "stage1" and objective == "mona" and recipe.stage1.route == "finite-difference"
    return recipe.precision != "float64" and not differences


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow TF32 in matrix products and convolutions within the block, or forbid it."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def call(model: TargetModel, x: Tensor) -> Tensor:
    """Return the outputs of a model."""
    outputs: Tensor = model(x)
    return outputs


def forward_of(recipe: Recipe, section: str) -> Forward:
    """Return the function that runs the model: compiled in stage 2 if the recipe says so.

    Stage 1 differentiates twice, which compiled functions do not allow.
    """
    return torch.compile(call) if recipe.compile_model and section == "stage2" else call
