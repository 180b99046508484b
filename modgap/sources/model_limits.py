"""Limits of the model that a configuration describes, which may come from anywhere."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modgap.errors import InputError
from modgap.storage.limits import MODEL_LAYERS, MODEL_NUMBER, available_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

LAYERS = re.compile(r"(layers?|depths?|blocks?|stages?)$")
"""Ends of the names of numbers for which a library builds as many modules."""
NO_SIZES = ("label2id", "rope_theta")
"""Numbers of a configuration that are no sizes: those of classes by their names, and a base of frequencies."""
CLASSES = re.compile(r"(labels|classes)$")
MOST_CLASSES = 1 << 20
MOST_TENSORS = 100_000
"""Most tensors of a model with random weights."""
COPIES = 4
"""Times that a library may register each tensor: when it builds, fills and ties a model."""
MORE_TENSORS, MORE_VALUES = 1_000, 1 << 24
"""Tensors and values that a model may have beside those of its weights, which are refused later with their names."""
BYTES_PER_VALUE = 4


def check_numbers(record: Mapping[str, object], path: Path) -> None:
    """Raise if a configuration has a number of layers, or another whole number, that no model has.

    Args:
        record: Content of the configuration.
        path: Its file, for the message.

    Raises:
        InputError: When a number is beyond its limit.
    """
    pending: list[tuple[str, object]] = list(record.items())
    while pending:
        name, value = pending.pop()
        if name in NO_SIZES:
            continue
        if isinstance(value, dict):
            pending += value.items()
        elif isinstance(value, list):
            pending += [(name, item) for item in value]
        elif type(value) is int:
            limit = MODEL_LAYERS if LAYERS.search(name) else MODEL_NUMBER
            if CLASSES.search(name) and value > MOST_CLASSES:
                raise InputError(f"{path} has {name} {value:,}. A model may have {MOST_CLASSES:,} classes.")
            if abs(value) > limit.value:
                way_out = limit.way_out(abs(value))
                raise InputError(f"{path} has {name} {value:,}. The limit is {limit.value:,}. {way_out}")


@contextlib.contextmanager
def limited_model(name: str, weights: "Mapping[str, Tensor] | None" = None) -> Iterator[None]:
    """Stop a library that builds a larger model within a block than its weights, or the memory, allow.

    Args:
        name: Name of the source, for the message.
        weights: Tensors that the model will have; None for a model with random weights.

    Raises:
        InputError: When the model has far more tensors or values than the weights, or more than fit in memory.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    if weights is None:
        left = available_memory()
        most_tensors, most_values = MOST_TENSORS, None if left is None else left // BYTES_PER_VALUE
        reason = "more than the memory that is left can hold"
    else:
        most_tensors = COPIES * len(weights) + MORE_TENSORS
        most_values = COPIES * sum(tensor.numel() for tensor in weights.values()) + MORE_VALUES
        reason = "far more than its weights have"
    tensors = values = 0

    def count(_module: "nn.Module", _name: str, parameter: "nn.Parameter") -> None:
        nonlocal tensors, values
        tensors += 1
        values += parameter.numel()
        if tensors > most_tensors or (most_values is not None and values > most_values):
            raise InputError(
                f"The configuration of {name} describes a model of at least {tensors:,} tensors with {values:,} "
                f"values, {reason}. Restore the configuration."
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
