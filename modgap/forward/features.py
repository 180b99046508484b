"""Features of a source: the mean over its encoder's tokens, which probes and predictors see."""

import numpy as np
import torch
from torch import Tensor, nn

from modgap.forward.batched_inference import output_batches
from modgap.inputs.native_embedding import Embedding
from modgap.sources import Batch, Source
from modgap.sources.inputs import pool_tokens
from modgap.targets import Samples


class PooledFeatures(nn.Module):
    """A source without its head, from a batch of its input to the mean over the encoder's tokens, (B, D).

    Args:
        source: The source.
    """

    def __init__(self, source: Source) -> None:  # noqa: D107
        super().__init__()
        parts = source.split()
        self.embedder, self.encoder = parts.embedder, parts.encoder
        self.tokens = parts.tokens
        self.eval()

    def forward(self, batch: Batch) -> Tensor:
        """Return the features of a batch."""
        return pool_tokens(self.tokens(self.encoder(self.embedder(batch))), batch)


def sample_features(
    source: Source, samples: Samples, embedding: Embedding, *, device: torch.device | str
) -> np.ndarray:
    """Compute the features of samples, float32 (n, D); those of a sample of several pieces are averaged.

    Args:
        source: The source, whose model is `PooledFeatures`.
        samples: The samples, as their target's steps leave them.
        embedding: Rule by which samples become pieces of the source's input.
        device: Device on which the source runs, or its name.
    """
    rows = np.arange(len(samples))
    batches = output_batches(source, samples, rows, embedding, device=device)
    return np.concatenate(list(batches))
