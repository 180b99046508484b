"""Target embedders: a source's stem for the target's channels, or stretches of a series in place of words."""

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.models.initialization import reinitialize, stretch_channels
from modgap.models.layouts import Layout, StridedSeries
from modgap.models.normalization import last_normalization, output_scale

__all__ = ["EmbedderStart", "SeriesEmbedder", "StemEmbedder", "series_embedder", "stem_embedder"]

EmbedderStart = Literal["random", "source"]
PROBES = 8


class StemEmbedder(nn.Module):
    """Samples through a stem of the source's shape: tokens (n, T, D), normalized, or a feature map."""

    def __init__(self, shape: tuple[int, ...], layout: Layout, stem: nn.Module, norm: nn.Module) -> None:
        """A sample's shape, how it is laid out, the stem, and what normalizes its tokens."""
        super().__init__()
        self.shape, self.layout, self.stem, self.norm = shape, layout, stem, norm

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (n, T, D), or a map (n, D, H, W), of samples (n, ...)."""
        _check_shape(x, self.shape)
        return self.norm(self.stem(self.layout.arrange(x)))


class SeriesEmbedder(nn.Module):
    """Stretches of a series as tokens: convolution with kernel = stride, LayerNorm, positions."""

    def __init__(self, layout: StridedSeries, width: int) -> None:
        """How samples are laid out, and the width D of tokens."""
        super().__init__()
        self.layout = layout
        self.projection = nn.Conv1d(layout.channels, width, layout.stride, layout.stride)
        self.norm = nn.LayerNorm(width)
        # From zero: the encoder adds the source's own positions.
        self.positions = nn.Parameter(torch.zeros(layout.tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (n, T, D) of samples (n, C, ...)."""
        _check_shape(x, self.layout.shape)
        return self.norm(self.projection(self.layout.arrange(x)).transpose(1, 2)) + self.positions


def _check_shape(x: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(x.shape[1:]) != shape:
        raise UsageError(f"expected samples of shape {shape}, which this model is made for, got {tuple(x.shape[1:])}")


# From a stem


def stem_embedder(
    source: nn.Module, shape: tuple[int, ...], layout: Layout, size: tuple[int, int], embedder_start: EmbedderStart
):
    """An embedder of the source's stem's shape; draws from torch's random numbers.

    Args:
        source: The source's embedder, images to tokens or a map.
        shape: Of a sample.
        layout: How a sample becomes the stem's input.
        size: Height and width of the source's input.
        embedder_start: Where its weights start.

    Raises:
        UsageError: When the stem has no convolution to take other channels.
    """
    stem = copy.deepcopy(source).cpu().requires_grad_(True)
    first = _first_convolution(stem)
    own, final = first.in_channels, last_normalization(stem)
    scale, tokens = _entering_scale(stem, own, size) if final is None else (output_scale(final), False)
    _take_channels(stem, first, layout.channels)
    if embedder_start == "random":
        reinitialize(stem)
        if final is not None:
            _set_scale(final, scale)
    norm: nn.Module = nn.Identity()
    if tokens:
        norm = _set_scale(nn.LayerNorm(_width(stem, layout.channels, size)), scale)
    return StemEmbedder(shape, layout, stem, norm)


def _first_convolution(stem: nn.Module) -> nn.Conv2d:
    first = next((layer for layer in stem.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or first.groups != 1:
        raise UsageError("expected a source whose stem starts with a convolution over all channels; choose another")
    return first


def _take_channels(stem: nn.Module, first: nn.Conv2d, channels: int) -> None:
    own = first.in_channels
    first.weight = nn.Parameter(stretch_channels(first.weight.detach(), channels))
    first.in_channels = channels
    for layer in stem.modules():
        # transformers' stems compare their input's channels with it.
        if getattr(layer, "num_channels", None) == own:
            layer.num_channels = channels  # type: ignore[assignment]


def _set_scale(norm: nn.Module, scale: float) -> nn.Module:
    """Let a layer of normalization start at the scale of the source's own tokens.

    At 1 they would be many times louder than the positions that the encoder adds to them.
    """
    with torch.no_grad():
        norm.weight.fill_(scale)  # type: ignore[operator, union-attr]
    return norm


def _entering_scale(stem: nn.Module, channels: int, size: tuple[int, int]) -> tuple[float, bool]:
    """Root mean square of what the stem gives for images like natural ones, and whether these are tokens."""
    stem.eval()
    with torch.no_grad():
        output = stem(_natural_noise(channels, size))
    return float(output.double().square().mean().sqrt()), output.ndim == 3


def _width(stem: nn.Module, channels: int, size: tuple[int, int]) -> int:
    with torch.no_grad():
        return stem(torch.zeros(1, channels, *size)).shape[-1]


def _natural_noise(channels: int, size: tuple[int, int]) -> Tensor:
    """Gray noise (8, channels, height, width) of mean 0 and sd 1 whose amplitude falls with frequency.

    So do natural images (Field 1987); white noise would meet few of a stem's filters.
    """
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.fft.rfft2(torch.randn(PROBES, 1, *size, generator=generator))
    frequency = torch.hypot(torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])[None])
    frequency[0, 0] = math.inf
    images = torch.fft.irfft2(spectrum / frequency, s=size)
    return (images / images.std()).expand(-1, channels, -1, -1)


# From words


def series_embedder(source: nn.Module, layout: StridedSeries, embedder_start: EmbedderStart) -> SeriesEmbedder:
    """An embedder of series for an encoder of text; draws from torch's random numbers.

    From the source's weights, each channel's value at each place of a stretch, and the bias, starts as
    the vector of a word drawn from the vocabulary: what one-hot channels then give are words.

    Args:
        source: The source's embedder, with its table of words.
        layout: How samples are cut into tokens.
        embedder_start: Where its weights start.

    Raises:
        UsageError: When the source has no table of words.
    """
    table = next((layer for layer in source.modules() if isinstance(layer, nn.Embedding)), None)
    if table is None:
        raise UsageError("expected a source of text with a table of word vectors; choose another")
    words = table.weight.detach().cpu()
    embedder = SeriesEmbedder(layout, words.shape[1])
    if embedder_start == "source":
        _draw_words(embedder.projection, words)
    _set_scale(embedder.norm, float(words.double().square().mean().sqrt()))
    return embedder


def _draw_words(projection: nn.Conv1d, words: Tensor) -> None:
    kept = words[words.any(dim=1)]
    count = projection.weight[0].numel()
    order = torch.randperm(len(kept)).repeat(math.ceil((count + 1) / len(kept)))[: count + 1]
    # The size of torch's own start by the number of inputs, which LayerNorm takes away again.
    *weights, bias = kept[order] / math.sqrt(count)
    with torch.no_grad():
        projection.weight.copy_(torch.stack(weights, dim=1).view_as(projection.weight))
        projection.bias.copy_(bias)  # type: ignore[union-attr]
