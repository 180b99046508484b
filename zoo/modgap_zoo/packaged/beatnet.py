"""BeatNet: a recurrent network that hears the beats and downbeats of music.

Reference: Heydari, Cwitkowitz and Duan, BeatNet: CRNN and Particle Filtering for Online Joint Beat, Downbeat and Meter
Tracking (ISMIR 2021). The spectrogram is that of the library madmom, which the package uses.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.inputs import WaveformInput
from modgap_zoo.packaged.network import LinearHead, PackagedNetwork, Recurrent, rename_modules

RATE = 22_050
FRAME = 1411
HOP = 441
FRAMES = 250
"""Frames of five seconds."""
FREQUENCIES = FRAME // 2
BANDS = 136
LOWEST, HIGHEST, TUNING = 30.0, 17_000.0, 440.0
"""Range and reference of the bands, in hertz."""
BANDS_PER_OCTAVE = 24
KERNEL = 10
FILTERS = 2
WIDTH = 150
LAYERS = 2
CLASSES = ("beat", "downbeat", "no beat")


class _Spectrogram(nn.Module):
    """Logarithm of the magnitude in bands, and its rise from the frame before: (B, 110,250) to (B, 250, 272)."""

    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", _triangles(), persistent=False)
        self.register_buffer("window", torch.hann_window(FRAME, periodic=False), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        before = FRAME // 2
        after = (FRAMES - 1) * HOP - before + FRAME - waveforms.shape[1]
        frames = functional.pad(waveforms, (before, after)).unfold(1, FRAME, HOP)
        spectrum = torch.view_as_real(torch.fft.rfft(frames * self.window)[..., :FREQUENCIES])
        # Silence has no magnitude, where the square root has no gradient.
        magnitude = spectrum.square().sum(dim=-1).clamp(min=torch.finfo(spectrum.dtype).tiny).sqrt()
        bands = torch.log10(magnitude @ self.filters + 1)
        rise = functional.pad(functional.relu(bands[:, 1:] - bands[:, :-1]), (0, 0, 1, 0))
        return torch.cat([bands, rise], dim=2)


def _triangles() -> Tensor:
    """Return the weights of the frequencies in each band, (705, 136): triangles of area 1 over a quarter tone each."""
    first = math.floor(math.log2(LOWEST / TUNING) * BANDS_PER_OCTAVE)
    last = math.ceil(math.log2(HIGHEST / TUNING) * BANDS_PER_OCTAVE)
    corners = TUNING * 2 ** (np.arange(first, last) / BANDS_PER_OCTAVE)
    corners = corners[(corners >= LOWEST) & (corners <= HIGHEST)]
    hertz = np.arange(FREQUENCIES) * RATE / (2 * FREQUENCIES)
    above = np.clip(hertz.searchsorted(corners), 1, FREQUENCIES - 1)
    # Bands whose nearest frequency is the same count once.
    nearest = np.unique(above - (corners - hertz[above - 1] < hertz[above] - corners))
    filters = np.zeros((FREQUENCIES, len(nearest) - 2))
    for band, (low, center, high) in enumerate(zip(nearest, nearest[1:], nearest[2:], strict=False)):
        rising = np.arange(center - low) / (center - low)
        falling = 1 - np.arange(high - center) / (high - center)
        triangle = np.concatenate([rising, falling])
        filters[low:high, band] = triangle / triangle.sum()
    return torch.from_numpy(filters).float()


class _Embedder(nn.Module):
    """Spectrogram, and a convolution over its bands: waveforms (B, 110,250) to tokens (B, 250, 150)."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = _Spectrogram()
        self.conv = nn.Conv1d(1, FILTERS, KERNEL)
        self.linear = nn.Linear(FILTERS * ((2 * BANDS - KERNEL + 1) // 2), WIDTH)

    def forward(self, waveforms: Tensor) -> Tensor:
        frames = self.spectrogram(waveforms)
        maps = functional.relu(self.conv(frames.flatten(0, 1).unsqueeze(1)))
        return torch.unflatten(self.linear(functional.max_pool1d(maps, 2).flatten(1)), 0, frames.shape[:2])


def build_network() -> PackagedNetwork:
    """Return BeatNet on windows of five seconds, with random weights and the mean of its logits over 250 frames."""
    return PackagedNetwork(
        WaveformInput(RATE, FRAMES * HOP),
        CLASSES,
        _Embedder(),
        Recurrent(WIDTH, WIDTH, LAYERS),
        LinearHead(WIDTH, len(CLASSES)),
    )


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the package's tensors under the names of this network."""
    names = {
        "conv1.": "embedder.conv.",
        "linear0.": "embedder.linear.",
        "lstm.": "encoder.lstm.",
        "linear.": "head.linear.",
    }
    return rename_modules(weights, names)
