"""Optimizer and learning-rate schedule by a recipe."""

from collections.abc import Iterable

import torch
from torch import Tensor

from modgap.transfer.recipe import OptimizerSettings

__all__ = ["learning_rate_factor", "optimizer"]


def optimizer(parameters: Iterable[Tensor], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The recipe's optimizer over these parameters, at its full learning rate."""
    chosen, rate, decay = list(parameters), settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(chosen, rate, momentum=settings.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(chosen, rate, weight_decay=decay)


def learning_rate_factor(settings: OptimizerSettings, epoch: float) -> float:
    """Share of the learning rate at a time in epochs: linear rise, then linear fall to 0 where one is set.

    Args:
        settings: With warmup_epochs and decay_epochs.
        epoch: Epochs done, the update in hand included.

    Example:
        >>> from modgap.transfer.recipe import FullStage
        >>> settings = FullStage(warmup_epochs=2, decay_epochs=10)
        >>> [learning_rate_share(settings, epoch) for epoch in (1, 2, 6, 10, 11)]
        [0.5, 1.0, 0.5, 0.0, 0.0]
    """
    if epoch < settings.warmup_epochs:
        return epoch / settings.warmup_epochs
    if settings.decay_epochs is None:
        return 1.0
    length = settings.decay_epochs - settings.warmup_epochs
    return min(1.0, max(0.0, (settings.decay_epochs - epoch) / length)) if length > 0 else 1.0
