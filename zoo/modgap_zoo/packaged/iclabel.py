"""ICLabel: a network that tells the origin of an independent component of EEG, such as brain, muscle or line noise.

Reference: Pion-Tonachini, Kreutz-Delgado and Makeig, ICLabel: An automated electroencephalographic independent
component classifier, dataset, and website (NeuroImage 2019). The network has three inputs: the activity's spectrum, its
autocorrelation, and the component's map on the scalp. A series has no map, so that this input is constant: a source
under the vertex. For a map of zeros, which no component has, the network calls nearly every activity channel noise.
"""

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.inputs import WaveformInput
from modgap_zoo.packaged.network import FlatHead, PackagedNetwork

RATE = 250
WINDOW = 10 * RATE
POINTS = 100
"""Frequencies of the spectrum, 1 to 100 Hz, and delays of the autocorrelation, 10 to 1,000 ms."""
SEGMENT = 3 * RATE
"""Values of a segment of which the autocorrelation is averaged. Segments overlap by half."""
SCALE = 0.99
ACTIVITY = 3.0
"""Standard deviation to which an activity is scaled, in microvolts. The spectrum in decibels depends on it."""
SILENCE = 1e-20
NOTCHES = (50, 60)
"""Frequencies of power lines in hertz, at which a notch filter leaves a gap."""
NOTCH_DECIBELS = 5.0
SLOPE = 0.2
"""Slope of the rectifiers for negative values."""
SIDE = 32
SPREAD = 0.4
"""Standard deviation of the constant map, which is a Gaussian around the vertex, in radii of the head."""
MAP_WIDTHS = (1, 128, 256, 512)
SERIES_WIDTHS = (1, 128, 256, 1)
POSITIONS = 4
"""Height and width of the map's features."""
WIDTH = MAP_WIDTHS[-1] + 2 * POINTS
CLASSES = ("brain", "muscle", "eye blink", "heart beat", "line noise", "channel noise", "other")


