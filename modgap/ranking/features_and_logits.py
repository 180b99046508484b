"""A source as one module that gives features and logits side by side."""

from typing import Any

import torch
from torch import Tensor, nn

from modgap.sources import Source
from modgap.transfer.surrogate import SurrogateBatch

__all__ = ["FeaturesAndLogits", "pooled_features"]


class FeaturesAndLogits(nn.Module):
    """Compute pooled features and logits of a batch side by side, (B, D + Z), in one pass of the encoder.

    The features are the mean over the encoder's tokens, which is what the predictors of `modgap train` see. A fitted
    head is linear on the pooled output of the bare encoder.

    Args:
        source: The source.
        fitted_head: Head that was fitted on labeled data of the source's modality. None if there is none.
        headless: True if the source's own head is not used.
    """

    def __init__(self, source: Source, fitted_head: nn.Module | None, *, headless: bool) -> None:  # noqa: D107
        super().__init__()
        parts = source.split()
        self.embedder = parts.embedder
        self.encoder = parts.encoder
        self.head = parts.head
        self.fitted_head = fitted_head
        self.tokens = parts.tokens
        self.headless = headless
        self.width = 0
        modules = (self.embedder, self.encoder, self.head)
        sizes = {parameter: parameter.numel() for module in modules for parameter in module.parameters()}
        self.parameter_count = sum(sizes.values())
        self.eval()

    def forward(self, batch: Any) -> Tensor:
        """Return features and logits, or features alone where there is no head."""
        encoded = self.encoder(self.embedder(batch))
        features = SurrogateBatch(batch).pool(self.tokens(encoded))
        self.width = features.shape[1]
        if self.headless and self.fitted_head is None:
            return features
        outputs = self.head(encoded)
        logits = outputs if self.fitted_head is None else self.fitted_head(outputs)
        return torch.cat([features, logits], dim=1)


def pooled_features(model: FeaturesAndLogits, batch: SurrogateBatch) -> Tensor:
    """Return the features of a batch of the source's surrogate, shape (B, D)."""
    return batch.pool(model.tokens(model.encoder(model.embedder(batch.inputs))))
