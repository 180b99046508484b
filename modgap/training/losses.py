"""Training losses: one value for each sample, twice differentiable in the outputs."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from modgap.errors import InputError, UsageError, unknown_name
from modgap.targets import Manifest

Result = TypeVar("Result")
Scale = tuple[np.ndarray, np.ndarray] | tuple[Tensor, Tensor]
"""Mean and standard deviation: value * sd + mean is in the original unit."""
ROUNDING = 4 * torch.finfo(torch.float32).eps
"""Largest rounding error of standardized values in the original unit, relative to the mean."""


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


def norm_of_all(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm over all tensors together, in their precision."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))
    return norm


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
    if scale is not None:
        # Errors relative to y leave out what is 0, which it no longer is after it was standardized and rounded.
        y = torch.where(y.abs() <= ROUNDING * rescale(torch.zeros_like(y), scale).abs(), 0, y)
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
    kind: str, functions: Mapping[str, Callable[..., Result]], name: str, options: Mapping[str, object]
) -> Callable[..., Result]:
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


LossFunction = Callable[..., Tensor]
"""Function (outputs, y, mask=None) that returns one value for each sample, (n,)."""

DEFAULT_LOSSES = {
    "classification": "cross-entropy",
    "multi-label": "binary cross-entropy",
    "regression": "mean squared error",
}


def loss(name: str, scale: Scale | None = None, *, masked: bool = False, **options: object) -> LossFunction:
    """Return the loss of a name: a function (outputs, y, mask=None) of a batch with one value for each sample.

    The value of a sample is the mean over its valid positions. Positions where the mask is 0 are not valid, and
    outputs and y have no influence there, even if they are NaN. A sample without valid positions has value 0 and
    gradient 0. Outputs in half precision are converted to float32; float64 stays. All losses are 0 or more, lower is
    better, and twice differentiable in the outputs, also where outputs and y are equal.

    | name | outputs | y | options |
    |---|---|---|---|
    | cross-entropy | logits (n, K, ...) | classes (n, ...) | ignore, class_weights, label_smoothing |
    | binary cross-entropy | logits (n, ...) | 0/1 (n, ...) | positive_weight or class_weights |
    | mean squared error | values (n, ...) | values (n, ...) | clip: upper limit to which y is clipped |
    | relative L2 | values (n, ...) | values (n, ...) | |
    | nRMSE, RMSE | values (n, channels, ...) | the same | |

    `relative L2` is the norm of the error divided by the norm of y, over all channels together. `nRMSE` is the same
    ratio for each channel, averaged over channels (PDEBench; Takamoto et al. 2022); both agree for one channel. A
    sample (or channel) with y = 0 everywhere has value 0. `RMSE` is the root mean squared error of each channel,
    averaged over channels.

    `ignore` is a class whose positions are not valid. `class_weights` of cross-entropy are factors of the classes (K,),
    and `label_smoothing` is the share of the label that is spread evenly over all classes, both as in PyTorch's
    `CrossEntropyLoss`. `positive_weight` is a factor of the terms with y = 1. `class_weights` of binary cross-entropy
    are factors (2, K) of the terms with y = 0 and of those with y = 1, for y (n, K).

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
    _check_options(name, options)
    return functools.partial(_values, function, scale, masked)


def _check_options(name: str, options: Mapping[str, object]) -> None:
    weight = options.get("positive_weight", 1)
    if not isinstance(weight, int | float) or not weight > 0:
        raise UsageError(f"The option positive_weight is {weight!r}, but it must be a number of more than 0.")
    smoothing = options.get("label_smoothing", 0)
    if not isinstance(smoothing, int | float) or not 0 <= smoothing < 1:
        raise UsageError(f"The option label_smoothing is {smoothing!r}. Expected a number from 0 to less than 1.")
    if "class_weights" not in options:
        return
    if not isinstance(options["class_weights"], Tensor):
        raise UsageError("The option class_weights must be a tensor. Use the training setting class_weights instead.")
    if "positive_weight" in options:
        raise UsageError(f"The loss {name} takes either positive_weight or class_weights. Leave one of them out.")


def task_loss(manifest: Manifest, scale: Scale | None = None, **options: Any) -> LossFunction:
    """Return the loss of a target: the one in its manifest, or the default of its task.

    The defaults are cross-entropy for classification, binary cross-entropy for multi-label and mean squared error for
    regression.

    Args:
        manifest: Manifest of the target.
        scale: Mean and standard deviation as for `loss`. Pass the table's `target_scale` for a loss in the original
            unit.
        **options: Options of the loss, beside those in the manifest.

    Raises:
        UsageError: When the options do not fit the loss.
    """
    choice = manifest.loss
    if choice is None:
        return loss(DEFAULT_LOSSES[manifest.task], scale, **options)
    return loss(choice.name, scale, **{**choice.options, **options})


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
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    valid = valid_class_positions(outputs, y, mask, ignore)
    outputs = to_single_precision(outputs)
    y = y.long()
    if valid is not None:
        outputs = torch.where(valid.unsqueeze(1), outputs, 0)
        y = torch.where(valid, y, 0)
    weights = None if class_weights is None else class_weights.to(outputs)
    terms = cross_entropy(outputs, y, weights, reduction="none", label_smoothing=label_smoothing)
    return mean_of_valid(terms.reshape(len(y), -1), None if valid is None else valid.reshape(len(y), -1))[0]


def _binary_cross_entropy(
    outputs: Tensor,
    y: Tensor,
    mask: Tensor | None,
    _scale: None,
    *,
    positive_weight: float = 1.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    outputs, y, valid = align_shapes(outputs, y, mask)
    weight = None if positive_weight == 1 else outputs.new_tensor(positive_weight)
    terms = binary_cross_entropy_with_logits(outputs, y, reduction="none", pos_weight=weight)
    if class_weights is not None:
        absent, present = class_weights.to(outputs)
        terms = terms * torch.where(y == 1, present, absent)
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
