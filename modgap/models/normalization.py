"""Normalization layers of a model: detection, parameter names, running statistics and output scale."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def is_normalization(module: nn.Module) -> bool:
    """Return True if a module is a normalization layer, of torch or of another library, with or without parameters.

    Libraries define root-mean-square and other norms of their own. They share no base class, only `Norm` in the name.
    """
    return "Norm" in type(module).__name__ or isinstance(
        module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm | _BatchNorm | nn.InstanceNorm2d
    )


def normalization_parameters(encoder: nn.Module) -> list[str]:
    """Return the names of the affine parameters of all normalization layers, in the encoder's order.

    The method `fpt` trains only these parameters of the encoder (Lu et al. 2022, Frozen Pretrained Transformers).

    Example:
        >>> normalization_parameters(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)))
        ['1.weight', '1.bias']
    """
    return [
        f"{path}.{name}" if path else name
        for path, module in encoder.named_modules()
        if is_normalization(module)
        for name, _ in module.named_parameters(recurse=False)
    ]


def hold_running_statistics(module: nn.Module) -> None:
    """Put the layers with running statistics, such as batch normalization, into evaluation mode, and no other layers.

    They then normalize by these statistics and do not update them. Calling `train` on the module ends this.
    """
    for layer in module.modules():
        if getattr(layer, "running_mean", None) is not None:
            layer.training = False


@contextlib.contextmanager
def repeated_pass(module: nn.Module) -> Iterator[None]:
    """Let batch normalization that trains not update its running statistics within a block.

    Gradient checkpointing repeats the forward pass in the backward pass, and the batch must not count twice.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        # The layer has to see its statistics, because the passes must save the same tensors.
        layer.momentum = 0.0
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked = layer.num_batches_tracked.clone()
    try:
        yield
    finally:
        for layer, (momentum, n_batches) in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.num_batches_tracked = n_batches


def uses_batch_statistics(module: nn.Module) -> bool:
    """Return True if a layer of a module normalizes by the statistics of the batch, as batch normalization trains."""
    return any(isinstance(layer, _BatchNorm) and layer.training for layer in module.modules())


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode within a block; afterwards each of its layers has the mode that it had."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, is_training in modes:
            layer.training = is_training


def last_normalization(module: nn.Module) -> nn.Module | None:
    """Return the normalization layer that follows all other layers with parameters, or None if there is none."""
    layers = [layer for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None]
    return layers[-1] if layers and is_normalization(layers[-1]) else None


def output_scale(norm: nn.Module) -> float:
    """Return the root mean square of the output of a normalization layer, computed from its gain and shift."""
    layer: Any = norm
    with torch.no_grad():
        square = layer.weight.double().square().mean()
        if getattr(layer, "bias", None) is not None:
            square = square + layer.bias.double().square().mean()
    return float(square.sqrt())
