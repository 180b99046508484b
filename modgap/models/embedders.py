"""Target embedders: a copy of a source's stem for other channels, or windows of a series in place of words or sound."""

import copy
import math
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from modgap.errors import UsageError
from modgap.models.initialization import reinitialize, stretch_channels
from modgap.models.layouts import FoldedSeries, ResizedImage, StretchedSeries, StridedSeries, stretch_series
from modgap.models.normalization import last_normalization, output_scale
from modgap.sources import Input, WaveformInput
from modgap.sources.splitting import noise

EmbedderStart = Literal["random", "source", "native"]
"""Start values of a target embedder: random, or the weights of the source's own embedder. Native models have that
embedder itself."""
ImageLayout = ResizedImage | FoldedSeries
"""Layouts whose input of the stem is an image."""
NOISE_IMAGES = 8
"""Number of noise images on which the scale of a stem's output is measured."""
NOISE_SECONDS = 1
"""Duration of noise for a source that takes sound of any length."""
SMALLEST_SD = 1e-6
"""Standard deviation below which a waveform counts as constant."""

Module = TypeVar("Module", bound=nn.Module)


class StemEmbedder(nn.Module):
    """Embedder that sends samples through a stem of the source's architecture, and then through a normalization."""

    def __init__(self, shape: tuple[int, ...], layout: ImageLayout, stem: nn.Module, norm: nn.Module) -> None:
        """Create the embedder from its parts.

        Args:
            shape: Shape of a sample.
            layout: Layout that turns samples into the stem's input.
            stem: Module that turns its input into tokens or a feature map.
            norm: Normalization of the stem's output; the identity for stems that have their own, or give feature maps.
        """
        super().__init__()
        self.shape = shape
        self.layout = layout
        self.stem = stem
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens (n, T, D), or the feature map (n, D, H, W), of samples (n, ...)."""
        _check_shape(x, self.shape)
        features: Tensor = self.norm(self.stem(self.layout.arrange(x)))
        return features


class SeriesEmbedder(nn.Module):
    """Embedder that turns windows of a series into tokens: a convolution with kernel = stride, LayerNorm, positions."""

    def __init__(self, layout: StridedSeries | StretchedSeries, width: int) -> None:
        """Create the embedder with random weights.

        Args:
            layout: Layout that cuts samples into windows.
            width: Width D of the tokens.
        """
        super().__init__()
        self.layout = layout
        self.projection = nn.Conv1d(layout.shape[0], width, layout.stride, layout.stride)
        self.norm = nn.LayerNorm(width)
        # The positions start at zero because the encoder adds the source's own ones.
        self.positions = nn.Parameter(torch.zeros(layout.tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens (n, T, D) of samples (n, C, ...)."""
        _check_shape(x, self.layout.shape)
        tokens: Tensor = self.norm(self.projection(self.layout.arrange(x)).transpose(1, 2)) + self.positions
        return tokens


