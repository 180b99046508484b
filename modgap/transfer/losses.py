"""Losses of training: a value for each sample, twice differentiable in the outputs."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from modgap.errors import InputError, UsageError
from modgap.targets import Manifest
from modgap.transfer.named_functions import choose_function
from modgap.transfer.numerics import (
    Scale,
    matched,
    mean_of_valid,
    nrmse,
    relative_l2,
    rmse,
    single,
    valid_class_positions,
)

__all__ = ["LOSSES", "LossFunction", "loss", "task_loss"]

LossFunction = Callable[..., Tensor]
"""(outputs, y, mask=None) -> values (n,)."""

DEFAULTS = {
    "classification": "cross-entropy",
    "multi-label": "binary cross-entropy",
    "regression": "mean squared error",
}


def loss(name: str, scale: Scale | None = None, *, masked: bool = False, **options: Any) -> LossFunction:
    """A loss by name: a function (outputs, y, mask=None) of a batch that gives one value for each sample.

    A sample's value is the mean over its positions that count. Positions where the mask is 0 do not count, nor do
    what outputs and y hold there, NaN included. A sample without any position has the value 0 and gradient 0.
    Outputs in half precision are taken as float32; float64 is kept. All losses are 0 or more, lower is better, and
    twice differentiable in the outputs, also where outputs and y are equal.

    | name | outputs | y | options |
    |---|---|---|---|
    | cross-entropy | logits (n, K, ...) | classes (n, ...) | ignore: a label that does not count |
    | binary cross-entropy | logits (n, ...) | 0/1 (n, ...) | positive_weight: factor of the terms with y = 1 |
    | mean squared error | values (n, ...) | values (n, ...) | clip: y above it is taken as it |
    | relative L2 | values (n, ...) | values (n, ...) | |
    | nRMSE, RMSE | values (n, channels, ...) | the same | |

    `relative L2` is the norm of the error over that of y, of all channels together; `nRMSE` that of each channel,
    averaged (PDEBench; Takamoto et al. 2022), and the same with one channel. A sample (or channel) with y = 0
    everywhere has neither and counts as 0. `RMSE` is each channel's root mean squared error, averaged.

    Args:
        name: One of the above.
        scale: Mean and sd of y where outputs and y are both standardized, each a number, one value a channel, or of
            one sample's shape as `Table.target_scale` has them. Both are then taken as value * sd + mean, so that the
            loss (and `clip`) is in the original unit. Not for the cross-entropies.
        masked: Whether a mask has to be given.
        **options: As above.

    Returns:
        The function; its mask is 0/1 of y's shape, or (n,) for whole samples. It raises InputError when shapes do
        not fit.

    Raises:
        UsageError: When there is no such loss or option, its value is out of range, or the loss takes no scale.

    Example:
        >>> outputs, y = torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]])
        >>> loss("mean squared error")(outputs, y).tolist()
        [2.0, 2.0]
        >>> loss("mean squared error")(outputs, y, torch.tensor([[1, 0], [0, 1]])).tolist()
        [0.0, 4.0]
    """
    function = choose_function("loss", LOSSES, name, options)
    if scale is not None and "cross-entropy" in name:
        raise UsageError(f"loss {name} is of classes, which have no scale; leave it out")
    if not options.get("positive_weight", 1) > 0:
        raise UsageError(f"expected a positive weight of more than 0, got {options['positive_weight']}")
    return functools.partial(_values, function, scale, masked)


def task_loss(manifest: Manifest, scale: Scale | None = None) -> LossFunction:
    """The loss of a task: its manifest's, or by its type.

    Cross-entropy for classification, binary cross-entropy for multi-label, mean squared error for regression.

    Args:
        manifest: The target's.
        scale: As `loss` takes it; pass the table's `target_scale` for a loss in the original unit.

    Raises:
        UsageError: When the manifest's options do not fit its loss.
    """
    given = manifest.loss
    return loss(DEFAULTS[manifest.task], scale) if given is None else loss(given.name, scale, **given.options)


def _values(
    function: LossFunction, scale: Scale | None, masked: bool, outputs: Tensor, y: Tensor, mask: Tensor | None = None
) -> Tensor:
    if masked and mask is None:
        raise InputError("expected a mask of the positions that count with this loss, got none")
    return function(outputs, y, mask, scale)


def _cross_entropy(
    outputs: Tensor, y: Tensor, mask: Tensor | None, scale: None, *, ignore: int | None = None
) -> Tensor:
    valid = valid_class_positions(outputs, y, mask, ignore)
    outputs, y = single(outputs), y.long()
    if valid is not None:
        outputs, y = torch.where(valid.unsqueeze(1), outputs, 0), torch.where(valid, y, 0)
    terms = cross_entropy(outputs, y, reduction="none")
    return mean_of_valid(terms.reshape(len(y), -1), None if valid is None else valid.reshape(len(y), -1))[0]


def _binary_cross_entropy(
    outputs: Tensor, y: Tensor, mask: Tensor | None, scale: None, *, positive_weight: float = 1.0
) -> Tensor:
    outputs, y, valid = matched(outputs, y, mask)
    weight = None if positive_weight == 1 else outputs.new_tensor(positive_weight)
    terms = binary_cross_entropy_with_logits(outputs, y, reduction="none", pos_weight=weight)
    return mean_of_valid(terms, valid)[0]


def _mean_squared_error(
    outputs: Tensor, y: Tensor, mask: Tensor | None, scale: Scale | None, *, clip: float | None = None
) -> Tensor:
    outputs, y, valid = matched(outputs, y, mask, scale)
    return mean_of_valid((outputs - y.clamp(max=clip) if clip is not None else outputs - y) ** 2, valid)[0]


def _root_mean_squared_error(outputs: Tensor, y: Tensor, mask: Tensor | None, scale: Scale | None) -> Tensor:
    return rmse(*matched(outputs, y, mask, scale))[0]


def _normalized_root_mean_squared_error(outputs: Tensor, y: Tensor, mask: Tensor | None, scale: Scale | None) -> Tensor:
    return nrmse(*matched(outputs, y, mask, scale))[0]


def _relative_l2(outputs: Tensor, y: Tensor, mask: Tensor | None, scale: Scale | None) -> Tensor:
    return relative_l2(*matched(outputs, y, mask, scale))[0]


LOSSES: Mapping[str, LossFunction] = {
    "cross-entropy": _cross_entropy,
    "binary cross-entropy": _binary_cross_entropy,
    "mean squared error": _mean_squared_error,
    "relative L2": _relative_l2,
    "nRMSE": _normalized_root_mean_squared_error,
    "RMSE": _root_mean_squared_error,
}
