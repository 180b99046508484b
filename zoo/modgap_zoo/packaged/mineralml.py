"""mineralML: a small network that names a mineral from its chemical analysis.

Reference: Shi, Wieser, Gordon, Toth, Antoshechkina, Gleeson and Lehnert, mineralML: Leveraging Machine Learning for
Probabilistic Mineral Classification (Earth ArXiv 2026). The package draws the weights of its last hidden layer from
normal distributions; their means are taken here.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modgap.sources.inputs import WaveformInput
from modgap_zoo.packaged.network import Head, PackagedNetwork

MEAN = (
    34.66044646, 7.36918228, 13.0625707, 17.20281414, 0.39138602, 8.30418334, 7.78857186, 1.55170201, 3.45472533,
    1.12829566, 1.49505754,
)  # fmt: skip
"""Mean percentage by weight of SiO2, TiO2, Al2O3, FeO (all iron), MnO, MgO, CaO, Na2O, K2O, Cr2O3 and P2O5."""
SD = (
    20.30634887, 20.44453589, 12.58905925, 23.83318123, 1.74836814, 12.31376418, 13.19104548, 3.21840095, 7.05327487,
    5.97635603, 7.62821564,
)  # fmt: skip
HALF = 50.0
"""Percentage that enters as 0; 0 % enters as -1 and 100 % as 1, as samples between 0 and 100 are scaled."""
CLASSES = (
    "Amphibole", "Apatite", "Biotite", "Chlorite", "Epidote", "Feldspar", "Garnet", "Glass", "Kalsilite", "Leucite",
    "Melilite", "Muscovite", "Nepheline", "Olivine", "Pyroxene", "Rhombohedral_Oxides", "Rutile", "Serpentine",
    "Spinel_Group", "Titanite", "Tourmaline",
)  # fmt: skip
"""The classes that the package names; the last two outputs of its network have no name."""
WIDTHS = (64, 32, 16)
SLOPE = 0.02


class _Embedder(nn.Module):
    """Standardized percentages and a layer: analyses (B, 11) to one token (B, 1, 64)."""

    mean: Tensor
    sd: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(len(MEAN), WIDTHS[0])
        self.norm = nn.BatchNorm1d(WIDTHS[0])
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("sd", torch.tensor(SD), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        percentages = HALF * (waveforms + 1)
        hidden: Tensor = self.norm(self.linear((percentages - self.mean) / self.sd))
        return nn.functional.leaky_relu(hidden, SLOPE).unsqueeze(1)


class _Encoder(nn.Module):
    """Two layers on each token: (B, T, 64) to (B, T, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(*WIDTHS[:2])
        self.norm = nn.BatchNorm1d(WIDTHS[1])
        self.last = nn.Linear(*WIDTHS[1:])

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.norm(self.linear(tokens).transpose(1, 2)).transpose(1, 2)
        features: Tensor = self.last(nn.functional.leaky_relu(hidden, SLOPE))
        return features


def build_network() -> PackagedNetwork:
    """Return mineralML with random weights. Percentages of eleven oxides enter as a series of eleven values."""
    source_input = WaveformInput(None, len(MEAN))
    return PackagedNetwork(source_input, CLASSES, _Embedder(), _Encoder(), Head(nn.Linear(WIDTHS[2], len(CLASSES))))


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the package's classifier under the names of this network."""
    layers = {"0": "embedder.linear", "1": "embedder.norm", "4": "encoder.linear", "5": "encoder.norm",
              "8": "encoder.last"}  # fmt: skip
    renamed = {}
    for name, tensor in weights.items():
        part, _, inner = name.removeprefix("classifier.").partition(".")
        number, _, parameter = inner.partition(".")
        if part == "feature_extractor" and not parameter.endswith("_rho"):
            renamed[f"{layers[number]}.{parameter.removesuffix('_mu')}"] = tensor
        elif name.startswith("classifier.classifier."):
            renamed[f"head.linear.{inner}"] = tensor[: len(CLASSES)]
    return renamed
