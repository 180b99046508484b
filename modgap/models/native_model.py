"""Native model: the input, embedder and encoder of a source as they are, and a linear predictor on pooled features."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.models.initialization import reinitialize, seeded_rng, unused_to_buffers
from modgap.models.target_model import TargetModel
from modgap.sources import ImageInput, Source, TextInput, WaveformInput
from modgap.sources.inputs import pool_tokens
from modgap.targets.output import Output

NativeInput = ImageInput | TextInput | WaveformInput
"""Inputs whose preparation of a batch is a part of the network."""


def native_input(source: Source) -> NativeInput:
    """Return the input of a source whose preparation of a batch can be a part of a network.

    Raises:
        UsageError: When the source takes sound of any length, or its input is another package's.
    """
    if isinstance(source.input, TextInput) and "attention_mask" not in source.input.features:
        raise UsageError("The tokenizer of the source gives no mask, so its texts cannot be padded. Choose another.")
    if not isinstance(source.input, NativeInput):
        raise UsageError(
            f"The source prepares {source.input.kind} by a library's function, as sources of sound of any length do. "
            "No gradient passes through it, and no program has it. Choose another source."
        )
    return source.input


class NativeEmbedder(nn.Module):
    """The embedder of a source behind the source's own preparation of a batch.

    It takes images (n, C, H, W), waveforms (n, window), or the tokens of texts (n, features, T).
    """

    def __init__(self, source_input: NativeInput, embedder: nn.Module) -> None:
        """Join an input and an embedder."""
        super().__init__()
        self.source_input = source_input
        self.embedder = embedder

    def forward(self, x: Tensor) -> Any:
        """Return the encoder's input."""
        return self.embedder(self.source_input.prepare(x))


class ProbePredictor(nn.Module):
    """Linear layer on standardized features, as a linear probe is."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, shape: tuple[int, ...]) -> None:
        """Create the predictor with random weights, for features that are not standardized.

        Args:
            width: Number of features.
            shape: Shape of the output for a sample.
        """
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(width, math.prod(shape))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def set_probe(self, mean: Tensor, scale: Tensor, weights: Tensor, intercepts: Tensor) -> None:
        """Take over the mean and the standard deviation of features (D,), weights (M, D) and intercepts (M,)."""
        self.load_state_dict({"mean": mean, "scale": scale, "linear.weight": weights, "linear.bias": intercepts})

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the outputs (n, ...) for the features as one token, (n, 1, D)."""
        features = tokens.mean(dim=1)
        outputs: Tensor = self.linear((features - self.mean) / self.scale)
        return outputs if len(self.shape) == 1 else torch.unflatten(outputs, 1, self.shape)


def native_model(
    source: Source, piece: Tensor, output: Output, *, pretrained: bool = True, seed: int = 0
) -> TargetModel:
    """Build the model that a linear probe of a source is: all of the source, and a linear layer on its features.

    Args:
        source: The source.
        piece: One piece of a sample, as the embedder takes it.
        output: Output to predict for each sample.
        pretrained: True for the source's weights in embedder and encoder, False for random ones.
        seed: Seed of all random start values, 0 or more. The predictor starts at random.

    Returns:
        The model on the CPU, in training mode. Its encoder gives the pooled features as one token. Parameters that the
        outputs do not depend on are buffers.

    Raises:
        UsageError: When `native_input` raises it.
    """
    parts = source.split()
    embedder = NativeEmbedder(native_input(source), copy.deepcopy(parts.embedder))
    encoder = copy.deepcopy(parts.encoder)
    for name, part in (("embedder", embedder), ("encoder", encoder)):
        part.cpu().requires_grad_(True).zero_grad(set_to_none=True)
        if not pretrained:
            with seeded_rng(seed, name):
                reinitialize(part)
        part.eval()
    tokens = parts.tokens

    def pooled(encoded: Any) -> Tensor:
        """Return the pooled features of each piece from the encoder's output, as one token (n, 1, D)."""
        return pool_tokens(tokens(encoded), getattr(encoded, "arguments", None))[:, None]

    with torch.enable_grad():
        features = pooled(encoder(embedder(piece[None])))
    for part in (embedder, encoder):
        unused_to_buffers(part, features)
    with seeded_rng(seed, "predictor"):
        predictor = ProbePredictor(features.shape[2], output.shape)
    return TargetModel(embedder, encoder, predictor, pooled, prefix_tokens=0).train()
