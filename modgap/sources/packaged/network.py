"""The form that all packaged models have here: three modules in a row."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from modgap.sources.inputs import Batch, Input

__all__ = ["LinearHead", "PackagedNetwork"]


class LinearHead(nn.Module):
    """A linear layer on each token, and the mean of its logits: (B, T, D) to (B, C)."""

    def __init__(self, width: int, n_classes: int) -> None:
        """Create the layer with random weights, for tokens of this width."""
        super().__init__()
        self.linear = nn.Linear(width, n_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mean logits."""
        logits: Tensor = self.linear(tokens).mean(dim=1)
        return logits


class PackagedNetwork(nn.Module):
    """A model as embedder, encoder and head.

    Its constructor takes the capacity of the `ModelPackage` if that has one. For a package whose file has the
    vocabulary too, the module has a function `read(path)`, and the constructor takes what it returns: an object whose
    `tensors` are those that `rename` takes.

    Attributes:
        input: The model's preprocessing.
        class_names: Names of its classes; empty for a bare encoder or a regression.
        embedder: Module from a batch of the input to tokens (B, T, D).
        encoder: Module from these tokens to tokens (B, T', D').
        head: Module from the encoder's tokens to logits (B, C); without classes, to pooled features (B, D) of a bare
            encoder or to the values (B, C) of a regression.
    """

    input: Input
    class_names: tuple[str, ...]
    embedder: nn.Module
    encoder: nn.Module
    head: nn.Module

    def forward(self, batch: Batch) -> Tensor:
        """Return logits (B, C) of a batch; without classes, features or the values of a regression."""
        logits: Tensor = self.head(self.encoder(self.embedder(batch)))
        return logits

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the features (B, D) on which the head is a linear layer, from the encoder's tokens: their mean."""
        return tokens.mean(dim=1)

    def rename(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Return the package's tensors under the names that they have in this network."""
        raise NotImplementedError
