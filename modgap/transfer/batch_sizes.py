"""How many samples pass through the model together, and less of them where the memory does not suffice."""

import logging
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from modgap.transfer.recipe import OptimizerSettings, Recipe

__all__ = ["BatchSizes", "is_out_of_memory", "merges_batches"]

log = logging.getLogger("modgap")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return True if an error of PyTorch says that the memory of a device or of the machine does not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def merges_batches(recipe: Recipe, model: nn.Module, device: torch.device, trains_all: bool) -> bool:
    """Return True if the batches of one update pass through the model together, which changes it only by rounding.

    A GPU is hardly busy with a small batch. Batch normalization that trains would see another batch.

    Args:
        recipe: All settings; `merge_batches` decides if it is set.
        model: The model.
        device: Its device.
        trains_all: True in stage 2, where batch normalization trains.
    """
    if recipe.merge_batches is not None:
        return recipe.merge_batches
    normalizes = trains_all and any(isinstance(module, _BatchNorm) for module in model.modules())
    return device.type == "cuda" and not normalizes


@dataclass
class BatchSizes:
    """Largest numbers of target and of surrogate samples that pass through the model together.

    Attributes:
        settings: Settings of the stage.
        surrogate_batch: Number of surrogate samples of one update.
        merged: True if all batches of an update start together.
        divides: False if the objective cannot take its samples in smaller parts, as the alignment of classes by `orca`.
        halvings: How often the numbers were halved.
    """

    settings: OptimizerSettings
    surrogate_batch: int
    merged: bool
    divides: bool = True
    halvings: int = 0

    @property
    def target(self) -> int:
        """Largest number of target samples."""
        together = self.settings.batch_size * (self.settings.gradient_accumulation if self.merged else 1)
        return max(1, together >> self.halvings)

    @property
    def surrogate(self) -> int | None:
        """Largest number of surrogate samples; None for all of an update."""
        return max(1, self.surrogate_batch >> self.halvings) if self.halvings else None

    @property
    def can_halve(self) -> bool:
        """True if one of the numbers is still above 1, and smaller ones would help."""
        return self.divides and max(self.target, self.surrogate or self.surrogate_batch) > 1

    def halve(self) -> None:
        """Halve both numbers, give unused memory back, and say so."""
        self.halvings += 1
        log.warning("The memory does not suffice. Continuing with batches of %d samples.", self.target)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
