"""Parts that transformers models of all families share."""

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
    """What an encoder gives.

    Attributes:
        output: The library's record of a base model's outputs, with `last_hidden_state`.
        given: What the head's model is called with beside them, such as the attention mask.
        counted: Positions (B, T) whose logits are averaged; None for all.
    """

    output: Any
    given: dict[str, Any] = field(default_factory=dict)
    counted: Tensor | None = None


def encoded_tokens(features: Encoded) -> Tensor:
    """Features as tokens (B, T, D)."""
    hidden = features.output.last_hidden_state
    return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden


def encoder_path(model: PreTrainedModel) -> str:
    """Path of the encoder within a model with a head; empty where the model is the encoder."""
    return next((name for name, child in model.named_children() if isinstance(child, PreTrainedModel)), "")


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of values (B, T, D) over the positions where the mask (B, T) is not 0."""
    if mask is None:
        return values.mean(dim=1)
    weight = mask.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def move_batch(batch: Any, device: torch.device) -> Any:
    """A batch on a device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    return {name: value.to(device) for name, value in batch.items()}


class Logits(nn.Module):
    """A classifier of transformers that takes a batch as its one argument and gives logits (B, classes)."""

    def __init__(self, model: nn.Module, key: str, extra: dict | None = None):
        """A classifier, its argument for a batch that is a tensor, and what it is called with besides."""
        super().__init__()
        self.model, self.key, self.extra = model, key, extra or {}
        self.eval()

    def forward(self, batch: Any) -> Tensor:
        """Logits (B, classes)."""
        given = {self.key: batch} if isinstance(batch, torch.Tensor) else dict(batch)
        return self.model(**given, **self.extra).logits


class BaseHead(nn.Module):
    """A classifier whose encoder is stood in for by what it gave."""

    def __init__(self, model: nn.Module, base: str):
        """A classifier, and the path of its encoder."""
        super().__init__()
        self.given = StandIn(model.get_submodule(base))
        self.model = replace_modules(model, {base: self.given})
        self.eval()

    def forward(self, features: Encoded) -> Tensor:
        """Logits (B, classes), or (B, T, classes) where the model classifies tokens."""
        with self.given.returning(features.output):
            return self.model(**features.given).logits


class Pooled(nn.Module):
    """Pooled features (B, D) of a batch, or of what an encoder gave."""

    def __init__(self, pool: Callable[[Any], Tensor], model: nn.Module | None = None):
        """A function that pools, and the model that it runs, whose parameters are this one's."""
        super().__init__()
        self.model, self._pool = model, pool
        self.eval()

    def forward(self, value: Any) -> Tensor:
        """Features (B, D)."""
        return self._pool(value)
