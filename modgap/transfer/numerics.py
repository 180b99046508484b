"""Errors of each sample over its valid positions, and the choice of losses and metrics by name."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError, UsageError, unknown_name

__all__ = [
    "Scale",
    "align_shapes",
    "choose_function",
    "mean_of_valid",
    "nrmse",
    "relative_l2",
    "rescale",
    "rmse",
    "safe_divide",
    "safe_sqrt",
    "to_single_precision",
    "valid_class_positions",
    "valid_positions",
]

Scale = tuple[np.ndarray, np.ndarray] | tuple[Tensor, Tensor]
"""Mean and standard deviation: value * sd + mean is in the original unit."""


def safe_sqrt(squares: Tensor) -> Tensor:
    """Return the square root of squares (any shape, 0 or more), with first and second derivative 0 at 0."""
    # Below this threshold the second derivative, squares ** -1.5, would overflow. NaN stays NaN.
    zero = squares <= torch.finfo(squares.dtype).tiny ** 0.6
    root: Tensor = torch.where(zero, 1, squares).sqrt() * ~zero
    return root


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient, which is 0 with derivatives 0 where the denominator is 0."""
    nonzero = denominator != 0
    return torch.where(nonzero, numerator, 0) / torch.where(nonzero, denominator, 1)


def to_single_precision(values: Tensor) -> Tensor:
    """Return values in at least single precision, so that sums over half-precision outputs are accurate."""
    return values if values.dtype == torch.float64 else values.float()


def rescale(values: Tensor, scale: Scale | None) -> Tensor:
    """Return standardized values in the original unit, values * sd + mean.

    Args:
        values: Values (n, channels, ...).
        scale: Mean and standard deviation, each a number, of shape (channels,) or of one sample's shape. None to return
            the values unchanged.

    Raises:
        InputError: When the mean or the standard deviation has another shape.
    """
    if scale is None:
        return values
    mean, sd = (_broadcast_to_sample(torch.as_tensor(value), values.shape[1:]).to(values) for value in scale)
    return values * sd + mean


def _broadcast_to_sample(value: Tensor, shape: Sequence[int]) -> Tensor:
    if value.ndim == 1 and len(shape) > 1 and len(value) == shape[0]:
        return value.reshape(-1, *(1 for _ in shape[1:]))
    if value.ndim and value.shape != tuple(shape):
        raise InputError(
            f"The mean or sd has shape {tuple(value.shape)}. Expected a number, one value for each channel, or the "
            f"shape of one sample, {tuple(shape)}."
        )
    return value


def valid_positions(mask: Tensor | None, shape: Sequence[int]) -> Tensor | None:
    """Return a mask as booleans, expanded to a shape.

    Args:
        mask: 0/1 of that shape, or of shape (n,) to mask complete samples. None if all positions are valid.
        shape: Shape (n, ...) of the result.

    Raises:
        InputError: When the mask has another shape.
    """
    if mask is None:
        return None
    if mask.shape == tuple(shape[:1]):
        mask = mask.reshape(-1, *(1 for _ in shape[1:]))
    elif mask.shape != tuple(shape):
        raise InputError(f"The mask has shape {tuple(mask.shape)}. Expected {tuple(shape)} or {tuple(shape[:1])}.")
    return mask.bool().expand(*shape)


def valid_class_positions(outputs: Tensor, y: Tensor, mask: Tensor | None, ignore: int | None) -> Tensor | None:
    """Return the valid positions of classes, booleans (n, ...). None if all positions are valid.

    Args:
        outputs: Logits (n, K, ...).
        y: Classes as integers (n, ...).
        mask: 0/1 of y's shape, or of shape (n,) to mask complete samples. None if no position is masked.
        ignore: Class whose positions are not valid. None if there is no such class.

    Raises:
        InputError: When y does not hold integers, or the shapes do not fit.
    """
    if y.is_floating_point() or (len(outputs), *outputs.shape[2:]) != tuple(y.shape):
        raise InputError(
            f"y is {y.dtype} of shape {tuple(y.shape)}, for logits of shape {tuple(outputs.shape)}. "
            "Expected classes as integers (n, ...) for logits (n, K, ...)."
        )
    valid = valid_positions(mask, y.shape)
    if ignore is None:
        return valid
    return y != ignore if valid is None else valid & (y != ignore)


