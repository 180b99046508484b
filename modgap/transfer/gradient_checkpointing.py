"""Gradient checkpointing by the functions of the libraries of the sources."""

import logging

from torch import nn

__all__ = ["enable_gradient_checkpointing"]

log = logging.getLogger("modgap")


def enable_gradient_checkpointing(encoder: nn.Module) -> None:
    """Call the function that the source's library provides for this, on each module that has one."""
    names = ("set_grad_checkpointing", "activation_checkpointing_enable", "gradient_checkpointing_enable")
    enabled = False
    for module in list(encoder.modules()):
        functions = [getattr(module, name) for name in names if callable(getattr(module, name, None))]
        if functions:
            functions[0]()
            enabled = True
    if not enabled:
        log.warning("The source's library does not support gradient checkpointing. Continuing without it.")