class WaveformEmbedder(nn.Module):
    """Embedder that mixes the channels of a series to one waveform, which the source's embedder takes."""

    def __init__(self, shape: tuple[int, ...], length: int, embedder: nn.Module, *, standardize: bool) -> None:
        """Create the embedder from that of the source; at first the mixture is the mean over the channels.

        Args:
            shape: Shape of a sample.
            length: Number of values of the source's waveforms.
            embedder: Module from waveforms (n, length) to tokens (n, T, D).
            standardize: True to bring each waveform to mean 0 and standard deviation 1.
        """
        super().__init__()
        self.shape = shape
        self.length = length
        self.standardize = standardize
        self.mixture = nn.Conv1d(shape[0], 1, 1, bias=False)
        nn.init.constant_(self.mixture.weight, 1 / shape[0])
        self.embedder = embedder

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens (n, T, D) of samples (n, C, ...)."""
        _check_shape(x, self.shape)
        waveforms = self.mixture(stretch_series(x.flatten(2), self.length)).squeeze(1)
        if self.standardize:
            waveforms = waveforms - waveforms.mean(dim=1, keepdim=True)
            waveforms = waveforms / waveforms.std(dim=1, keepdim=True, correction=0).clamp(min=SMALLEST_SD)
        tokens: Tensor = self.embedder(waveforms)
        return tokens


def _check_shape(x: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(x.shape[1:]) != shape:
        raise UsageError(f"The samples have shape {tuple(x.shape[1:])}, but the model was built for shape {shape}.")


# Embedders with a stem


def stem_embedder(
    source: nn.Module, shape: tuple[int, ...], layout: ImageLayout, size: tuple[int, int], embedder_start: EmbedderStart
) -> StemEmbedder:
    """Build an embedder with the architecture of a source's stem. The start values are drawn from torch's generator.

    Only the first convolution takes another number of channels. The encoder expects tokens of the source's scale, so
    the normalization at the end of the stem starts with a gain of this scale. A stem that gives tokens without one is
    followed by a LayerNorm.

    Args:
        source: Embedder of the source, which turns images into tokens or a feature map.
        shape: Shape of a sample.
        layout: Layout that turns a sample into the stem's input.
        size: Height and width of the source's input, in pixels.
        embedder_start: `random` for random start values, `source` for the source's weights.

    Raises:
        UsageError: When the stem does not start with a convolution that can take other channels.
    """
    stem = copy.deepcopy(source).cpu().requires_grad_(True)
    first = next((layer for layer in stem.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or first.groups != 1:
        raise UsageError(
            "The source's stem does not start with a convolution over all channels, so it cannot take other channels. "
            "Choose another source."
        )
    source_channels, channels = first.in_channels, layout.channels
    final = last_normalization(stem)
    output: Tensor | None = None
    # The scale is that of the source's own weights, so it is measured before they change.
    if final is None:
        stem.eval()
        with torch.no_grad():
            output = stem(_natural_noise(source_channels, size))
            scale = float(output.double().square().mean().sqrt())
    else:
        scale = output_scale(final)
    first.weight = nn.Parameter(stretch_channels(first.weight.detach(), channels))
    first.in_channels = channels
    for layer in stem.modules():
        # Stems of transformers compare the channels of their input with this attribute.
        if getattr(layer, "num_channels", None) == source_channels:
            layer.num_channels = channels  # type: ignore[assignment]
    if embedder_start == "random":
        reinitialize(stem)
        if final is not None:
            _set_gain(final, scale)
    norm: nn.Module = nn.Identity()
    # Tokens have the shape (n, T, D), and feature maps (n, D, H, W).
    if output is not None and output.ndim == 3:
        norm = _set_gain(nn.LayerNorm(output.shape[2]), scale)
    return StemEmbedder(shape, layout, stem, norm)


def _set_gain(norm: Module, scale: float) -> Module:
    """Set the gain of a normalization layer to the scale of the source's own tokens, and return the layer.

    The scale is a root mean square. With a gain of 1 the tokens would be many times larger than the positions that the
    encoder adds to them.
    """
    assert isinstance(norm.weight, Tensor)
    nn.init.constant_(norm.weight, scale)
    return norm


def _natural_noise(channels: int, size: tuple[int, int]) -> Tensor:
    """Return gray noise (8, channels, height, width), mean 0 and sd 1, whose amplitude is 1 / frequency.

    The amplitudes of natural images fall likewise (Field 1987). White noise would excite few of a stem's filters.
    """
    spectrum = torch.fft.rfft2(noise(NOISE_IMAGES, 1, *size))
    frequency = torch.hypot(torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])[None])
    spectrum[..., 0, 0] = 0
    frequency[0, 0] = 1
    images: Tensor = torch.fft.irfft2(spectrum / frequency, s=size)
    return (images / images.std()).expand(-1, channels, -1, -1)


# Embedders with word vectors


def series_embedder(source: nn.Module, layout: StridedSeries, embedder_start: EmbedderStart) -> SeriesEmbedder:
    """Build an embedder of series for a text encoder. The start values are drawn from torch's generator.

    With `embedder_start="source"` the weight of each channel at each position of a window, and the bias, starts as the
    vector of a word drawn from the vocabulary. One-hot channels then yield word vectors.

    Args:
        source: Embedder of the source, with its table of word vectors.
        layout: Layout that cuts samples into tokens.
        embedder_start: `random` for random start values, `source` for vectors of the source's words.

    Raises:
        UsageError: When the source has no table of word vectors.
    """
    table = next((layer for layer in source.modules() if isinstance(layer, nn.Embedding)), None)
    if table is None:
        raise UsageError("The source has no table of word vectors. Choose a text source that has one.")
    vectors = table.weight.detach().cpu()
    embedder = SeriesEmbedder(layout, vectors.shape[1])
    if embedder_start == "source":
        # Vectors of different words, repeated if there are too few. Those of zeros, which pad, are not drawn.
        projection, nonzero = embedder.projection, vectors[vectors.any(dim=1)]
        n_inputs = projection.weight[0].numel()
        order = torch.randperm(len(nonzero)).repeat(math.ceil((n_inputs + 1) / len(nonzero)))[: n_inputs + 1]
        # Torch's own start is divided by the same root. LayerNorm removes the factor from the tokens.
        *weights, bias = nonzero[order] / math.sqrt(n_inputs)
        assert projection.bias is not None
        with torch.no_grad():
            projection.weight.copy_(torch.stack(weights, dim=1).view_as(projection.weight))
            projection.bias.copy_(bias)
    _set_gain(embedder.norm, float(vectors.double().square().mean().sqrt()))
    return embedder


# Embedders for sound


def sound_tokens(source: nn.Module, source_input: Input) -> Tensor:
    """Return the tokens (1, T, D) that a source's embedder makes of noise: one window, or a second for any length.

    Args:
        source: Embedder of the source.
        source_input: The source's input of sound.
    """
    length = getattr(source_input, "window", None)
    if length is None:
        length = NOISE_SECONDS * int(getattr(source_input, "rate"))  # noqa: B009 - inputs of the kind audio have a rate
    with torch.no_grad():
        tokens = source(source_input.batch([noise(length).numpy()], torch.device("cpu")))
    value: Tensor = tokens if isinstance(tokens, torch.Tensor) else tokens["inputs_embeds"]
    return value


def sound_embedder(
    source: nn.Module, source_input: Input, layout: StretchedSeries, embedder_start: EmbedderStart
) -> nn.Module:
    """Build an embedder of series for an encoder of sound. The start values are drawn from torch's generator.

    Args:
        source: Embedder of the source, which turns waveforms into tokens.
        source_input: The source's input of sound.
        layout: Layout that stretches samples to the encoder's number of tokens.
        embedder_start: `random` for a convolution over windows of the series with random weights; `source` for the
            source's own embedder after a mixture of the channels.

    Raises:
        UsageError: When the source's own embedder is needed but takes sound of any length.
    """
    if embedder_start == "source":
        if not isinstance(source_input, WaveformInput):
            raise UsageError(
                "The source takes sound of any length, so its own embedder cannot embed series. Choose a method whose "
                "embedder starts from random weights."
            )
        stem = copy.deepcopy(source).cpu().requires_grad_(True)
        return WaveformEmbedder(layout.shape, source_input.window, stem, standardize=source_input.standardize)
    tokens = sound_tokens(source, source_input)
    embedder = SeriesEmbedder(layout, tokens.shape[2])
    _set_gain(embedder.norm, float(tokens.double().square().mean().sqrt()))
    return embedder
