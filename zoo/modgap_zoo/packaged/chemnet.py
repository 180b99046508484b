"""ChemNet: convolutions and LSTMs over the SMILES of a molecule, trained to predict what is active against what.

Reference: Preuer, Renz, Unterthiner, Hochreiter and Klambauer, Fréchet ChemNet Distance: A Metric for Generative Models
for Molecules in Drug Discovery (Journal of Chemical Information and Modeling 2018). The weights end before the layer of
the assays.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from modgap_zoo.packaged.network import FlatHead, PackagedNetwork
from modgap_zoo.packaged.symbols import one_hot, symbol_input

ALPHABET = (
    "C", "N", "O", "H", "F", "Cl", "P", "B", "Br", "S", "I", "Si", "#", "(", ")", "+", "-", "1", "2", "3", "4", "5",
    "6", "7", "8", "=", "[", "]", "@", "c", "n", "o", "s", "X", ".",
)  # fmt: skip
UNKNOWN = "X"
END = "."
LENGTH = 350
CHANNELS = 32
HIDDEN = 128
WIDTH = 512
LAYERS = ("embedder.conv", "encoder.conv", "encoder.lstm", "encoder.last_lstm")
"""Names of the layers here, in the order of the package's file."""


class _Convolution(nn.Conv1d):
    """Convolution of stride 2 over four positions, padded as TensorFlow pads, and SELU: (B, T, D) to (B, T / 2, 32)."""

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, CHANNELS, 4, 2, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = 2 + tokens.shape[1] % 2
        padded = functional.pad(tokens.transpose(1, 2), (1, padding - 1))
        return functional.selu(super().forward(padded)).transpose(1, 2)


class _Embedder(nn.Module):
    """One-hot symbols of the SMILES and a convolution: texts to tokens (B, 175, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _Convolution(len(ALPHABET))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        # The package divides the ones by the size of the alphabet.
        symbols = one_hot(batch["input_ids"], len(ALPHABET), LENGTH) / len(ALPHABET)
        tokens: Tensor = self.conv(symbols.to(self.conv.weight))
        return tokens


class _Encoder(nn.Module):
    """A convolution and two LSTMs, the first of which reads backwards: tokens (B, T, 32) to one token (B, 1, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _Convolution(CHANNELS)
        self.lstm = nn.LSTM(CHANNELS, HIDDEN, batch_first=True)
        self.last_lstm = nn.LSTM(HIDDEN, WIDTH, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        backwards = self.lstm(self.conv(tokens).flip(1))[0]
        forwards: Tensor = self.last_lstm(backwards.flip(1))[0]
        return forwards[:, -1:]


def build_network() -> PackagedNetwork:
    """Return ChemNet on SMILES of up to 349 symbols with random weights.

    It is a bare encoder: its head gives the vector of the molecule.
    """
    source_input = symbol_input(ALPHABET, LENGTH, unknown=UNKNOWN, end=END)
    return PackagedNetwork(source_input, (), _Embedder(), _Encoder(), FlatHead())


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the package's list of layers under the names of this network."""
    renamed = {}
    for name, tensor in weights.items():
        layer, _, _, parameter = name.split(".")
        renamed[f"{LAYERS[int(layer)]}.{parameter}"] = tensor
    return renamed
