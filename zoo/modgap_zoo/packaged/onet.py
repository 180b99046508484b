"""O-Net: the last of three convolutional networks that find faces; it tells whether an image shows a face.

Reference: Zhang, Zhang, Li and Qiao, Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks
(IEEE Signal Processing Letters 2016), figure 2.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from modgap.sources.inputs import ImageInput
from modgap_zoo.packaged.network import LinearHead, PackagedNetwork, rename_modules

SIDE = 48
MEAN = 0.5
DEVIATION = 128 / 255
"""Mean and scale of values from 0 to 1: the package subtracts 127.5 from 0 to 255, and divides by 128."""
WIDTH = 256
CLASSES = ("no face", "face")


class _Encoder(nn.Module):
    """Three convolutions and a linear layer: maps (B, 32, 23, 23) to one token (B, 1, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(32, 64, 3), nn.PReLU(64), nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(64, 64, 3), nn.PReLU(64), nn.MaxPool2d(2, 2, ceil_mode=True),
            nn.Conv2d(64, 128, 2), nn.PReLU(128),
        )  # fmt: skip
        self.dense = nn.Sequential(nn.Linear(9 * 128, WIDTH), nn.PReLU(WIDTH))

    def forward(self, maps: Tensor) -> Tensor:
        # The weights come from a library that stores images column by column.
        features: Tensor = self.dense(self.maps(maps).permute(0, 3, 2, 1).flatten(1))
        return features.unsqueeze(1)


def build_network() -> PackagedNetwork:
    """Return O-Net with random weights, and with logits before its softmax."""
    source_input = ImageInput((SIDE, SIDE), (MEAN,) * 3, (DEVIATION,) * 3, "bilinear")
    embedder = nn.Sequential(nn.Conv2d(3, 32, 3), nn.PReLU(32), nn.MaxPool2d(3, 2, ceil_mode=True))
    return PackagedNetwork(source_input, CLASSES, embedder, _Encoder(), LinearHead(WIDTH, len(CLASSES)))


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the package's tensors under the names of this network, without those of the two further heads."""
    names = {
        "conv1.": "embedder.0.",
        "prelu1.": "embedder.1.",
        "dense5.": "encoder.dense.0.",
        "prelu5.": "encoder.dense.1.",
        "dense6_1.": "head.linear.",
    }
    for number, first in enumerate((0, 3, 6), 2):
        names |= {f"conv{number}.": f"encoder.maps.{first}.", f"prelu{number}.": f"encoder.maps.{first + 1}."}
    return rename_modules(weights, names)
