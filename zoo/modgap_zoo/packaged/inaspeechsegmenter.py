"""inaSpeechSegmenter: a convolutional network that tells speech, music and noise apart in radio and television.

Reference: Doukhan, Carrive, Vallet, Larcher and Meignier, An Open-Source Speaker Gender Detection Framework for
Monitoring Gender Equality (ICASSP 2018).
"""

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.inputs import WaveformInput
from modgap_zoo.packaged.keras_weights import linear_weights, normalization_weights
from modgap_zoo.packaged.network import LinearHead, PackagedNetwork

RATE = 16_000
FRAME = 400
HOP = 160
FRAMES = 68
FOURIER = 512
EMPHASIS = 0.97
FILTERS = 24
BANDS = 21
"""Number of mel bands that the network takes, the lowest ones of 24."""
LOWEST, HIGHEST = 100.0, 8000.0
"""Frequencies between which the 24 bands lie, in hertz."""
SILENCE = 1e-20
"""Power below which a band counts as silent, whose logarithm the package leaves infinite."""
SMALLEST_SD = 1e-6
EPSILON = 1e-3
"""Constant of the batch normalization, which comes from the library in which the weights were trained."""
WIDTH = 256
CLASSES = ("speech", "music", "noise")


class _LogMel(nn.Module):
    """Log-mel spectrogram of mean 0 and standard deviation 1: waveforms (B, 11,120) to (B, 68, 21)."""

    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", _triangles(), persistent=False)
        self.register_buffer("window", torch.hann_window(FRAME, periodic=False), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        frames = waveforms.unfold(1, FRAME, HOP)
        # The first value of each frame counts as preceded by itself.
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        spectrum = torch.fft.rfft((frames - EMPHASIS * before) * self.window, FOURIER)
        power = torch.view_as_real(spectrum).square().sum(dim=-1)
        bands = (power @ self.filters).clamp(min=SILENCE).log()
        deviation, mean = torch.std_mean(bands, dim=(1, 2), correction=0, keepdim=True)
        return (bands - mean) / deviation.clamp(min=SMALLEST_SD)


def _triangles() -> Tensor:
    """Return the weights of the frequencies in each band, (257, 21)."""
    mel_lowest, mel_highest = (
        2595 * torch.log10(1 + torch.tensor(hertz).double() / 700) for hertz in (LOWEST, HIGHEST)
    )
    mels = mel_lowest + torch.arange(FILTERS + 2) * (mel_highest - mel_lowest) / (FILTERS + 1)
    corners = 700 * (10 ** (mels / 2595) - 1)
    numbers = torch.arange(FOURIER // 2 + 1).unsqueeze(1)
    hertz = numbers * RATE / FOURIER
    low, center, high = corners[:BANDS], corners[1 : BANDS + 1], corners[2 : BANDS + 2]
    first, middle, last = ((corner * FOURIER / RATE).floor() for corner in (low, center, high))
    height = 2 / (high - low)
    rising = torch.where((numbers > first) & (numbers <= middle), height / (center - low) * (hertz - low), 0)
    # The package leaves the last frequency of each triangle out.
    falling = torch.where((numbers > middle) & (numbers < last), height / (high - center) * (high - hertz), 0)
    return (rising + falling).float()


class _Layer(nn.Module):
    """Convolution, batch normalization and rectifier: (B, D, T, bands) to (B, D', T', bands')."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size)
        self.norm = nn.BatchNorm2d(outputs, EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(maps)))


class _Embedder(nn.Module):
    """Spectrogram, a layer, and the maximum over neighbors: waveforms (B, 11,120) to tokens (B, 16, 576)."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = _LogMel()
        self.layer = _Layer(1, 64, (7, 4))

    def forward(self, waveforms: Tensor) -> Tensor:
        maps = self.layer(self.spectrogram(waveforms).unsqueeze(1))
        # Rectified values are not negative, so that zeros pad a maximum.
        pooled = functional.max_pool2d(functional.pad(maps, (0, 0, 1, 1)), (4, 2))
        return pooled.transpose(1, 2).flatten(2)


class _Dense(nn.Module):
    """Linear layer, batch normalization and rectifier on (B, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH, EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.norm(self.linear(features)))


class _Encoder(nn.Module):
    """Three convolutional and four linear layers: tokens (B, 16, 576) to one token (B, 1, 256)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 128, 128, WIDTH)
        self.layers = nn.ModuleList(_Layer(one, other, (3, 3)) for one, other in itertools.pairwise(widths))
        self.dense = nn.Sequential(*(_Dense() for _ in range(4)))

    def forward(self, tokens: Tensor) -> Tensor:
        maps = torch.unflatten(tokens, 2, (64, -1)).transpose(1, 2)
        maps = self.layers[1](self.layers[0](maps))
        maps = functional.max_pool2d(functional.pad(maps, (0, 1)), 2)
        features: Tensor = self.dense(self.layers[2](maps).amax(dim=(2, 3)))
        return features.unsqueeze(1)


def build_network() -> PackagedNetwork:
    """Return the network for speech, music and noise on windows of 0.7 seconds, with random weights.

    Its logits are those before the softmax.
    """
    source_input = WaveformInput(RATE, (FRAMES - 1) * HOP + FRAME)
    return PackagedNetwork(source_input, CLASSES, _Embedder(), _Encoder(), LinearHead(WIDTH, len(CLASSES)))


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the file of Keras, whose layers are numbered from 12 on and normalizations from 15."""
    convolutions = ["embedder.layer", *(f"encoder.layers.{number}" for number in range(3))]
    blocks = [*convolutions, *(f"encoder.dense.{number}" for number in range(4))]
    renamed: dict[str, Tensor] = {}
    for number, name in enumerate(blocks, 15):
        renamed |= normalization_weights(weights, f"batch_normalization_{number}", f"{name}.norm")
    for number, name in enumerate(convolutions, 12):
        renamed[f"{name}.conv.weight"] = weights[f"conv2d_{number}/kernel"].permute(3, 2, 0, 1).contiguous()
        renamed[f"{name}.conv.bias"] = weights[f"conv2d_{number}/bias"]
    for number, name in enumerate([*(f"encoder.dense.{i}.linear" for i in range(4)), "head.linear"], 6):
        renamed |= linear_weights(weights, f"dense_{number}", name)
    return renamed
