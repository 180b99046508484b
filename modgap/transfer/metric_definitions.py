"""Definitions of the metrics: the statistics that are collected from a batch, and the value computed from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError
from modgap.transfer.auroc import collect_scores, ranking_error
from modgap.transfer.numerics import Scale, align_shapes, mean_of_valid, nrmse, relative_l2, rmse, valid_class_positions

__all__ = ["METRICS", "SCALED_METRICS", "MetricDefinition", "State"]

State = Mapping[str, np.ndarray]
"""Collected statistics, arrays by name."""
WeightedValue = Callable[[np.ndarray], tuple[float, int]]
"""Function that takes weights (n,) of the samples and returns the value and how many items were left out."""
Collect = Callable[[Tensor, Tensor, Tensor | None], dict[str, np.ndarray]]
"""Function that takes outputs, y and mask of a batch and returns the statistics."""
Errors = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Function from the result of `align_shapes` to values (n,) and where they are defined (n,)."""


@dataclass(frozen=True)
class MetricDefinition:
    """Definition of a metric.

    Attributes:
        unit: Unit of the value. Empty for a ratio.
        collect: Function from outputs, y and mask of a batch to arrays. An array `rows` holds indices of samples in
            the batch.
        prepare: Function from all collected arrays to a function of weights (n,) of the samples, which returns the
            value and how many items were left out.
    """

    unit: str
    collect: Collect
    prepare: Callable[[State], WeightedValue]


def _prepare_mean(state: State) -> WeightedValue:
    """Return the mean over the samples that have a value.

    NaN counts as a value, so that broken outputs make the mean NaN and are not skipped.
    """
    values = np.where(state["defined"], state["values"], 0)
    defined = state["defined"].astype(np.float64)

    def value(weights: np.ndarray) -> tuple[float, int]:
        present = weights > 0
        weights = weights * defined
        total = float(weights.sum())
        left_out = int(((defined == 0) & present).sum())
        if not total:
            return float("nan"), left_out
        return float(weights @ np.where(weights > 0, values, 0)) / total, left_out

    return value


def _per_sample(values: Tensor, defined: Tensor) -> dict[str, np.ndarray]:
    return {"values": values.double().cpu().numpy(), "defined": defined.cpu().numpy()}


def _predicted(outputs: Tensor, y: Tensor, mask: Tensor | None, ignore: int | None) -> tuple[Tensor, Tensor]:
    """Return the class of the largest output (the lowest class in case of ties), and the valid positions."""
    valid = valid_class_positions(outputs, y, mask, ignore)
    return outputs.argmax(1), torch.ones_like(y, dtype=torch.bool) if valid is None else valid


def _zero_one(scale: None, *, ignore: int | None = None) -> MetricDefinition:  # noqa: ARG001
    def collect(outputs: Tensor, y: Tensor, mask: Tensor | None) -> dict[str, np.ndarray]:
        predicted, valid = _predicted(outputs, y, mask, ignore)
        wrong = 100 * (predicted != y).double()
        part = _per_sample(*mean_of_valid(wrong.reshape(len(y), -1), valid.reshape(len(y), -1)))
        if y.ndim > 1:
            return part
        return part | {"labels": y.cpu().numpy(), "predicted": predicted.cpu().numpy()}

    return MetricDefinition("%", collect, _prepare_mean)


def _f1(scale: None, *, ignore: int | None = None) -> MetricDefinition:  # noqa: ARG001
    def collect(outputs: Tensor, y: Tensor, mask: Tensor | None) -> dict[str, np.ndarray]:
        predicted, valid = _predicted(outputs, y, mask, ignore)
        return {
            "labels": y[valid].cpu().numpy(),
            "predicted": predicted[valid].cpu().numpy(),
            "rows": np.nonzero(valid.cpu().numpy())[0],
            "n_classes": np.array(outputs.shape[1]),
        }

    return MetricDefinition("", collect, _prepare_f1)


def _prepare_f1(state: State) -> WeightedValue:
    """Return 1 - the mean of F1 over the classes that are labeled or predicted."""
    n_classes = int(state["n_classes"])
    pairs = state["labels"] * n_classes + state["predicted"]

    def value(weights: np.ndarray) -> tuple[float, int]:
        counts = np.bincount(pairs, weights[state["rows"]], n_classes**2).reshape(n_classes, n_classes)
        sums = counts.sum(0) + counts.sum(1)
        occurs = sums > 0
        left_out = n_classes - int(occurs.sum())
        if not occurs.any():
            return float("nan"), left_out
        scores = 2 * np.diagonal(counts)[occurs] / sums[occurs]
        return 1 - float(scores.mean()), left_out

    return value


