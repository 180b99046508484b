"""A model of target data: a new embedder, a pretrained source's encoder, a new predictor."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import UsageError, unknown_name
from modgap.models.embedders import EmbedderStart, series_embedder, stem_embedder
from modgap.models.initialization import reinitialize, seeded_rng, unused_to_buffers
from modgap.models.layouts import FoldedSeries, Layout, ResizedImage, StridedSeries, sequence_stride
from modgap.models.predictors import Grid, Output, build_predictor, find_token_grid
from modgap.sources import Source

__all__ = ["TargetModel", "target_model"]

TARGET_LENGTH = 512


class TargetModel(nn.Module):
    """Predictor after encoder after embedder: h(f(e(x))) in the paper's symbols.

    Attributes:
        embedder: Samples to what enters the encoder.
        encoder: The source's.
        predictor: The encoder's tokens to outputs.
        leading: Class tokens and registers before the encoder's other tokens.
    """

    def __init__(
        self, embedder: nn.Module, encoder: nn.Module, predictor: nn.Module, as_tokens: Callable[[Any], Tensor],
        leading: int,
    ) -> None:  # fmt: skip
        """The three parts, what makes tokens of the encoder's features, and how many of the first are no content."""
        super().__init__()
        self.embedder, self.encoder, self.predictor = embedder, encoder, predictor
        self.as_tokens, self.leading = as_tokens, leading

    def tokens(self, x: Tensor) -> Tensor:
        """What enters the encoder: tokens (n, T, D), or the stem's feature map (n, D, H, W)."""
        return self.embedder(x)

    def encode(self, tokens: Tensor) -> Tensor:
        """The encoder's tokens (n, T', D') of what enters it; the first `leading` of them are no content."""
        return self.as_tokens(self.encoder(tokens))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, K), or values (n, channels, ...), of samples (n, C, H, W) or (n, C, length)."""
        return self.predictor(self.encode(self.embedder(x)))


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
    """Make a model of target data from a source (MoNA, appendix A.2; shapes as in ORCA).

    Embedder, encoder and predictor draw their start values from random numbers of their own, so at one
    seed the predictor starts the same for all methods, and the embedder for all with the same `embedder_start`.

    Args:
        source: A source of images or of text.
        sample: One sample, or any array of its shape: (C, H, W) or (C, length).
        output: What to give for each.
        length: Most tokens that a sample becomes for a source of text; None for 512, or as many as it takes.
        embedder_start: `source` starts the embedder from the source's own, its channels repeated and truncated.
        pretrained_encoder: False starts the encoder from random weights.
        seed: Of all start values, from 0.

    Returns:
        The model on the CPU, in training mode. The encoder is a copy. Parameters of it that the outputs do not
        depend on are buffers.

    Raises:
        UsageError: When the source takes sound, its stem is not known, or samples are no arrays of two or three
            dimensions.
    """
    shape = _sample_shape(source, sample)
    if embedder_start not in ("random", "source"):
        raise unknown_name("embedder_start", str(embedder_start), ("random", "source"))
    if seed < 0:
        raise UsageError(f"expected a seed from 0, got {seed}")
    layout, area = _layout(source, shape, length)
    parts = source.split()
    with seeded_rng(seed, "embedder"):
        embedder = _embedder(parts.embedder, shape, layout, area, embedder_start)
    encoder = copy.deepcopy(parts.encoder).cpu().requires_grad_(True)
    encoder.zero_grad(set_to_none=True)
    if not pretrained_encoder:
        with seeded_rng(seed, "encoder"):
            reinitialize(encoder)
    grid, width = _observed(embedder, encoder, parts.tokens, shape, area)
    with seeded_rng(seed, "predictor"):
        predictor = build_predictor(output, width, grid, layout, area)
    return TargetModel(embedder, encoder, predictor, parts.tokens, grid.leading).train()


def _sample_shape(source: Source, sample: Any) -> tuple[int, ...]:
    possible = "sources of images or text learn from arrays (C, H, W) or (C, length)"
    if source.input.kind not in ("image", "text"):
        raise UsageError(
            f"expected a source of images or text to train on, this one takes {source.input.kind}; {possible}"
        )
    shape = getattr(sample, "shape", None)
    if shape is None or len(shape) not in (2, 3) or 0 in shape:
        got = type(sample).__name__ if shape is None else f"shape {tuple(shape)}"
        raise UsageError(f"expected samples that a target embedder takes, got {got}; {possible}")
    return tuple(int(size) for size in shape)


def _layout(source: Source, shape: tuple[int, ...], length: int | None) -> tuple[Layout, tuple[int, ...]]:
    """How samples are laid out, and the sizes of what the stem gets."""
    own: Any = source.input
    if own.kind == "text":
        most = _most_tokens(own.max_tokens, length)
        flat = StridedSeries(shape, 1)
        series = StridedSeries(shape, sequence_stride(flat.length, most))
        return series, (series.tokens * series.stride,)
    if length is not None:
        raise UsageError("a target length applies to sources of text, this one takes images of its own size")
    size = int(own.size[0]), int(own.size[1])
    return (ResizedImage(shape[0], size) if len(shape) == 3 else FoldedSeries((shape[0], shape[1]), size)), size


def _most_tokens(places: int, length: int | None) -> int:
    if length is None:
        return min(TARGET_LENGTH, places)
    if not 1 <= length <= places:
        raise UsageError(f"expected a target length from 1 to the {places} tokens that the source takes, got {length}")
    return length


def _embedder(
    source: nn.Module, shape: tuple[int, ...], layout: Layout, area: tuple[int, ...], embedder_start: EmbedderStart
) -> nn.Module:
    if isinstance(layout, StridedSeries):
        return series_embedder(source, layout, embedder_start)
    return stem_embedder(source, shape, layout, (area[0], area[1]), embedder_start)


def _observed(
    embedder: nn.Module, encoder: nn.Module, as_tokens: Callable, shape: tuple[int, ...], area: tuple[int, ...]
) -> tuple[Grid, int]:
    """How the encoder's tokens lie, and their width, seen on one sample; parameters that they don't see are dropped."""
    embedder.eval()
    encoder.eval()
    with torch.enable_grad():
        entering = embedder(torch.zeros(1, *shape))
        features = encoder(entering)
        tokens = as_tokens(features)
    for part in (embedder, encoder):
        unused_to_buffers(part, tokens)
    if len(area) == 1:
        return Grid((tokens.shape[1],)), tokens.shape[2]
    return find_token_grid(features, tokens, entering, (area[0], area[1])), tokens.shape[2]
