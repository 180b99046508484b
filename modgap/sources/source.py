"""A pretrained source model: preprocessing, embedder, encoder and head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from modgap.errors import UsageError
from modgap.sources.inputs import Batch, Input

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["HeadlessError", "Parts", "Source", "SourceHandle", "SourceInfo", "headless_error"]


@dataclass(frozen=True)
class SourceInfo:
    """What can be said of a source without loading it.

    Attributes:
        name: Alias.
        title: What it is.
        n_classes: Outputs of its head; None for a bare encoder.
        parameters: Number of parameters.
        input: What it takes, such as `image, 224 px`.
        license: License of the weights.
        weights: Where the weights come from, with the command that brings them.
        available: Whether the weights are on this machine.
        surrogate: Target and split of labeled data of the source's modality, which stage 1 of a transfer aligns to
            unless told otherwise; None where modgap knows of none.
    """

    name: str
    title: str
    n_classes: int | None
    parameters: int
    input: str
    license: str
    weights: str
    is_installed: bool
    surrogate: tuple[str, str] | None = None


@dataclass(frozen=True)
class Parts:
    """A source split in three; head(encoder(embedder(x))) is the model's own output, bit for bit.

    Attributes:
        embedder: A batch of the source's input to what enters the encoder: tokens (B, T, D) or a feature
            map, for text with its mask.
        encoder: What the embedder gives, or tokens (B, T, D) from elsewhere, to features.
        head: Features to logits (B, classes).
        tokens: Features as (B, T, D), for a predictor or a probe to pool.
    """

    embedder: "nn.Module"
    encoder: "nn.Module"
    head: "nn.Module"
    tokens: "Callable[[Any], Tensor]"


@dataclass(frozen=True)
class Source:
    """A loaded source model, in evaluation mode.

    Attributes:
        model: The whole model, a batch of its input to logits (B, classes).
        input: Its preprocessing.
        class_names: Names of its classes, or their numbers; none for a bare encoder, whose model gives features.
        convolutional: Whether it starts from convolutions all through, which run faster channels-last.
        split: Gives its parts.
        features: A batch to pooled features (B, D): what the head is a linear layer on; of texts the mean over tokens.
        notes: What else decides the outputs and belongs into the record, such as a zero-shot head's prompts.
    """

    model: "nn.Module"
    input: Input
    class_names: tuple[str, ...]
    convolutional: bool
    split: Callable[[], Parts]
    features: "Callable[[Batch], Tensor]"
    notes: tuple[tuple[str, str], ...] = ()


class SourceHandle(Protocol):
    """A source that is known by name, and found, but not loaded; needs no torch."""

    @property
    def name(self) -> str:
        """What it is called in results."""

    def fingerprint(self) -> dict:
        """What decides the outputs: architecture, checksum of the weights, versions."""

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """Load it; raises InputError when the weights are missing or do not fit.

        Without `head` a model that has no classification head will do. Sources that take no images
        refuse an input size.
        """


class HeadlessError(UsageError):
    """A model without a classification head, where one is needed."""


def headless_error(name: str) -> HeadlessError:
    """The error for a model that has no classification head, where one is needed."""
    return HeadlessError(
        f"expected a model with a classification head, {name} has none; "
        "fit one on labeled data of its modality with --head probe:SURROGATE"
    )
