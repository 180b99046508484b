"""The speaker encoder of Resemblyzer: a recurrent network over mel spectrograms of speech.

Reference: Wan, Wang, Papir and Lopez Moreno, Generalized End-to-End Loss for Speaker Verification (ICASSP 2018). The
weights and the preprocessing are those of the package Resemblyzer, but silences are not removed.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.inputs import WaveformInput
from modgap.sources.packaged.network import PackagedNetwork
from modgap.sources.packaged.spectrograms import MelSpectrogram

__all__ = ["NETWORK", "SpeakerEncoder"]

RATE = 16_000
WINDOW = 400
HOP = 160
BANDS = 40
FRAMES = 160
WIDTH = 256
LAYERS = 3
LOUDNESS = -30.0
"""Decibels, relative to full scale, to which quieter windows are amplified."""


class _Encoder(nn.Module):
    """Three recurrent layers: tokens (B, T, 40) to tokens (B, T, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, WIDTH, LAYERS, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.lstm(tokens)[0]
        return outputs


class _Embedding(nn.Module):
    """Embedding of the speaker of unit length, from the last token: (B, T, 256) to (B, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.normalize(functional.relu(self.linear(tokens[:, -1])))


class SpeakerEncoder(PackagedNetwork):
    """The speaker encoder, a bare encoder: its head gives the embedding of the speaker."""

    def __init__(self) -> None:
        """Create the network with random weights."""
        super().__init__()
        self.input = WaveformInput(RATE, FRAMES * HOP, loudness=LOUDNESS)
        self.class_names = ()
        self.embedder = MelSpectrogram(RATE, WINDOW, HOP, BANDS, "constant", FRAMES)
        self.encoder = _Encoder()
        self.head = _Embedding()

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the embedding of the speaker (B, 256)."""
        features: Tensor = self.head(tokens)
        return features

    def rename(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tensors of Resemblyzer under the names of this network, without those of its training loss."""
        state = {}
        for name, tensor in weights.items():
            if name.startswith("lstm."):
                state[f"encoder.{name}"] = tensor
            elif name.startswith("linear."):
                state[f"head.{name}"] = tensor
        return state


NETWORK = SpeakerEncoder
