"""Start values of models: seeded random streams, reinitialization, and parameters that nothing uses."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

STREAMS = ("embedder", "encoder", "predictor", "adapter")
"""Parts of a model. Each has a random stream of its own, so that the start of one does not change another."""
FALLBACK_SD = 0.02
"""Standard deviation of tables for which no library defines a start, as in ViT."""
FALLBACK_GAIN = 1e-6
"""Start of gains of branches for which no library defines a start, as in ConvNeXt."""


@contextlib.contextmanager
def seeded_rng(seed: int, part: str) -> Iterator[None]:
    """Seed torch's random numbers on the CPU within the context, and restore their state afterwards.

    Args:
        seed: Seed, 0 or more.
        part: Part of the model whose stream is used, one of `STREAMS`.
    """
    (state,) = np.random.SeedSequence((seed, STREAMS.index(part))).generate_state(1)
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the accelerators too.
        torch.default_generator.manual_seed(int(state))
        yield


def reinitialize(module: nn.Module) -> None:
    """Draw all parameters anew and reset the running statistics, as the model's library does, else as torch does."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(math.nan)
        # Children come first, so that a model's own rule for its parts overrides torch's.
        for layer in reversed(list(module.modules())):
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
        _copy_timm_start(module)
        _apply_transformers_rules(module, None)
        for name, parameter in module.named_parameters():
            if not parameter.isnan().any():
                continue
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=FALLBACK_SD)
            else:
                parameter.fill_(0 if "bias" in name.rpartition(".")[2] else FALLBACK_GAIN)


def _copy_timm_start(module: nn.Module) -> None:
    """Copy the start values of a new timm model of the same architecture, for entries of the same shape."""
    for model in module.modules():
        configuration = getattr(model, "pretrained_cfg", None)
        name = configuration.get("architecture") if isinstance(configuration, dict) else None
        if not isinstance(name, str):
            continue
        import timm

        if timm.is_model(name):
            start = timm.create_model(name, num_classes=0).state_dict()
            state = model.state_dict()
            for key in state.keys() & start.keys():
                if state[key].shape == start[key].shape:
                    state[key].copy_(start[key])


def _apply_transformers_rules(module: nn.Module, rule: Callable[[nn.Module], None] | None) -> None:
    """Initialize each module by the rule of the nearest transformers model around it."""
    own_rule = getattr(module, "_init_weights", None)
    if hasattr(module, "config") and callable(own_rule):
        rule = own_rule
    for child in module.children():
        _apply_transformers_rules(child, rule)
    if rule is not None:
        rule(module)


def stretch_channels(weight: Tensor, channels: int) -> Tensor:
    """Return the weights of a convolution for another number of input channels: repeated, then truncated.

    They are scaled by source channels / channels, so that the response keeps its magnitude.

    Args:
        weight: Weights (out, source channels, ...).
        channels: New number of input channels.

    Returns:
        Weights (out, channels, ...).

    Example:
        >>> stretch_channels(torch.tensor([[1.0, 2.0, 3.0]]), 6).tolist()
        [[0.5, 1.0, 1.5, 0.5, 1.0, 1.5]]
    """
    source_channels = weight.shape[1]
    order = torch.arange(channels, device=weight.device) % source_channels
    return weight[:, order] * (source_channels / channels)


def unused_to_buffers(module: nn.Module, output: Tensor) -> None:
    """Turn the parameters that an output does not depend on into buffers.

    Heads and poolers that never see the encoder's tokens would otherwise count as trainable, though training would
    never change them.

    Args:
        module: Module whose parameters are examined. It is changed in place.
        output: Tensor that was computed with the module, with its graph.
    """
    # Identities of the tensors that the output's graph starts from.
    used: set[int] = set()
    waiting: list[Any] = [output.grad_fn]
    visited: set[Any] = {None}
    while waiting:
        if (node := waiting.pop()) not in visited:
            visited.add(node)
            if hasattr(node, "variable"):
                used.add(id(node.variable))
            waiting += [following for following, _ in node.next_functions]
    for layer in module.modules():
        for name, parameter in list(layer.named_parameters(recurse=False)):
            if id(parameter) not in used:
                del layer._parameters[name]
                layer.register_buffer(name, parameter.detach())
