"""Features of the layers of an encoder, pooled over tokens or positions, from one pass."""

import fnmatch
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from modgap.errors import unknown_name
from modgap.sources import Batch, Parts
from modgap.sources.splitting import to_tokens

OUTPUT = "output"
"""Layer name of the output of the encoder."""
BLOCKS = ("Block", "Layer", "Bottleneck", "Residual", "SeparableConv")
"""Parts of the names of the classes from which libraries build encoders."""


class PooledBatch(Protocol):
    """A batch with the rule by which the tokens of its samples are pooled."""

    @property
    def inputs(self) -> Batch:
        """Input of the source's embedder."""

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the features (B, D) of tokens (B, T, D)."""


class PooledLayers(nn.Module):
    """Module from a batch to the pooled features of several layers of an encoder, shape (B, sum of the widths)."""

    def __init__(self, parts: Parts, encoder: nn.Module, layers: Sequence[str], channels_first: bool) -> None:
        """Record the outputs of these layers. `widths` has their numbers of features after the first batch.

        Args:
            parts: Parts of the source.
            encoder: The source's encoder, or another with the same modules.
            layers: Names of modules of the encoder, or `output`.
            channels_first: True if feature maps have shape (B, D, H, W), not (B, H, W, D).
        """
        super().__init__()
        self.embedder = parts.embedder
        self.encoder = encoder
        self.layers = tuple(layers)
        self.widths: tuple[int, ...] = ()
        self._output_tokens = parts.tokens
        self._layer_tokens = partial(_module_tokens, channels_last=not channels_first)

    def forward(self, batch: PooledBatch) -> Tensor:
        """Return the features of all layers side by side; `widths` then has their numbers."""
        outputs: dict[str, object] = {}

        def record(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
            outputs[name] = output

        with ExitStack() as stack:
            for name in self.layers:
                if name != OUTPUT:
                    hook = self.encoder.get_submodule(name).register_forward_hook(partial(record, name))
                    stack.callback(hook.remove)
            output = self.encoder(self.embedder(batch.inputs))
        tokens = {name: self._layer_tokens(value) for name, value in outputs.items()}
        tokens[OUTPUT] = self._output_tokens(output)
        pooled = [batch.pool(tokens[name]) for name in self.layers]
        self.widths = tuple(features.shape[1] for features in pooled)
        return torch.cat(pooled, dim=1)


def _module_tokens(output: object, *, channels_last: bool) -> Tensor:
    """Return the output of a module as tokens, shape (B, T, D).

    Args:
        output: Tokens, a feature map, one vector for each sample, or a tuple or mapping that begins with one of these.
        channels_last: True if feature maps have shape (B, H, W, D), not (B, D, H, W).
    """
    if isinstance(output, Mapping):
        output = next(iter(output.values()))
    while isinstance(output, tuple | list):
        output = output[0]
    assert isinstance(output, Tensor)
    return to_tokens(output, channels_last=channels_last)


def block_names(encoder: nn.Module) -> list[str]:
    """Return the names of the blocks of an encoder, in its order; blocks that contain other blocks are left out.

    Example:
        >>> block_names(nn.Sequential(nn.TransformerEncoderLayer(4, 2), nn.TransformerEncoderLayer(4, 2)))
        ['0', '1']
    """
    blocks = {
        f"{path}.{name}" if path else name
        for path, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        for name, child in module.named_children()
        if any(part in type(child).__name__ for part in BLOCKS) and "Norm" not in type(child).__name__
    }
    innermost = {name for name in blocks if not any(other.startswith(f"{name}.") for other in blocks)}
    return [name for name, _ in encoder.named_modules() if name in innermost]


def layer_names(encoder: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the names of the layers that match names and wildcards, in the order of the encoder, its output last.

    Args:
        encoder: The encoder.
        patterns: Names of modules, patterns such as `blocks.*.mlp`, `blocks` for all blocks, or `output`.

    Raises:
        UsageError: When a pattern matches no layer; the error lists the nearest names.
    """
    names = [*(name for name, _ in encoder.named_modules() if name), OUTPUT]
    selected: set[str] = set()
    for pattern in patterns:
        matches = block_names(encoder) if pattern == "blocks" else fnmatch.filter(names, pattern)
        if not matches:
            raise unknown_name("layer of the encoder", pattern, [*names, "blocks"])
        selected.update(matches)
    return [name for name in names if name in selected]
