"""A pretrained source model: preprocessing, embedder, encoder and head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ImageInput", "Parts", "Source", "SourceHandle", "SourceInfo"]


@dataclass(frozen=True)
class SourceInfo:
    """What can be said of a source without loading it.

    Attributes:
        name: Alias.
        title: What it is.
        n_classes: Outputs of its head.
        parameters: Number of parameters.
        input_size: Height and width in pixels.
        licence: Licence of the weights.
        weights: Where the weights come from, with the command that brings them.
        available: Whether the weights are on this machine.
    """

    name: str
    title: str
    n_classes: int
    parameters: int
    input_size: int
    licence: str
    weights: str
    available: bool


@dataclass(frozen=True)
class ImageInput:
    """What the source's own preprocessing makes of an image.

    Attributes:
        size: Height and width in pixels.
        mean: Of each channel, subtracted from values in [0, 1].
        sd: Of each channel, divided by.
        interpolation: `bicubic`, `bilinear` or `nearest`.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    interpolation: str


@dataclass(frozen=True)
class Parts:
    """A source split in three; head(encoder(embedder(x))) is the model's own output, bit for bit.

    Attributes:
        embedder: Images (B, C, H, W) to tokens or a feature map.
        encoder: Tokens to features.
        head: Features to logits (B, classes).
    """

    embedder: "nn.Module"
    encoder: "nn.Module"
    head: "nn.Module"


@dataclass(frozen=True)
class Source:
    """A loaded source model, in evaluation mode.

    Attributes:
        model: The whole model, images (B, C, H, W) to logits (B, classes).
        input: Its preprocessing.
        class_names: Names of its classes, or their numbers.
        convolutional: Whether it starts from convolutions all through, which run faster channels-last.
        split: Gives its parts.
        features: Images to pooled features (B, D), what the head is a linear layer on.
    """

    model: "nn.Module"
    input: ImageInput
    class_names: tuple[str, ...]
    convolutional: bool
    split: Callable[[], Parts]
    features: "Callable[[Tensor], Tensor]"


class SourceHandle(Protocol):
    """A source that is known by name, and found, but not loaded; needs no torch."""

    @property
    def name(self) -> str:
        """What it is called in results."""

    def fingerprint(self) -> dict:
        """What decides the outputs: architecture, checksum of the weights, versions."""

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """Load it; raises InputError when the weights are missing or do not fit.

        Without `head` a model that has no classification head will do.
        """
