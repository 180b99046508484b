"""Start values: streams of random numbers, weights as a library starts them, parameters that nothing uses."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["STREAMS", "reinitialize", "seeded_rng", "stretch_channels", "unused_to_buffers"]

STREAMS = ("embedder", "encoder", "predictor")
"""Each part has random numbers of its own, so that how one starts changes nothing in another."""
BARE_SD, BARE_GAIN = 0.02, 1e-6
"""Start of parameters that no library says how to start: tables, as in ViT, and gains of branches, as in ConvNeXt."""


@contextlib.contextmanager
def seeded_rng(seed: int, part: str) -> Iterator[None]:
    """torch's random numbers on the CPU are those of this seed and part within the context, and untouched after."""
    (state,) = np.random.SeedSequence((seed, STREAMS.index(part))).generate_state(1)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the accelerators too.
        torch.default_generator.manual_seed(int(state))
        yield


def reinitialize(module: nn.Module) -> None:
    """Start all parameters, and the running statistics, anew: as the model's library does, else as torch does."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(math.nan)
        # Children first: a model's own rule for its parts goes before torch's.
        for layer in reversed(list(module.modules())):
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
        _by_timm(module)
        _by_transformers(module, None)
        for name, parameter in module.named_parameters():
            if parameter.isnan().any():
                _start_bare(name, parameter)


def _by_timm(module: nn.Module) -> None:
    """Copy what a new model of the same architecture starts from; what has another shape in it is left."""
    for model in module.modules():
        configuration = getattr(model, "pretrained_cfg", None)
        name = configuration.get("architecture") if isinstance(configuration, dict) else None
        if not isinstance(name, str):
            continue
        import timm

        if timm.is_model(name):
            new, own = timm.create_model(name, num_classes=0).state_dict(), model.state_dict()
            for key in own.keys() & new.keys():
                if own[key].shape == new[key].shape:
                    own[key].copy_(new[key])


def _of_transformers(module: nn.Module) -> bool:
    return hasattr(module, "config") and callable(getattr(module, "_init_weights", None))


def _by_transformers(module: nn.Module, rule: Callable[[nn.Module], None] | None) -> None:
    """Each module by the rule of the nearest model of transformers around it."""
    if _of_transformers(module):
        model: Any = module
        rule = model._init_weights
    for child in module.children():
        _by_transformers(child, rule)
    if rule is not None:
        rule(module)


def _start_bare(name: str, parameter: Tensor) -> None:
    if parameter.ndim > 1:
        nn.init.trunc_normal_(parameter, std=BARE_SD)
    elif "bias" in name.rpartition(".")[2]:
        parameter.zero_()
    else:
        parameter.fill_(BARE_GAIN)


def stretch_channels(weight: Tensor, channels: int) -> Tensor:
    """Weights (out, source channels, ...) of a convolution for other channels: repeated, then truncated.

    They are scaled by source channels / channels, so that the response keeps its size.

    Example:
        >>> stretch_channels(torch.tensor([[1.0, 2.0, 3.0]]), 6).tolist()
        [[0.5, 1.0, 1.5, 0.5, 1.0, 1.5]]
    """
    own = weight.shape[1]
    order = torch.arange(channels, device=weight.device) % own
    return weight[:, order] * (own / channels)


def unused_to_buffers(module: nn.Module, output: Tensor) -> list[str]:
    """Make buffers of the parameters that an output does not depend on; returns their names.

    Heads and poolers that the encoder's tokens never see would else count as trainable, and stay as they are.

    Args:
        module: The module.
        output: What was computed with it, with its graph.
    """
    used, dropped = _leaves(output), []
    for path, layer in module.named_modules():
        for name, parameter in list(layer.named_parameters(recurse=False)):
            if id(parameter) not in used:
                del layer._parameters[name]
                layer.register_buffer(name, parameter.detach())
                dropped.append(f"{path}.{name}" if path else name)
    return dropped


def _leaves(output: Tensor) -> set[int]:
    """Identities of the tensors that an output's graph starts from."""
    waiting, seen, leaves = [output.grad_fn], set(), set()
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return leaves
