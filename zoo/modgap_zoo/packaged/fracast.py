"""Fracast: a network that forecasts series, one convolution over them at ten scales of time.

Reference: Fracast contributors, Fracast-0 (2026). The encoder without the part that writes the forecast; its detector
of periods is that of TinyCast.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.inputs import WaveformInput
from modgap_zoo.packaged.network import Head, PackagedNetwork, rename_modules

WINDOW = 2048
WIDTH = 64
HIDDEN = 96
KERNEL = 3
SCALES = 10
SCALE_FREQUENCIES = 4
PERIODS = 4
"""Number of periods whose phases are marked."""
SIGNIFICANCE = 0.05
RECENCY = (0.5, 2.0, 8.0)
"""Rates at which three of the five marks of time fall towards the past."""
SMALLEST_SPAN = 1e-5


class _Embedder(nn.Module):
    """Values, time and the phases of strong periods of a series: (B, 2048) to tokens (B, 2048, 64)."""

    recency: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Linear(4 + len(RECENCY), WIDTH)
        self.phases = nn.Linear(2 * PERIODS, WIDTH)
        # Marks of the time before the end of the series, (2048, 5): linear, logarithmic and exponential.
        before = (torch.arange(WINDOW) - (WINDOW - 1)) / WINDOW
        marks = [before, -torch.log1p(-before) / math.log(2), *(torch.exp(rate * before) for rate in RECENCY)]
        self.register_buffer("recency", torch.stack(marks, dim=1), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        low, high = waveforms.aminmax(dim=1, keepdim=True)
        values = (waveforms - low) / (high - low).clamp(min=SMALLEST_SPAN)
        marks = self.recency.expand(values.shape[0], -1, -1)
        channels = torch.cat([torch.stack([values, torch.ones_like(values)], dim=2), marks], dim=2)
        tokens: Tensor = self.values(channels) + self.phases(_phases(values))
        return tokens


def _phases(values: Tensor) -> Tensor:
    """Return sine and cosine of the phase of each strong period, (B, 2048, 8), which are 0 for those that are absent.

    The periods are the highest peaks of the periodogram, if they are higher than the highest one of white noise.
    """
    periods = _strong_periods(values.detach()).unsqueeze(1)
    time = torch.arange(WINDOW, device=values.device).view(1, -1, 1)
    angle = 2 * math.pi * time / periods.clamp(min=1)
    pairs = torch.stack([angle.sin(), angle.cos()], dim=3) * (periods > 0).unsqueeze(3)
    return pairs.flatten(2).to(values)


def _strong_periods(values: Tensor) -> Tensor:
    """Return the periods (B, 4) of series (B, 2048) in steps, strongest first, and 0 where there are fewer."""
    power = torch.fft.rfft(values - values.mean(dim=1, keepdim=True)).abs().square()[:, 1:]
    share = power / power.sum(dim=1, keepdim=True).clamp(min=1e-12)
    is_peak = functional.pad((share[:, 1:-1] > share[:, :-2]) & (share[:, 1:-1] > share[:, 2:]), (1, 1))
    n_frequencies = share.shape[1]
    threshold = math.log(n_frequencies / SIGNIFICANCE) / n_frequencies
    # The slowest period that counts is half of the series.
    is_strong = is_peak & (share >= threshold) & (torch.arange(n_frequencies, device=values.device) >= 1)
    height, number = torch.where(is_strong, share, -1).topk(PERIODS, dim=1)
    return torch.where(height >= 0, torch.round(WINDOW / (number + 1)), 0)


class _Encoder(nn.Module):
    """One block at dilations of 1, 2, 4, ..., 512, told its scale: tokens (B, T, 64) to tokens (B, T, 64)."""

    scales: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(2 * SCALE_FREQUENCIES, 2 * WIDTH)
        self.depthwise = nn.Conv1d(WIDTH, WIDTH, KERNEL, groups=WIDTH)
        self.pointwise = nn.Linear(WIDTH, WIDTH)
        self.up = nn.Linear(WIDTH, 2 * HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)
        self.norm1 = nn.RMSNorm(WIDTH)
        self.norm2 = nn.RMSNorm(WIDTH)
        self.norm = nn.RMSNorm(WIDTH)
        angles = math.pi * torch.arange(SCALES)[:, None] / 2 ** torch.arange(SCALE_FREQUENCIES)
        self.register_buffer("scales", torch.cat([angles.sin(), angles.cos()], dim=1), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        for number, (gain, bias) in enumerate(row.chunk(2) for row in self.scale(self.scales)):
            tokens = self._block(tokens * (1 + gain) + bias, 2**number)
        return _normalized(self.norm, tokens)

    def _block(self, tokens: Tensor, dilation: int) -> Tensor:
        """Return a causal convolution at a dilation and a gated layer, each with a residual connection."""
        padded = functional.pad(tokens.transpose(1, 2), ((KERNEL - 1) * dilation, 0))
        layer = self.depthwise
        maps = functional.conv1d(padded, layer.weight, layer.bias, dilation=dilation, groups=WIDTH)
        tokens = _normalized(self.norm1, tokens + self.pointwise(maps.transpose(1, 2)))
        gate, values = self.up(tokens).chunk(2, dim=2)
        return _normalized(self.norm2, tokens + self.down(functional.silu(gate) * values))


def _normalized(norm: nn.RMSNorm, tokens: Tensor) -> Tensor:
    """Return normalized tokens, in the precision of the weights: mixed precision reduces that of the tokens alone."""
    normalized: Tensor = norm(tokens.to(norm.weight))
    return normalized


def build_network() -> PackagedNetwork:
    """Return Fracast on series of 2,048 values at any rate, with random weights.

    It is a bare encoder: its head gives the mean over time.
    """
    return PackagedNetwork(WaveformInput(None, WINDOW), (), _Embedder(), _Encoder(), Head())


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the package's encoder under the names of this network."""
    # The part that writes the forecast begins with "core.head.".
    names = {
        "core.in_proj.": "embedder.values.", "core.periodic.proj.": "embedder.phases.",
        "core.scale.to_gb.": "encoder.scale.", "core.block.dw_": "encoder.depthwise.",
        "core.block.pw.": "encoder.pointwise.", "core.block.ffn.": "encoder.", "core.block.norm": "encoder.norm",
        "core.norm.": "encoder.norm.",
    }  # fmt: skip
    return rename_modules(weights, names)
