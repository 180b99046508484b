"""Training losses: one value for each sample, twice differentiable in the outputs."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from modgap.errors import InputError, UsageError
from modgap.targets import Manifest
from modgap.transfer.numerics import (
    Scale,
    align_shapes,
    choose_function,
    mean_of_valid,
    nrmse,
    relative_l2,
    rmse,
    to_single_precision,
    valid_class_positions,
)

__all__ = ["LOSSES", "LossFunction", "loss", "task_loss"]

LossFunction = Callable[..., Tensor]
"""Function (outputs, y, mask=None) that returns one value for each sample, (n,)."""

DEFAULT_LOSSES = {
    "classification": "cross-entropy",
    "multi-label": "binary cross-entropy",
    "regression": "mean squared error",
}


def loss(name: str, scale: Scale | None = None, *, masked: bool = False, **options: Any) -> LossFunction:
    """Return the loss of a name: a function (outputs, y, mask=None) of a batch with one value for each sample.

    The value of a sample is the mean over its valid positions. Positions where the mask is 0 are not valid, and
    outputs and y have no influence there, even if they are NaN. A sample without valid positions has value 0 and
    gradient 0. Outputs in half precision are converted to float32; float64 stays. All losses are 0 or more, lower is
    better, and twice differentiable in the outputs, also where outputs and y are equal.

    | name | outputs | y | options |
    |---|---|---|---|
    | cross-entropy | logits (n, K, ...) | classes (n, ...) | ignore: a class whose positions are not valid |
    | binary cross-entropy | logits (n, ...) | 0/1 (n, ...) | positive_weight: factor of the terms with y = 1 |
    | mean squared error | values (n, ...) | values (n, ...) | clip: upper limit to which y is clipped |
    | relative L2 | values (n, ...) | values (n, ...) | |
    | nRMSE, RMSE | values (n, channels, ...) | the same | |

    `relative L2` is the norm of the error divided by the norm of y, over all channels together. `nRMSE` is the same
    ratio for each channel, averaged over channels (PDEBench; Takamoto et al. 2022); both agree for one channel. A
    sample (or channel) with y = 0 everywhere has value 0. `RMSE` is the root mean squared error of each channel,
    averaged over channels.

    Args:
        name: Name of a loss in the table.
        scale: Mean and standard deviation of y if outputs and y are both standardized: each a number, one value for
            each channel, or of one sample's shape as in `Table.target_scale`. The loss (and `clip`) is then in the
            original unit, value * sd + mean. None if outputs and y are in the original unit. The cross-entropies take
            no scale.
        masked: True if the function shall raise an error when it is called without a mask.
        **options: Options of the loss in the table.

    Returns:
        The function. Its mask is 0/1 of y's shape, or of shape (n,) to mask complete samples. It raises InputError when
        shapes do not fit.

    Raises:
        UsageError: When there is no such loss or option, the value of an option is out of range, or the loss takes no
            scale.

    Example:
        >>> outputs, y = torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]])
        >>> loss("mean squared error")(outputs, y).tolist()
        [2.0, 2.0]
        >>> loss("mean squared error")(outputs, y, torch.tensor([[1, 0], [0, 1]])).tolist()
        [0.0, 4.0]
    """
    function = choose_function("loss", LOSSES, name, options)
    if scale is not None and "cross-entropy" in name:
        raise UsageError(f"The loss {name} is for classes, which have no scale. Leave the scale out.")
    if not options.get("positive_weight", 1) > 0:
        raise UsageError(f"The option positive_weight is {options['positive_weight']}, but it must be more than 0.")
    return functools.partial(_values, function, scale, masked)


def task_loss(manifest: Manifest, scale: Scale | None = None) -> LossFunction:
    """Return the loss of a target: the one in its manifest, or the default of its task.

    The defaults are cross-entropy for classification, binary cross-entropy for multi-label and mean squared error for
    regression.

    Args:
        manifest: Manifest of the target.
        scale: Mean and standard deviation as for `loss`. Pass the table's `target_scale` for a loss in the original
            unit.

    Raises:
        UsageError: When the manifest's options do not fit its loss.
    """
    choice = manifest.loss
    if choice is None:
        return loss(DEFAULT_LOSSES[manifest.task], scale)
    return loss(choice.name, scale, **choice.options)


def _values(
    function: LossFunction, scale: Scale | None, masked: bool, outputs: Tensor, y: Tensor, mask: Tensor | None = None
) -> Tensor:
    if masked and mask is None:
        raise InputError("This loss needs a mask of the valid positions, but none was passed.")
    return function(outputs, y, mask, scale)


def _cross_entropy(
    outputs: Tensor,
    y: Tensor,
    mask: Tensor | None,
    _scale: None,
    *,
    ignore: int | None = None,
) -> Tensor:
    valid = valid_class_positions(outputs, y, mask, ignore)
    outputs = to_single_precision(outputs)
    y = y.long()
    if valid is not None:
        outputs = torch.where(valid.unsqueeze(1), outputs, 0)
        y = torch.where(valid, y, 0)
    terms = cross_entropy(outputs, y, reduction="none")
    return mean_of_valid(terms.reshape(len(y), -1), None if valid is None else valid.reshape(len(y), -1))[0]


def _binary_cross_entropy(
    outputs: Tensor,
    y: Tensor,
    mask: Tensor | None,
    _scale: None,
    *,
    positive_weight: float = 1.0,
) -> Tensor:
    outputs, y, valid = align_shapes(outputs, y, mask)
    weight = None if positive_weight == 1 else outputs.new_tensor(positive_weight)
    terms = binary_cross_entropy_with_logits(outputs, y, reduction="none", pos_weight=weight)
    return mean_of_valid(terms, valid)[0]


def _mean_squared_error(
    outputs: Tensor, y: Tensor, mask: Tensor | None, scale: Scale | None, *, clip: float | None = None
) -> Tensor:
    outputs, y, valid = align_shapes(outputs, y, mask, scale)
    return mean_of_valid((outputs - y.clamp(max=clip) if clip is not None else outputs - y) ** 2, valid)[0]


def _mean_error(errors: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]) -> LossFunction:
    """Return the loss that is an error of each sample over its valid positions."""

    def values(outputs: Tensor, y: Tensor, mask: Tensor | None, scale: Scale | None) -> Tensor:
        return errors(*align_shapes(outputs, y, mask, scale))[0]

    return values


LOSSES: Mapping[str, LossFunction] = {
    "cross-entropy": _cross_entropy,
    "binary cross-entropy": _binary_cross_entropy,
    "mean squared error": _mean_squared_error,
    "relative L2": _mean_error(relative_l2),
    "nRMSE": _mean_error(nrmse),
    "RMSE": _mean_error(rmse),
}
