"""Layers of normalisation: which they are, what scale they give, and their running statistics held still."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from modgap.errors import unknown_name

__all__ = ["frozen_statistics", "is_normalisation", "last_normalisation", "normalisation_parameters", "output_scale"]


def is_normalisation(module: nn.Module) -> bool:
    """Whether it is a layer of normalisation, torch's or a library's own, with or without parameters.

    Libraries define root-mean-square and other norms of their own, which share no class but the word in their name.
    """
    return "Norm" in type(module).__name__ or isinstance(
        module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm | _BatchNorm | nn.InstanceNorm2d
    )


def normalisation_parameters(encoder: nn.Module) -> list[str]:
    """Names of the affine parameters of all layers of normalisation, in the encoder's order.

    They are all of the encoder that the method `fpt` trains (Lu et al. 2022, Frozen Pretrained Transformers).

    Example:
        >>> normalisation_parameters(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)))
        ['1.weight', '1.bias']
    """
    return [
        f"{path}.{name}" if path else name
        for path, module in encoder.named_modules()
        if is_normalisation(module)
        for name, _ in module.named_parameters(recurse=False)
    ]


def last_normalisation(module: nn.Module) -> nn.Module | None:
    """The layer of normalisation that comes after all other layers with parameters, if one does."""
    layers = [layer for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None]
    return layers[-1] if layers and is_normalisation(layers[-1]) else None


def output_scale(norm: nn.Module) -> float:
    """Root mean square of what a layer of normalisation gives, by its gain and shift."""
    layer: Any = norm
    with torch.no_grad():
        square = layer.weight.double().square().mean()
        if getattr(layer, "bias", None) is not None:
            square = square + layer.bias.double().square().mean()
    return float(square.sqrt())


@contextlib.contextmanager
def frozen_statistics(module: nn.Module, by: Literal["batch", "running"] = "batch") -> Iterator[None]:
    """Batch normalisation leaves its running statistics as they are within the context.

    Args:
        module: All batch normalisation below it.
        by: `batch` normalises as the layers' mode says, in training by the batch's own statistics;
            `running` by the running statistics, in training too.

    Raises:
        UsageError: When `by` is neither.
    """
    if by not in ("batch", "running"):
        raise unknown_name("statistics", by, ("batch", "running"))
    # In training a layer updates what it tracks; one that is told not to track goes by the batch alone.
    attribute = "track_running_stats" if by == "batch" else "training"
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]
    before = [getattr(layer, attribute) for layer in layers]
    try:
        for layer in layers:
            setattr(layer, attribute, False)
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            setattr(layer, attribute, value)