class _Features(nn.Module):
    """Spectrum and autocorrelation of waveforms of standard deviation 1: (B, 2,500) to (B, 2, 100)."""

    taper: Tensor
    resampling: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taper", torch.hamming_window(RATE, periodic=False), persistent=False)
        matrix = resample_poly(np.eye(RATE + 1), 100, RATE, axis=0)[1:]
        self.register_buffer("resampling", torch.from_numpy(matrix).float(), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        return torch.stack([self.spectrum(waveforms), self.autocorrelation(waveforms)], dim=1) * SCALE

    def spectrum(self, waveforms: Tensor) -> Tensor:
        """Return the median power of seconds at 1 to 100 Hz in decibels, doubled, relative to its largest magnitude."""
        seconds = ACTIVITY * waveforms.unfold(1, RATE, RATE // 2) * self.taper
        power = torch.view_as_real(torch.fft.rfft(seconds)[..., 1 : POINTS + 1]).square().sum(dim=-1)
        median = power.median(dim=1).values * 2 / (RATE * self.taper.square().sum())
        decibels = list((20 * median.clamp(min=SILENCE).log10()).unbind(1))
        for hertz in NOTCHES:
            before, at, after = decibels[hertz - 2 : hertz + 1]
            is_notch = torch.minimum(before, after) - at > NOTCH_DECIBELS
            decibels[hertz - 1] = torch.where(is_notch, (before + after) / 2, at)
        values = torch.stack(decibels, dim=1)
        return values / values.abs().amax(dim=1, keepdim=True)

    def autocorrelation(self, waveforms: Tensor) -> Tensor:
        """Return the mean autocorrelation of segments of three seconds at delays of up to a second."""
        segments = waveforms.unfold(1, SEGMENT, SEGMENT // 2)
        power = torch.view_as_real(torch.fft.rfft(segments, 2048)).square().sum(dim=-1).mean(dim=1)
        products = torch.fft.irfft(power)[:, : RATE + 1]
        overlap = (SEGMENT - torch.arange(RATE + 1, device=waveforms.device)) / SEGMENT
        normalized: Tensor = products / (products[:, :1].clamp(min=SILENCE) * overlap)
        return normalized @ self.resampling.T


class _Branch(nn.Module):
    """The second and third convolution on a spectrum or an autocorrelation: (B, 128, 100) to (B, 100)."""

    def __init__(self) -> None:
        super().__init__()
        pairs = itertools.pairwise(SERIES_WIDTHS[1:])
        self.layers = nn.ModuleList(nn.Conv1d(one, other, 3, padding=1) for one, other in pairs)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), SLOPE)
        return x.squeeze(1)


class _Embedder(nn.Module):
    """First convolution on the spectrum and on the autocorrelation: waveforms (B, 2,500) to tokens (B, 100, 256).

    A token is a frequency and a delay.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = _Features()
        self.layers = nn.ModuleList(nn.Conv1d(1, SERIES_WIDTHS[1], 3, padding=1) for _ in range(2))

    def forward(self, waveforms: Tensor) -> Tensor:
        pairs = zip(self.layers, self.features(waveforms).split(1, dim=1), strict=True)
        return torch.cat([functional.leaky_relu(layer(x), SLOPE) for layer, x in pairs], dim=1).transpose(1, 2)


class _Encoder(nn.Module):
    """The other convolutions, and those of the constant map: tokens (B, 100, 256) to tokens (B, 16, 712)."""

    scalp_map: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_Branch() for _ in range(2))
        pairs = itertools.pairwise(MAP_WIDTHS)
        self.maps = nn.ModuleList(nn.Conv2d(one, other, 4, 2, padding=1) for one, other in pairs)
        position = torch.linspace(-1, 1, SIDE)
        radius = torch.hypot(position.unsqueeze(1), position)
        scalp_map = torch.where(radius <= 1, SCALE * torch.exp(-((radius / SPREAD) ** 2) / 2), 0)
        self.register_buffer("scalp_map", scalp_map.view(1, 1, SIDE, SIDE), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        halves = tokens.transpose(1, 2).chunk(2, dim=1)
        series = torch.cat([branch(half) for branch, half in zip(self.branches, halves, strict=True)], dim=1)
        maps = self.scalp_map
        for layer in self.maps:
            maps = functional.leaky_relu(layer(maps), SLOPE)
        positions = maps.flatten(2).transpose(1, 2).expand(len(tokens), -1, -1)
        return torch.cat([positions, series.unsqueeze(1).expand(-1, POSITIONS**2, -1)], dim=2)


def build_network() -> PackagedNetwork:
    """Return ICLabel on ten seconds of an activity, with random weights and logits before its softmax."""
    return PackagedNetwork(
        WaveformInput(RATE, WINDOW, standardize=True),
        CLASSES,
        _Embedder(),
        _Encoder(),
        FlatHead(nn.Linear(POSITIONS**2 * WIDTH, len(CLASSES))),
    )


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the ONNX file, whose convolutions on series have two dimensions."""
    kernel = weights["conv.weight"].permute(0, 2, 3, 1).flatten(1)
    renamed = {"head.linear.weight": kernel, "head.linear.bias": weights["conv.bias"]}
    for parameter in ("weight", "bias"):
        for layer in range(3):
            renamed[f"encoder.maps.{layer}.{parameter}"] = weights[f"img_conv.conv{layer + 1}.{parameter}"]
        for branch, name in enumerate(("psds_conv", "autocorr_conv")):
            first, *others = (weights[f"{name}.conv{layer}.{parameter}"] for layer in (1, 2, 3))
            renamed[f"embedder.layers.{branch}.{parameter}"] = first
            for layer, value in enumerate(others):
                renamed[f"encoder.branches.{branch}.layers.{layer}.{parameter}"] = value
    # Kernels on series have the shape (outputs, inputs, 1, width).
    is_series = {name: value.ndim == 4 and "maps" not in name for name, value in renamed.items()}
    return {name: value.squeeze(2) if is_series[name] else value for name, value in renamed.items()}
