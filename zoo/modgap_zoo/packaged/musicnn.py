"""musicnn: a convolutional network that tags music, with filters whose shapes follow from music.

Reference: Pons and Serra, musicnn: Pre-trained Convolutional Neural Networks for Music Audio Tagging (ISMIR 2019, late
breaking), and Pons et al., End-to-End Learning for Music Audio Tagging at Scale (ISMIR 2018).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.inputs import WaveformInput
from modgap_zoo.packaged.keras_weights import linear_weights, normalization_weights
from modgap_zoo.packaged.network import Head, PackagedNetwork
from modgap_zoo.packaged.spectrograms import MelSpectrogram

RATE = 16_000
WINDOW = 512
HOP = 256
BANDS = 96
FRAMES = 187
"""Frames of three seconds, the length that the networks were trained with."""
COMPRESSION = 10_000.0
EPSILON = 1e-3
TIMBRAL = ((204, 38), (204, 67))
"""Number of filters, and their height in bands, of the convolutions over timbre; each is seven frames wide."""
TEMPORAL = ((51, 128), (51, 64), (51, 32))
"""Number of filters, and their width in frames, of the convolutions over time; each is one band high."""
TIMBRAL_WIDTH = 7
WIDTH = 561
"""Number of all these filters."""
DENSE_WIDTH = 64
PENULTIMATE = 200
TAGS = {
    "mtt": (
        "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
        "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
        "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo",
        "man", "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello",
        "no voice", "weird", "country", "metal", "female voice", "choral",
    ),
    "msd": (
        "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock",
        "jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow",
        "electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient",
        "acoustic", "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening",
        "sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad",
        "House", "happy",
    ),
}  # fmt: skip
"""Tags of the MagnaTagATune data and of the Million Song Dataset, in the order of the outputs."""


class _Block(nn.Module):
    """Convolution, rectifier, batch normalization and maximum over bands: (B, 1, T, 96) to (B, D, T)."""

    def __init__(self, filters: int, frames: int, bands: int) -> None:
        super().__init__()
        before = (frames - 1) // 2
        self.padding = (0, 0, before, frames - 1 - before)
        self.conv = nn.Conv2d(1, filters, (frames, bands))
        self.norm = nn.BatchNorm2d(filters, eps=EPSILON)

    def forward(self, spectrogram: Tensor) -> Tensor:
        maps: Tensor = self.norm(functional.relu(self.conv(functional.pad(spectrogram, self.padding))))
        return maps.amax(dim=3)


class _Embedder(nn.Module):
    """Log-mel spectrogram and the musical filters: waveforms (B, 47,616) to tokens (B, 187, 561)."""

    def __init__(self) -> None:
        super().__init__()
        self.power = MelSpectrogram(RATE, WINDOW, HOP, BANDS, "reflect")
        self.norm = nn.BatchNorm2d(1, eps=EPSILON)
        shapes = [(filters, TIMBRAL_WIDTH, bands) for filters, bands in TIMBRAL]
        shapes += [(filters, frames, 1) for filters, frames in TEMPORAL]
        self.blocks = nn.ModuleList(_Block(*shape) for shape in shapes)

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        """Return the compressed power in 96 mel bands, (B, 187, 96)."""
        return torch.log10(COMPRESSION * self.power(waveforms) + 1)

    def forward(self, waveforms: Tensor) -> Tensor:
        normalized = self.norm(self.spectrogram(waveforms).unsqueeze(1))
        return torch.cat([block(normalized) for block in self.blocks], dim=1).transpose(1, 2)


class _Layer(nn.Module):
    """Convolution over seven frames, rectifier and batch normalization: (B, D, T) to (B, 64, T)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, DENSE_WIDTH, 7, padding=3)
        self.norm = nn.BatchNorm1d(DENSE_WIDTH, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.norm(functional.relu(self.conv(x)))
        return features


class _Encoder(nn.Module):
    """Three layers with residual connections, whose outputs join the tokens: (B, T, 561) to (B, T, 753)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(inputs) for inputs in (WIDTH, DENSE_WIDTH, DENSE_WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        outputs = [tokens.transpose(1, 2)]
        for number, layer in enumerate(self.layers):
            features = layer(outputs[-1])
            outputs.append(features + outputs[-1] if number else features)
        return torch.cat(outputs, dim=1).transpose(1, 2)


class _Head(Head):
    """Maximum and mean over time, a hidden layer and a linear one: (B, T, 753) to logits (B, 50)."""

    def __init__(self) -> None:
        super().__init__()
        width = 2 * (WIDTH + 3 * DENSE_WIDTH)
        self.norm = nn.BatchNorm1d(width, eps=EPSILON)
        self.dense = nn.Linear(width, PENULTIMATE)
        self.dense_norm = nn.BatchNorm1d(PENULTIMATE, eps=EPSILON)
        self.linear = nn.Linear(PENULTIMATE, len(TAGS["mtt"]))

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the hidden layer (B, 200)."""
        # The maximum and the mean of each feature are neighbors.
        pooled = torch.stack([tokens.amax(dim=1), tokens.mean(dim=1)], dim=2).flatten(1)
        features: Tensor = self.dense_norm(functional.relu(self.dense(self.norm(pooled))))
        return features


def build_network(tags: str) -> PackagedNetwork:
    """Return musicnn on windows of three seconds, with random weights and logits before the sigmoid of the package.

    Args:
        tags: `mtt` or `msd`.
    """
    return PackagedNetwork(WaveformInput(RATE, (FRAMES - 1) * HOP), TAGS[tags], _Embedder(), _Encoder(), _Head())


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the package's checkpoint, which are numbered in the order of the layers."""
    convolutions = [f"embedder.blocks.{number}" for number in range(5)]
    convolutions += [f"encoder.layers.{number}" for number in range(3)]
    norms = ["embedder.norm", *(f"{name}.norm" for name in convolutions), "head.norm", "head.dense_norm"]
    renamed: dict[str, Tensor] = {}
    for number, name in enumerate(norms):
        renamed |= normalization_weights(weights, _numbered("batch_normalization", number), name)
    for number, name in enumerate(convolutions):
        kernel = weights[f"{_numbered('conv2d', number)}/kernel"]
        # Theirs have the axes (frames, bands, inputs, filters). In the encoder the bands are its features.
        is_layer = name.startswith("encoder")
        axes = kernel.squeeze(2).permute(2, 1, 0) if is_layer else kernel.permute(3, 2, 0, 1)
        renamed[f"{name}.conv.weight"] = axes.contiguous()
        renamed[f"{name}.conv.bias"] = weights[f"{_numbered('conv2d', number)}/bias"]
    for number, name in enumerate(("head.dense", "head.linear")):
        renamed |= linear_weights(weights, _numbered("dense", number), name)
    return renamed


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name