def align_shapes(
    outputs: Tensor, y: Tensor, mask: Tensor | None, scale: Scale | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return outputs, y and mask as (n, channels, positions), in the original unit.

    Outputs and y are 0 where they are not valid. Values of two axes (n, values) are one channel.

    Args:
        outputs: Outputs (n, ...).
        y: Targets of the same shape, in which an axis of one channel may be missing.
        mask: 0/1 of y's shape, or of shape (n,) to mask complete samples. None if all positions are valid.
        scale: Mean and standard deviation that `rescale` takes. None if outputs and y are in the original unit.

    Raises:
        InputError: When outputs and y have different shapes.
    """
    if outputs.ndim == y.ndim + 1 and outputs.shape[1] == 1:
        outputs = outputs.squeeze(1)
    if outputs.shape != y.shape:
        raise InputError(f"The outputs have shape {tuple(outputs.shape)}, but y has shape {tuple(y.shape)}.")
    valid = valid_positions(mask, y.shape)
    outputs = rescale(to_single_precision(outputs), scale)
    y = rescale(y.to(outputs.dtype), scale)
    if valid is not None:
        outputs = torch.where(valid, outputs, 0)
        y = torch.where(valid, y, 0)
    shape = (len(y), y.shape[1] if y.ndim > 2 else 1, -1)
    return outputs.reshape(shape), y.reshape(shape), None if valid is None else valid.reshape(shape)


def mean_of_valid(values: Tensor, valid: Tensor | None, start: int = 1) -> tuple[Tensor, Tensor]:
    """Return the mean of the valid values over the axes from `start` on, and True where there are valid values.

    The mean is 0 where there are none.
    """
    if valid is None:
        mean = values.flatten(start).mean(-1)
        return mean, torch.ones_like(mean, dtype=torch.bool)
    counts = valid.flatten(start).sum(-1)
    return (values * valid).flatten(start).sum(-1) / counts.clamp(min=1), counts > 0


def rmse(outputs: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Compute the root mean squared error of each channel, averaged over channels.

    The arguments are as `align_shapes` returns them.

    Returns:
        Values (n,), and True for samples with valid positions (n,).
    """
    squares, has_valid = mean_of_valid((outputs - y) ** 2, valid, start=2)
    return mean_of_valid(safe_sqrt(squares), has_valid)


def nrmse(outputs: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """Compute the RMSE of each channel divided by the root mean square of y, averaged over channels (PDEBench).

    The arguments are as `align_shapes` returns them. Channels in which y is 0 everywhere are left out.

    Returns:
        Values (n,), and True where they are defined (n,).
    """
    norms = (y**2).sum(-1).sqrt()
    ratios = safe_divide(safe_sqrt(((outputs - y) ** 2).sum(-1)), norms)
    return mean_of_valid(ratios, norms > 0)


def relative_l2(outputs: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """Compute ||outputs - y|| / ||y|| over channels and positions together.

    The arguments are as `align_shapes` returns them. Samples in which y is 0 everywhere have no value.

    Returns:
        Values (n,), and True where they are defined (n,).
    """
    norms = (y**2).sum((1, 2)).sqrt()
    return safe_divide(safe_sqrt(((outputs - y) ** 2).sum((1, 2))), norms), norms > 0


def choose_function(
    kind: str, functions: Mapping[str, Callable[..., Any]], name: str, options: Mapping[str, Any]
) -> Callable[..., Any]:
    """Return a function with its options filled in. Options are its keyword-only parameters.

    Args:
        kind: Kind of the function for messages, such as `loss`.
        functions: Functions by name.
        name: Name of the function.
        options: Values of options by name.

    Raises:
        UsageError: When there is no such function (the message has the nearest names), or it has no such option.
    """
    if name not in functions:
        raise unknown_name(kind, name, functions)
    parameters = inspect.signature(functions[name]).parameters.values()
    accepted = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in accepted:
            names = ", ".join(accepted) or "none"
            raise UsageError(f"The {kind} {name} has no option {option!r}. Its options are: {names}.")
    return functools.partial(functions[name], **options)
