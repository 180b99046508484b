"""The form that all packaged models have here, an embedder, an encoder and a head, with parts that several share."""

from collections.abc import Mapping

from torch import Tensor, nn

from modgap.sources.inputs import Batch, Input
from modgap_zoo.split_model import SplitModel


def rename_modules(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors of some modules under other names.

    Args:
        weights: All tensors by name.
        names: New beginning of a name by its old one. Tensors of other beginnings are left out.
    """
    pairs = ((name, start) for name in weights for start in names if name.startswith(start))
    return {names[start] + name.removeprefix(start): weights[name] for name, start in pairs}


class Recurrent(nn.Module):
    """Layers of LSTM: tokens (B, T, D) to their outputs (B, T, D')."""

    def __init__(self, inputs: int, width: int, layers: int, *, bidirectional: bool = False) -> None:
        """Create the layers with random weights, each of which has this width in each direction."""
        super().__init__()
        self.lstm = nn.LSTM(inputs, width, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the outputs of the last layer."""
        outputs: Tensor = self.lstm(tokens)[0]
        return outputs


class Head(nn.Module):
    """A linear layer on the mean of the encoder's tokens: (B, T, D) to (B, C). Subclasses pool in another way."""

    def __init__(self, linear: nn.Module | None = None) -> None:
        """Take over the layer; None for a bare encoder, whose head gives the pooled features."""
        super().__init__()
        self.linear = nn.Identity() if linear is None else linear

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the features (B, D) on which the head is a linear layer."""
        return tokens.mean(dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits; for a bare encoder, the features."""
        logits: Tensor = self.linear(self.pool(tokens))
        return logits


class LinearHead(Head):
    """A linear layer on each token, and the mean of its logits: (B, T, D) to (B, C)."""

    def __init__(self, width: int, n_classes: int) -> None:
        """Create the layer with random weights, for tokens of this width."""
        super().__init__(nn.Linear(width, n_classes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mean logits."""
        logits: Tensor = self.linear(tokens).mean(dim=1)
        return logits


class FlatHead(Head):
    """A linear layer on all tokens as one vector."""

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the vector (B, T D)."""
        return tokens.flatten(1)


class PackagedNetwork(SplitModel):
    """A model as embedder, encoder and head.

    The module of an architecture has a function `build_network`, which returns it with random weights, and a function
    `rename_weights` from the package's tensors by name to those of the network. `build_network` takes the capacity of
    the `PackagedModel` if that has one. For a package whose file has the vocabulary too, the module also has a function
    `read(path)`, and `build_network` takes what it returns: an object whose `tensors` are those that `rename_weights`
    takes.

    Attributes:
        input: The model's preprocessing.
        class_names: Names of its classes; empty for a bare encoder or a regression.
        embedder: Module from a batch of the input to tokens (B, T, D).
        encoder: Module from these tokens to tokens (B, T', D').
        head: Module from the encoder's tokens to logits (B, C); without classes, to pooled features (B, D) of a bare
            encoder or to the values (B, C) of a regression.
    """

    head: Head

    def __init__(
        self, source_input: Input, class_names: tuple[str, ...], embedder: nn.Module, encoder: nn.Module, head: Head
    ) -> None:
        """Join the parts; see the attributes of the class."""
        super().__init__(embedder, encoder, head)
        self.input = source_input
        self.class_names = class_names

    def features(self, batch: Batch) -> Tensor:
        """Return the features (B, D) of a batch, on which the head is a linear layer."""
        return self.head.pool(self.encoder(self.embedder(batch)))
