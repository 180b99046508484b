"""Models as embedder, encoder and head."""

from torch import Tensor, nn

from modgap.sources.inputs import Batch


class SplitModel(nn.Module):
    """Embedder, encoder and head one after the other."""

    def __init__(self, embedder: nn.Module, encoder: nn.Module, head: nn.Module) -> None:
        """Run the three modules."""
        super().__init__()
        self.embedder = embedder
        self.encoder = encoder
        self.head = head

    def forward(self, batch: Batch) -> Tensor:
        """Return the head's outputs (B, C) of a batch."""
        outputs: Tensor = self.head(self.encoder(self.embedder(batch)))
        return outputs
