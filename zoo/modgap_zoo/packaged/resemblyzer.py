"""The speaker encoder of Resemblyzer: a recurrent network over mel spectrograms of speech.

Reference: Wan, Wang, Papir and Lopez Moreno, Generalized End-to-End Loss for Speaker Verification (ICASSP 2018). The
weights and the preprocessing are those of the package Resemblyzer, but silences are not removed.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.inputs import WaveformInput
from modgap_zoo.packaged.network import Head, PackagedNetwork, Recurrent, rename_modules
from modgap_zoo.packaged.spectrograms import MelSpectrogram

RATE = 16_000
WINDOW = 400
HOP = 160
BANDS = 40
FRAMES = 160
WIDTH = 256
LAYERS = 3
LOUDNESS = -30.0
"""Decibels, relative to full scale, to which quieter windows are amplified."""


class _Embedding(Head):
    """Embedding of the speaker of unit length, from the last token: (B, T, 256) to (B, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(WIDTH, WIDTH)

    def pool(self, tokens: Tensor) -> Tensor:
        return functional.normalize(functional.relu(self.dense(tokens[:, -1])))


def build_network() -> PackagedNetwork:
    """Return the speaker encoder with random weights.

    It is a bare encoder: its head gives the embedding of the speaker.
    """
    source_input = WaveformInput(RATE, FRAMES * HOP, loudness=LOUDNESS)
    embedder = MelSpectrogram(RATE, WINDOW, HOP, BANDS, "constant", FRAMES)
    return PackagedNetwork(source_input, (), embedder, Recurrent(BANDS, WIDTH, LAYERS), _Embedding())


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of Resemblyzer under the names of this network, without those of its training loss."""
    return rename_modules(weights, {"lstm.": "encoder.lstm.", "linear.": "head.dense."})
