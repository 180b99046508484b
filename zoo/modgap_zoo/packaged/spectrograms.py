"""Spectrograms that packaged models of sound take, as differentiable modules without parameters."""

import torch
from torch import Tensor, nn


class MelSpectrogram(nn.Module):
    """Power in mel bands by Slaney's scale and normalization: waveforms (B, length) to (B, T, bands).

    It has no parameters, and is differentiable.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, rate: int, window: int, hop: int, bands: int, pad_mode: str, frames: int | None = None) -> None:
        """Create the filters and the window.

        Args:
            rate: Sampling rate in hertz.
            window: Length of the Hann window in values.
            hop: Values from one frame to the next.
            bands: Number of bands from 0 to half of the rate.
            pad_mode: How the edges are padded by half a window, `reflect` or `constant`.
            frames: Largest number T of frames, the first ones; None for all.
        """
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        filters = mel_filter_bank(
            window // 2 + 1, bands, 0.0, rate / 2, sampling_rate=rate, norm="slaney", mel_scale="slaney"
        )
        self.hop = hop
        self.pad_mode = pad_mode
        self.frames = frames
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(window), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the power (B, T, bands) of waveforms (B, length)."""
        spectrum = torch.stft(
            waveforms,
            len(self.window),
            self.hop,
            window=self.window,
            center=True,
            pad_mode=self.pad_mode,
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(dim=-1).transpose(1, 2)[:, : self.frames]
        return power @ self.filters
