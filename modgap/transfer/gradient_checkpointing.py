"""Gradient checkpointing by the functions of the libraries of the sources."""

import logging

from torch import nn

__all__ = ["enable_gradient_checkpointing"]

log = logging.getLogger("modgap")


TRAINING_MODE_ONLY = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
"""Functions of transformers, whose layers recompute activations in training mode alone. Stage 1 has evaluation mode."""
FUNCTIONS = ("set_grad_checkpointing", *TRAINING_MODE_ONLY)


def enable_gradient_checkpointing(encoder: nn.Module, *, has_stage1: bool = False) -> None:
    """Call the function that the source's library provides for this, on each module that has one.

    Args:
        encoder: The encoder, which is changed in place.
        has_stage1: True if the run has a stage 1. A warning says so where the library does not support it there.
    """
    used = set()
    for module in list(encoder.modules()):
        names = [name for name in FUNCTIONS if callable(getattr(module, name, None))]
        if names:
            getattr(module, names[0])()
            used.add(names[0])
    if not used:
        log.warning("The source's library does not support gradient checkpointing. Continuing without it.")
    elif has_stage1 and not used.isdisjoint(TRAINING_MODE_ONLY):
        log.warning(
            "Gradient checkpointing of this source works in stage 2 alone, because its library recomputes activations "
            "only while dropout is on. If stage 1 needs too much memory, lower stage1.batch_size and raise "
            "stage1.gradient_accumulation."
        )
