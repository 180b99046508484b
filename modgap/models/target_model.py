"""Target model: a new embedder, the pretrained encoder of a source and a new predictor."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError, unknown_name
from modgap.models.embedders import EmbedderStart, series_embedder, sound_embedder, sound_tokens, stem_embedder
from modgap.models.initialization import reinitialize, seeded_rng, unused_to_buffers
from modgap.models.layouts import FoldedSeries, Layout, ResizedImage, StretchedSeries, StridedSeries, sequence_stride
from modgap.models.predictors import TokenGrid, build_predictor, find_token_grid
from modgap.sources import Parts, Source
from modgap.targets.output import Output

TARGET_LENGTH = 512
"""Default of the largest number of tokens that a sample becomes for a text source, as in ORCA."""
SUPPORTED = "A target model needs samples of shape (C, H, W) or (C, length)."


class TargetModel(nn.Module):
    """Predictor after encoder after embedder: h(f(e(x))) in the symbols of the paper.

    Attributes:
        embedder: Module that turns samples into the encoder's input.
        encoder: Encoder of the source.
        predictor: Module that turns the encoder's tokens into outputs.
        features_to_tokens: Function that turns the encoder's output into tokens (n, T', D').
        prefix_tokens: Number of class tokens and registers before the encoder's other tokens.
    """

    def __init__(
        self,
        embedder: nn.Module,
        encoder: nn.Module,
        predictor: nn.Module,
        features_to_tokens: Callable[[Any], Tensor],
        prefix_tokens: int,
    ) -> None:
        """Create the model from its parts; see the attributes of the class."""
        super().__init__()
        self.embedder = embedder
        self.encoder = encoder
        self.predictor = predictor
        self.features_to_tokens = features_to_tokens
        self.prefix_tokens = prefix_tokens

    def embed(self, x: Tensor) -> Tensor:
        """Return the encoder's input for samples: tokens (n, T, D), or the stem's feature map (n, D, H, W)."""
        encoder_input: Tensor = self.embedder(x)
        return encoder_input

    def encode(self, encoder_input: Tensor) -> Tensor:
        """Return the encoder's tokens (n, T', D') for its input. The first `prefix_tokens` hold no content."""
        return self.features_to_tokens(self.encoder(encoder_input))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, K), or values (n, channels, ...), for samples (n, C, H, W) or (n, C, length)."""
        outputs: Tensor = self.predictor(self.encode(self.embedder(x)))
        return outputs


def target_model(
    source: Source,
    sample: Any,
    output: Output,
    *,
    length: int | None = None,
    embedder_start: EmbedderStart = "random",
    pretrained_encoder: bool = True,
    seed: int = 0,
) -> TargetModel:
    """Build a model of target data from a source (MoNA, appendix A.2; shapes as in ORCA).

    Embedder, encoder and predictor draw their start values from separate random streams. With the same seed the
    predictor therefore starts the same for all methods, and the embedder for all methods with the same
    `embedder_start`.

    Args:
        source: Source of images, text or sound.
        sample: One sample, or any array of its shape: (C, H, W) or (C, length).
        output: Output to predict for each sample.
        length: Largest number of tokens that a sample becomes, for a text source only. None for 512, or the source's
            own limit if that is smaller.
        embedder_start: `random` for random start values of the embedder. `source` for the weights of the source's own
            embedder, with channels repeated and truncated for images, and mixed to one for sound; for a text source,
            vectors of its words.
        pretrained_encoder: True for the source's weights in the encoder, False for random ones.
        seed: Seed of all start values, 0 or more.

    Returns:
        The model on the CPU, in training mode. The encoder is a copy. Parameters that the outputs do not depend on are
        buffers.

    Raises:
        UsageError: When the source's stem is not supported, or samples are not arrays of two or three dimensions.
    """
    if not hasattr(sample, "shape"):
        raise UsageError(f"The samples are of type {type(sample).__name__}. {SUPPORTED}")
    shape = tuple(int(size) for size in sample.shape)
    if len(shape) not in (2, 3) or 0 in shape:
        raise UsageError(f"The samples have shape {shape}. {SUPPORTED}")
    if embedder_start not in ("random", "source"):
        raise unknown_name("embedder_start", str(embedder_start), ("random", "source"))
    if seed < 0:
        raise UsageError(f"The seed is {seed}, but it must be 0 or more.")
    parts = source.split()
    layout, area = _choose_layout(source, parts, shape, length)
    with seeded_rng(seed, "embedder"):
        embedder: nn.Module
        if isinstance(layout, StretchedSeries):
            embedder = sound_embedder(parts.embedder, source.input, layout, embedder_start)
        elif isinstance(layout, StridedSeries):
            embedder = series_embedder(parts.embedder, layout, embedder_start)
        else:
            embedder = stem_embedder(parts.embedder, shape, layout, (area[0], area[1]), embedder_start)
    encoder = copy.deepcopy(parts.encoder).cpu().requires_grad_(True)
    encoder.zero_grad(set_to_none=True)
    if not pretrained_encoder:
        with seeded_rng(seed, "encoder"):
            reinitialize(encoder)
    grid, width = _trace_tokens(embedder, encoder, parts.tokens, shape, area)
    with seeded_rng(seed, "predictor"):
        predictor = build_predictor(output, width, grid, layout, area)
    return TargetModel(embedder, encoder, predictor, parts.tokens, prefix_tokens=grid.prefix_tokens).train()


def _choose_layout(
    source: Source, parts: Parts, shape: tuple[int, ...], length: int | None
) -> tuple[Layout, tuple[int, ...]]:
    """Return the layout of samples, and the area: the sizes of the stem's input, without channels.

    The area is the height and width of an image in pixels, or the number of values of a series.
    """
    source_input: Any = source.input
    if source_input.kind == "text":
        limit = int(source_input.max_tokens)
        if length is not None and not 1 <= length <= limit:
            raise UsageError(f"The target length is {length}, but the source takes 1 to {limit} tokens.")
        stride = sequence_stride(math.prod(shape[1:]), length or min(TARGET_LENGTH, limit))
        series = StridedSeries(shape, stride)
        return series, (series.padded_length,)
    if length is not None:
        raise UsageError(
            f"The target length {length} applies to text sources only, but the source takes {source_input.kind}."
        )
    if source_input.kind == "audio":
        stretched = StretchedSeries(shape, sound_tokens(parts.embedder, source_input).shape[1])
        return stretched, (stretched.tokens * stretched.stride,)
    size = int(source_input.size[0]), int(source_input.size[1])
    if len(shape) == 3:
        return ResizedImage(shape[0], size), size
    return FoldedSeries((shape[0], shape[1]), size), size


def _trace_tokens(
    embedder: nn.Module,
    encoder: nn.Module,
    features_to_tokens: Callable[[Any], Tensor],
    shape: tuple[int, ...],
    area: tuple[int, ...],
) -> tuple[TokenGrid, int]:
    """Run one sample, and return the arrangement and the width of the encoder's tokens.

    Parameters that the tokens do not depend on become buffers. Both modules are left in evaluation mode.
    """
    embedder.eval()
    encoder.eval()
    # The graph of gradients tells which parameters the tokens depend on, also where a caller has turned it off.
    with torch.enable_grad():
        encoder_input = embedder(torch.zeros(1, *shape))
        features = encoder(encoder_input)
        tokens = features_to_tokens(features)
    for part in (embedder, encoder):
        unused_to_buffers(part, tokens)
    width = tokens.shape[2]
    if len(area) == 1:
        return TokenGrid((tokens.shape[1],)), width
    return find_token_grid(features, tokens, encoder_input, (area[0], area[1])), width
