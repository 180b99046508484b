"""What each metric keeps of a batch, and what becomes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError
from modgap.transfer.auroc import ranked, scores_of
from modgap.transfer.numerics import Scale, matched, mean_of_valid, nrmse, relative_l2, rmse, valid_class_positions

__all__ = ["METRICS", "VALUED", "Measure", "State"]

State = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Measure:
    """What makes a metric: what is kept of a batch, and what becomes of it under weights of the samples.

    Attributes:
        unit: Of the value, in words.
        collect: Outputs, y and mask to arrays; `rows` among them are numbers of samples within the batch.
        prepare: All that was kept to a function of weights (n,), which gives the value and how much was left out.
    """

    unit: str
    collect: Callable[[Tensor, Tensor, Tensor | None], dict[str, np.ndarray]]
    prepare: Callable[[State], Callable[[np.ndarray], tuple[float, int]]]


def _mean(state: State) -> Callable[[np.ndarray], tuple[float, int]]:
    """Of the samples that have a value; a value of NaN is one, so that broken outputs are not passed over."""
    values, known = np.where(state["known"], state["values"], 0), state["known"].astype(np.float64)

    def value(weights: np.ndarray) -> tuple[float, int]:
        present = weights > 0
        weights = weights * known
        total = float(weights.sum())
        left_out = int(((known == 0) & present).sum())
        return (float(weights @ np.where(weights > 0, values, 0)) / total if total else float("nan")), left_out

    return value


def _kept(values: Tensor, known: Tensor) -> dict[str, np.ndarray]:
    return {"values": values.double().cpu().numpy(), "known": known.cpu().numpy()}


def _predicted(outputs: Tensor, y: Tensor, mask: Tensor | None, ignore: int | None) -> tuple[Tensor, Tensor]:
    """The class of the largest output, ties to the lowest, and which positions count."""
    valid = valid_class_positions(outputs, y, mask, ignore)
    return outputs.argmax(1), torch.ones_like(y, dtype=torch.bool) if valid is None else valid


def _zero_one(scale: None, *, ignore: int | None = None) -> Measure:
    def collect(outputs, y, mask):
        predicted, valid = _predicted(outputs, y, mask, ignore)
        wrong = 100 * (predicted != y).double()
        return _kept(*mean_of_valid(wrong.reshape(len(y), -1), valid.reshape(len(y), -1)))

    return Measure("%", collect, _mean)


def _f1(scale: None, *, ignore: int | None = None) -> Measure:
    def collect(outputs, y, mask):
        predicted, valid = _predicted(outputs, y, mask, ignore)
        return {
            "labels": y[valid].cpu().numpy(),
            "predicted": predicted[valid].cpu().numpy(),
            "rows": np.nonzero(valid.cpu().numpy())[0],
            "n_classes": np.array(outputs.shape[1]),
        }

    return Measure("", collect, _by_f1)


def _by_f1(state: State) -> Callable[[np.ndarray], tuple[float, int]]:
    n_classes = int(state["n_classes"])
    pairs = state["labels"] * n_classes + state["predicted"]

    def value(weights: np.ndarray) -> tuple[float, int]:
        counts = np.bincount(pairs, weights[state["rows"]], n_classes**2).reshape(n_classes, n_classes)
        sums = counts.sum(0) + counts.sum(1)
        known = sums > 0
        scores = 2 * np.diagonal(counts)[known] / sums[known]
        return (1 - float(scores.mean()) if known.any() else float("nan")), n_classes - int(known.sum())

    return value


def _auroc(scale: None) -> Measure:
    return Measure("", scores_of, lambda state: ranked(state, "AUROC"))


def _mean_average_precision(scale: None) -> Measure:
    return Measure("", scores_of, lambda state: ranked(state, "mAP"))


def _mae8(scale: Scale | None, *, distance: float = 8.0, separation: int = 24) -> Measure:
    def collect(outputs, y, mask):
        outputs, y, valid = _square(outputs, y, mask, scale)
        size = y.shape[-1]
        pairs = torch.ones(size, size, dtype=torch.bool, device=y.device).triu(separation) & (y <= distance)
        errors = ((outputs + outputs.transpose(-1, -2)) / 2 - y).abs()
        return _kept(*mean_of_valid(torch.where(pairs, errors, 0), pairs if valid is None else pairs & valid))

    return Measure("angstrom", collect, _mean)


def _square(
    outputs: Tensor, y: Tensor, mask: Tensor | None, scale: Scale | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    shape = y.shape
    if len(shape) not in (3, 4) or shape[-1] != shape[-2] or (len(shape) == 4 and shape[1] != 1):
        raise InputError(f"expected distances (n, 1, L, L) or (n, L, L), got {tuple(shape)}")
    outputs, y, valid = matched(outputs.double(), y, mask, scale)
    square = (len(y), shape[-1], shape[-1])
    return outputs.reshape(square), y.reshape(square), None if valid is None else valid.reshape(square)


def _of_values(errors: Callable) -> Callable[[Scale | None], Measure]:
    def make(scale: Scale | None) -> Measure:
        def collect(outputs, y, mask):
            return _kept(*errors(*matched(outputs.double(), y, mask, scale)))

        return Measure("", collect, _mean)

    return make


METRICS: Mapping[str, Callable[..., Measure]] = {
    "0-1 error %": _zero_one,
    "1 - F1": _f1,
    "1 - AUROC": _auroc,
    "1 - mAP": _mean_average_precision,
    "MAE8": _mae8,
    "RMSE": _of_values(rmse),
    "nRMSE": _of_values(nrmse),
    "relative L2": _of_values(relative_l2),
}
VALUED = ("MAE8", "RMSE", "nRMSE", "relative L2")
