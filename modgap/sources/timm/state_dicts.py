"""Load weights into timm models, also from older layouts."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modgap.errors import InputError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load_weights"]


def load_weights(model: "nn.Module", state: dict[str, Any], architecture: str, path: Path) -> None:
    """Load weights into a model, also those in an older layout that timm can convert.

    Raises:
        InputError: When the weights do not fit the model.
    """
    misfit = _misfit(model, state)
    if misfit:
        state = _converted(model, state)
        if _misfit(model, state):
            raise InputError(f"The weights in {path} do not fit {architecture}: {misfit}.")
    model.load_state_dict(state)


def _misfit(model: "nn.Module", state: dict[str, Any]) -> str | None:
    """Return why these weights do not fit the model, or None if they fit."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    missing = sorted(expected.keys() - shapes.keys())
    unknown = sorted(shapes.keys() - expected.keys())
    mismatched = sorted(name for name in expected.keys() & shapes.keys() if expected[name] != shapes[name])
    if not (missing or unknown or mismatched):
        return None
    first = [*missing, *unknown, *mismatched][0]
    return (
        f"{len(missing)} tensors are missing, {len(unknown)} are unknown and {len(mismatched)} have another shape "
        f"(first: {first})"
    )


def _converted(model: "nn.Module", state: dict[str, Any]) -> dict[str, Any]:
    """Return the weights in the current layout, if timm can convert them."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        return convert(dict(state), model) if convert else state
    except Exception:  # a converter can raise any error for weights that do not fit; the caller reports the misfit
        return state