def _auroc(scale: None, *, threshold: float | None = None) -> MetricDefinition:  # noqa: ARG001
    def collect(outputs: Tensor, y: Tensor, mask: Tensor | None) -> dict[str, np.ndarray]:
        return collect_scores(outputs if threshold is None else (outputs > threshold).float(), y, mask)

    return MetricDefinition("", collect, lambda state: ranking_error(state, "AUROC"))


def _mean_average_precision(scale: None) -> MetricDefinition:  # noqa: ARG001
    return MetricDefinition("", collect_scores, lambda state: ranking_error(state, "mAP"))


def _mae8(scale: Scale | None, *, distance: float = 8.0, separation: int = 24) -> MetricDefinition:
    def collect(outputs: Tensor, y: Tensor, mask: Tensor | None) -> dict[str, np.ndarray]:
        outputs, y, valid = _square_maps(outputs, y, mask, scale)
        size = y.shape[-1]
        pairs = torch.ones(size, size, dtype=torch.bool, device=y.device).triu(separation) & (y <= distance)
        errors = ((outputs + outputs.transpose(-1, -2)) / 2 - y).abs()
        return _per_sample(*mean_of_valid(torch.where(pairs, errors, 0), pairs if valid is None else pairs & valid))

    return MetricDefinition("angstrom", collect, _prepare_mean)


def _square_maps(
    outputs: Tensor, y: Tensor, mask: Tensor | None, scale: Scale | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return outputs, y and mask as distance maps (n, L, L), in the original unit."""
    shape = y.shape
    if len(shape) not in (3, 4) or shape[-1] != shape[-2] or (len(shape) == 4 and shape[1] != 1):
        raise InputError(f"y has shape {tuple(shape)}. Expected distances (n, 1, L, L) or (n, L, L).")
    outputs, y, valid = align_shapes(outputs.double(), y, mask, scale)
    square = (len(y), shape[-1], shape[-1])
    return outputs.reshape(square), y.reshape(square), None if valid is None else valid.reshape(square)


def _mean_error(errors: Errors) -> Callable[[Scale | None], MetricDefinition]:
    """Return the definition of a metric that is the mean over samples of an error."""

    def make(scale: Scale | None) -> MetricDefinition:
        def collect(outputs: Tensor, y: Tensor, mask: Tensor | None) -> dict[str, np.ndarray]:
            return _per_sample(*errors(*align_shapes(outputs.double(), y, mask, scale)))

        return MetricDefinition("", collect, _prepare_mean)

    return make


def _rmse(scale: Scale | None) -> MetricDefinition:
    """Return the RMSE: of each sample for series and fields, over all samples for numbers."""

    def collect(outputs: Tensor, y: Tensor, mask: Tensor | None) -> dict[str, np.ndarray]:
        is_numbers = y.ndim == 2 or y.shape[2:].numel() == 1
        outputs, y, valid = align_shapes(outputs.double(), y, mask, scale)
        if not is_numbers:
            return _per_sample(*rmse(outputs, y, valid))
        defined = torch.ones_like(y, dtype=torch.bool) if valid is None else valid
        squares = torch.where(defined, (outputs - y) ** 2, 0)
        return {"squares": squares.flatten(1).cpu().numpy(), "valid": defined.flatten(1).cpu().numpy()}

    return MetricDefinition("", collect, _prepare_rmse)


def _prepare_rmse(state: State) -> WeightedValue:
    if "squares" not in state:
        return _prepare_mean(state)
    squares, valid = state["squares"], state["valid"].astype(np.float64)

    def value(weights: np.ndarray) -> tuple[float, int]:
        totals = weights @ valid
        present = totals > 0
        left_out = int(((valid.sum(axis=1) == 0) & (weights > 0)).sum())
        if not present.any():
            return float("nan"), left_out
        used = np.where(valid > 0, squares, 0)
        return float(np.sqrt((weights @ used)[present] / totals[present]).mean()), left_out

    return value


METRICS: Mapping[str, Callable[..., MetricDefinition]] = {
    "0-1 error %": _zero_one,
    "1 - F1": _f1,
    "1 - AUROC": _auroc,
    "1 - mAP": _mean_average_precision,
    "MAE8": _mae8,
    "RMSE": _rmse,
    "nRMSE": _mean_error(nrmse),
    "relative L2": _mean_error(relative_l2),
}
SCALED_METRICS = ("MAE8", "RMSE", "nRMSE", "relative L2")
"""Metrics of real values, which take the scale of standardized outputs."""
