"""Modules and functions that transformers models of all families share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modgap.sources.splitting import StandIn, replace_modules

__all__ = ["BaseHead", "Encoded", "Logits", "Pooled", "encoded_tokens", "encoder_path", "masked_mean", "move_batch"]


@dataclass(frozen=True)
class Encoded:
    """The output of an encoder.

    Attributes:
        output: The library's record of a base model's outputs, with `last_hidden_state`.
        arguments: Further arguments of the model that contains the head, such as the attention mask.
        averaged: Mask (B, T) of the positions whose logits are averaged; None for all positions.
    """

    output: Any
    arguments: dict[str, Any] = field(default_factory=dict)
    averaged: Tensor | None = None


def encoded_tokens(features: Encoded) -> Tensor:
    """Return features as tokens (B, T, D)."""
    hidden: Tensor = features.output.last_hidden_state
    return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden


def encoder_path(model: PreTrainedModel) -> str:
    """Return the path of the encoder within a model with a head, or an empty path if the model is the encoder."""
    return next((name for name, child in model.named_children() if isinstance(child, PreTrainedModel)), "")


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Compute the mean of values (B, T, D) over the positions where the mask (B, T) is not 0."""
    if mask is None:
        return values.mean(dim=1)
    weight = mask.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def move_batch(batch: Any, device: torch.device) -> Any:
    """Return the batch on a device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    return {name: value.to(device) for name, value in batch.items()}


class Logits(nn.Module):
    """A classifier of transformers as a module from a batch to logits (B, classes)."""

    def __init__(self, model: nn.Module, key: str, extra: dict[str, Any] | None = None) -> None:
        """Wrap a classifier.

        Args:
            model: The classifier.
            key: Name of the argument for a batch that is a tensor.
            extra: Further arguments of every call.
        """
        super().__init__()
        self.model = model
        self.key = key
        self.extra = extra or {}
        self.eval()

    def forward(self, batch: Any) -> Tensor:
        """Return logits (B, classes)."""
        arguments = {self.key: batch} if isinstance(batch, torch.Tensor) else dict(batch)
        logits: Tensor = self.model(**arguments, **self.extra).logits
        return logits


class BaseHead(nn.Module):
    """The head of a classifier: the classifier with its encoder replaced by the encoder's output."""

    def __init__(self, model: nn.Module, path: str) -> None:
        """Replace the encoder at this path of a classifier."""
        super().__init__()
        self.encoder = StandIn(model.get_submodule(path))
        self.model = replace_modules(model, {path: self.encoder})
        self.eval()

    def forward(self, features: Encoded) -> Tensor:
        """Return logits (B, classes), or (B, T, classes) if the model classifies tokens."""
        with self.encoder.returning(features.output):
            logits: Tensor = self.model(**features.arguments).logits
        return logits


class Pooled(nn.Module):
    """A module from a batch, or from an encoder's output, to pooled features (B, D)."""

    def __init__(self, pool: Callable[[Any], Tensor], model: nn.Module | None = None) -> None:
        """Wrap a function that pools, and register the model that it runs, if any."""
        super().__init__()
        self.model = model
        self._pool = pool
        self.eval()

    def forward(self, value: Any) -> Tensor:
        """Return features (B, D)."""
        return self._pool(value)
