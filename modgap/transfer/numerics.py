"""Errors of each sample, over the positions that count: what losses and metrics share."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError

__all__ = [
    "Scale",
    "counting",
    "matched",
    "mean_of_valid",
    "nrmse",
    "relative_l2",
    "rescaled",
    "rmse",
    "safe_divide",
    "safe_sqrt",
    "single",
    "valid_class_positions",
]

Scale = tuple[np.ndarray, np.ndarray] | tuple[Tensor, Tensor]
"""Mean and sd: value * sd + mean is in the original unit."""


def safe_sqrt(squares: Tensor) -> Tensor:
    """Square root with derivatives 0 at 0, the first and the second; squares of any shape, 0 or more."""
    # Below, the second derivative, squares ** -1.5, would overflow. NaN stays.
    zero = squares <= torch.finfo(squares.dtype).tiny ** 0.6
    return torch.where(zero, 1, squares).sqrt() * ~zero


def safe_divide(above: Tensor, below: Tensor) -> Tensor:
    """Quotient, 0 where the divisor is 0, there with derivatives 0."""
    divides = below != 0
    return torch.where(divides, above, 0) / torch.where(divides, below, 1)


def single(values: Tensor) -> Tensor:
    """Values in single precision at least, so that sums over positions of half-precision outputs are right."""
    return values if values.dtype == torch.float64 else values.float()


def rescaled(values: Tensor, scale: Scale | None) -> Tensor:
    """Values (n, channels, ...) in the original unit: times sd, plus mean, each a number, (channels,) or one sample.

    Raises:
        InputError: When mean and sd have another shape.
    """
    if scale is None:
        return values
    mean, sd = (_per_sample(torch.as_tensor(part), values.shape[1:]).to(values) for part in scale)
    return values * sd + mean


def _per_sample(part: Tensor, shape: Sequence[int]) -> Tensor:
    if part.ndim == 1 and len(shape) > 1 and len(part) == shape[0]:
        return part.reshape(-1, *(1 for _ in shape[1:]))
    if part.ndim and part.shape != tuple(shape):
        raise InputError(
            f"expected mean and sd as numbers, one each a channel or of one sample's shape {tuple(shape)}, "
            f"got {tuple(part.shape)}"
        )
    return part


def counting(mask: Tensor | None, shape: Sequence[int]) -> Tensor | None:
    """The mask as booleans of this shape (n, ...); it may have that shape, or (n,) for whole samples.

    Raises:
        InputError: When it has another shape.
    """
    if mask is None:
        return None
    if mask.shape == tuple(shape[:1]):
        mask = mask.reshape(-1, *(1 for _ in shape[1:]))
    elif mask.shape != tuple(shape):
        raise InputError(f"expected a mask of shape {tuple(shape)} or {tuple(shape[:1])}, got {tuple(mask.shape)}")
    return mask.bool().expand(*shape)


def valid_class_positions(outputs: Tensor, y: Tensor, mask: Tensor | None, ignore: int | None) -> Tensor | None:
    """Which positions of y count, (n, ...), where it holds classes for logits (n, K, ...); None where all do.

    Raises:
        InputError: When y holds no integers, or shapes do not fit.
    """
    if y.is_floating_point() or (len(outputs), *outputs.shape[2:]) != tuple(y.shape):
        raise InputError(
            f"expected classes as integers (n, ...) for logits (n, K, ...), got {y.dtype} {tuple(y.shape)} "
            f"for {tuple(outputs.shape)}"
        )
    valid = counting(mask, y.shape)
    if ignore is None:
        return valid
    return y != ignore if valid is None else valid & (y != ignore)


def matched(
    outputs: Tensor, y: Tensor, mask: Tensor | None, scale: Scale | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Outputs, y and mask as (n, channels, positions), in the original unit; outputs and y 0 where they do not count.

    Values of two axes (n, values) are one channel. An axis of one channel may be missing in y.

    Raises:
        InputError: When outputs and y have not one shape.
    """
    if outputs.ndim == y.ndim + 1 and outputs.shape[1] == 1:
        outputs = outputs.squeeze(1)
    if outputs.shape != y.shape:
        raise InputError(f"expected outputs of y's shape {tuple(y.shape)}, got {tuple(outputs.shape)}")
    valid = counting(mask, y.shape)
    outputs = rescaled(single(outputs), scale)
    y = rescaled(y.to(outputs.dtype), scale)
    if valid is not None:
        outputs, y = torch.where(valid, outputs, 0), torch.where(valid, y, 0)
    shape = (len(y), y.shape[1] if y.ndim > 2 else 1, -1)
    return outputs.reshape(shape), y.reshape(shape), None if valid is None else valid.reshape(shape)


def mean_of_valid(values: Tensor, valid: Tensor | None, start: int = 1) -> tuple[Tensor, Tensor]:
    """Mean over the axes from `start` on of the values that count, and where there are any; 0 where there are none."""
    if valid is None:
        mean = values.flatten(start).mean(-1)
        return mean, torch.ones_like(mean, dtype=torch.bool)
    counts = valid.flatten(start).sum(-1)
    return (values * valid).flatten(start).sum(-1) / counts.clamp(min=1), counts > 0


def rmse(outputs: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Root mean squared error of each channel, mean over channels; arguments as `matched` gives them.

    Returns:
        Values (n,), and where there are any positions that count.
    """
    squares, known = mean_of_valid((outputs - y) ** 2, valid, start=2)
    return mean_of_valid(safe_sqrt(squares), known)


def nrmse(outputs: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """RMSE of each channel over the root mean square of y, mean over channels (PDEBench); y may not be all 0.

    Returns:
        Values (n,), and where they are defined.
    """
    norms = (y**2).sum(-1).sqrt()
    ratios = safe_divide(safe_sqrt(((outputs - y) ** 2).sum(-1)), norms)
    return mean_of_valid(ratios, norms > 0)


def relative_l2(outputs: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """||outputs - y|| / ||y|| over channels and positions together; y may not be all 0.

    Returns:
        Values (n,), and where they are defined.
    """
    norms = (y**2).sum((1, 2)).sqrt()
    return safe_divide(safe_sqrt(((outputs - y) ** 2).sum((1, 2))), norms), norms > 0
