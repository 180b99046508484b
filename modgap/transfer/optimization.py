"""The optimizer and the learning-rate schedule of a recipe."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from modgap.transfer.recipe import OptimizerSettings

__all__ = ["build_optimizer", "learning_rate_factor"]

DROP_FACTOR = 0.2


def build_optimizer(
    parameters: Iterable[Tensor], settings: OptimizerSettings, undecayed: Iterable[Tensor] = ()
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over some parameters, at its full learning rate.

    Args:
        parameters: Parameters with weight decay.
        settings: Settings of the stage.
        undecayed: Parameters without weight decay.
    """
    groups: list[dict[str, Any]] = [{"params": list(parameters)}]
    without_decay = list(undecayed)
    if without_decay:
        groups.append({"params": without_decay, "weight_decay": 0.0})
    rate = settings.learning_rate
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=settings.momentum, weight_decay=decay)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, rate, settings.betas, weight_decay=decay)
    return torch.optim.Adam(groups, rate, settings.betas, weight_decay=decay)


def learning_rate_factor(settings: OptimizerSettings, epoch: float) -> float:
    """Return the factor of the learning rate in [0, 1]: a linear warm-up, then a decay and drops, where set.

    Args:
        settings: Settings with warmup_epochs, decay_epochs, decay and drop_epochs.
        epoch: Number of completed epochs, as a fraction; it includes the current update.

    Example:
        >>> from modgap.transfer.recipe import FullStage
        >>> settings = FullStage(warmup_epochs=2, decay_epochs=10)
        >>> [learning_rate_factor(settings, epoch) for epoch in (1, 2, 6, 10, 11)]
        [0.5, 1.0, 0.5, 0.0, 0.0]
        >>> settings = FullStage(warmup_epochs=0, drop_epochs=[2])
        >>> [learning_rate_factor(settings, epoch) for epoch in (1, 2, 2.1, 3)]
        [1.0, 1.0, 0.2, 0.2]
    """
    if epoch < settings.warmup_epochs:
        return epoch / settings.warmup_epochs
    # The update that ends an epoch still belongs to it.
    completed = math.ceil(epoch) - 1
    return _decay_factor(settings, epoch) * DROP_FACTOR ** sum(drop <= completed for drop in settings.drop_epochs)


def _decay_factor(settings: OptimizerSettings, epoch: float) -> float:
    if settings.decay_epochs is None:
        return 1.0
    length = settings.decay_epochs - settings.warmup_epochs
    if length <= 0:
        return 1.0
    left = min(1.0, max(0.0, (settings.decay_epochs - epoch) / length))
    return left if settings.decay == "linear" else (1 - math.cos(math.pi * left)) / 2
