"""Metrics of the benchmarks, all lower is better: collected by batch, merged between processes, computed at the end."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import one_hot

from modgap.errors import InputError, UsageError
from modgap.targets import Manifest
from modgap.targets.output import Output
from modgap.training.losses import (
    Scale,
    align_shapes,
    choose_function,
    mean_of_valid,
    nrmse,
    relative_l2,
    rmse,
    valid_class_positions,
    valid_positions,
)

State = Mapping[str, np.ndarray]
"""Collected statistics, arrays by name."""
WeightedValue = Callable[[np.ndarray], tuple[float, int]]
"""Function that takes weights (n,) of the samples and returns the value and how many items were left out."""
Collect = Callable[[Tensor, Tensor, Tensor | None], dict[str, np.ndarray]]
"""Function that takes outputs, y and mask of a batch and returns the statistics."""
Errors = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Function from the result of `align_shapes` to values (n,) and where they are defined (n,)."""
DEFAULT_METRICS = {"classification": "0-1 error %", "multi-label": "1 - mAP", "regression": "nRMSE"}
NUMBERS = "RMSE"
"""Default metric of values that are one number or several for each sample, rather than a series or a field."""
CONSTANTS = ("n_classes",)
"""Entries of a state that are the same in all batches."""


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


class Metric:
    """Metric that collects batches of samples and is computed at the end.

    Example:
        >>> errors = metric("0-1 error %")
        >>> errors.update(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([0, 1]))
        >>> errors.update(np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([1, 1]))
        >>> errors.compute(), errors.per_sample.tolist(), errors.unit
        (25.0, [0.0, 0.0, 100.0, 0.0], '%')
    """

    def __init__(self, name: str, definition: MetricDefinition) -> None:
        """Create a metric without samples. Use `metric` to create one by name."""
        self.name = name
        self._definition = definition
        self._parts: list[dict[str, np.ndarray]] = []
        self._size = 0
        self._prepared: Callable[[np.ndarray], tuple[float, int]] | None = None

    def __len__(self) -> int:
        """Return the number of samples so far."""
        return self._size

    @property
    def unit(self) -> str:
        """Unit of the value. Empty for a ratio, and for RMSE, whose unit is that of y."""
        return self._definition.unit

    def update(
        self, outputs: Tensor | ArrayLike, y: Tensor | ArrayLike, mask: Tensor | ArrayLike | None = None
    ) -> None:
        """Add a batch of tensors or arrays. The collected statistics are kept on the CPU.

        Args:
            outputs: Outputs of the network, (n, ...).
            y: True classes or values, as the metric takes them.
            mask: 0/1 of y's shape, or of shape (n,) to mask complete samples. None if all positions are valid.

        Raises:
            InputError: When shapes do not fit.
        """
        outputs = _as_tensor(outputs)
        part = self._definition.collect(outputs, _as_tensor(y), None if mask is None else _as_tensor(mask))
        self._append(part, len(outputs))

    def merge(self, other: State) -> None:
        """Append the samples of the state of another metric.

        Raises:
            InputError: When it is the state of another metric.
        """
        state = dict(other)
        size = int(state.pop("samples"))
        if not size:
            return
        if self._parts and set(state) != set(self._parts[0]):
            raise InputError(
                f"The state with {', '.join(state)} cannot be merged. Expected the state of a metric {self.name}."
            )
        self._append(state, size)

    def _append(self, part: dict[str, np.ndarray], size: int) -> None:
        if self._parts and any(part[key] != self._parts[0][key] for key in CONSTANTS if key in part):
            raise InputError(
                f"The batch has {part['n_classes']} classes, but the earlier ones have {self._parts[0]['n_classes']}."
            )
        if "rows" in part:
            part["rows"] = part["rows"] + self._size
        self._parts.append(part)
        self._size += size
        self._prepared = None

    def state(self) -> dict[str, np.ndarray]:
        """Return everything collected, as arrays that processes can gather and merge; `samples` is their number, ()."""
        if len(self._parts) > 1:
            first = self._parts[0]
            self._parts = [
                {
                    key: first[key] if key in CONSTANTS else np.concatenate([part[key] for part in self._parts])
                    for key in first
                }
            ]
        return {**(self._parts[0] if self._parts else {}), "samples": np.array(self._size)}

    @property
    def per_sample(self) -> np.ndarray | None:
        """Value of each sample (n,), NaN where it has none; their mean is that of the metric.

        The RMSE of numbers is no mean over samples. There, it is that of all samples plus the influence of this one, to
        first order (the infinitesimal jackknife; Efron, SIAM 1982). None for other metrics that are no such mean.
        """
        state = self.state()
        if "squares" in state:
            return _rmse_by_sample(state["squares"], state["valid"])
        return np.where(state["defined"], state["values"], np.nan) if "values" in state else None

    def confusion(self, n_classes: int) -> np.ndarray | None:
        """Return the number of samples by class (rows) and prediction (columns), shape (K, K); None for other metrics.

        Args:
            n_classes: Number K of classes.
        """
        state = self.state()
        if "predicted" not in state or "values" not in state:
            return None
        pairs = state["labels"] * n_classes + state["predicted"]
        return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)

    def compute(self) -> float:
        """Compute the value. It is NaN if no sample or class is left to compute it from.

        Raises:
            InputError: When there are no samples.
        """
        return self.weighted(np.ones(self._size))[0]

    def left_out(self) -> int:
        """Return how many items the mean leaves out: classes that do not occur, or samples without a value."""
        return self.weighted(np.ones(self._size))[1]

    def permuted(self, order: np.ndarray) -> "Metric | None":
        """Return the metric of the same outputs with y of the samples in another order; None if it keeps errors alone.

        It keeps classes or labels if it ranks scores or computes F1, and all samples have one position without a mask.

        Args:
            order: Numbers of the samples, (n,).
        """
        state = self.state()
        name = next((one for one in ("positive", "labels") if one in state and "rows" in state), None)
        width = int(state["n_classes"]) if name == "positive" else 1
        if name is None or not np.array_equal(state["rows"], np.repeat(np.arange(self._size), width)):
            return None
        other = Metric(self.name, self._definition)
        other.merge({**state, name: state[name].reshape(-1, width)[order].ravel()})
        return other

    def weighted(self, weights: np.ndarray) -> tuple[float, int]:
        """Return the value with weights (n,), 0 or more, of the samples, and how many items its mean leaves out."""
        if not self._size:
            raise InputError(f"The metric {self.name} has no samples. Add some with update.")
        if self._prepared is None:
            self._prepared = self._definition.prepare(self.state())
        return self._prepared(weights)


def metric(name: str, scale: Scale | None = None, **options: object) -> Metric:
    """Create a metric by name. Lower is better for all of them.

    | name | outputs, y | value | options |
    |---|---|---|---|
    | 0-1 error % | logits (n, K, ...), classes (n, ...) | error rate over positions, mean over samples | ignore |
    | 1 - F1 | the same | 1 - mean over classes of F1 | ignore |
    | 1 - AUROC | scores (n, K, ...), 0/1 of that shape, or classes (n, ...) | 1 - mean over classes | threshold |
    | 1 - mAP | the same | 1 - mean over classes of average precision | |
    | MAE8 | distances (n, 1, L, L), the same | mean absolute error, mean over samples | distance, separation |
    | nRMSE, RMSE, relative L2 | values (n, ...), the same | error of each sample, mean over samples | |

    A class of `1 - F1` that is neither labeled nor predicted is left out, as in scikit-learn. A class of `1 - mAP`
    without a positive entry, and one of `1 - AUROC` without both positive and negative entries, is left out. For dense
    outputs all positions of all samples are ranked together. MAE8 averages the prediction of (i, j) and (j, i) and uses
    the pairs with j - i of at least `separation` (24) whose true distance is at most `distance` (8), as PDNET does
    (Adhikari 2020); a sample without such a pair is left out. nRMSE and RMSE are those of PDEBench (Takamoto et al.
    2022), computed for each sample and channel and then averaged. The RMSE of numbers (n, K) is the root of the mean
    over the samples, averaged over the K numbers. nRMSE and relative L2 leave out samples whose y is 0 everywhere.
    `1 - AUROC` with a `threshold` ranks only whether a score is above it, as ORCA's code does for cosmic. `left_out`
    counts what is left out.

    Args:
        name: Name of a metric in the table.
        scale: Mean and standard deviation of y if outputs and y are both standardized, as for
            `modgap.training.losses.loss`. The metric is then in the original unit. Only for metrics of real values.
        **options: Options of the metric in the table.

    Raises:
        UsageError: When there is no such metric or option, or the metric takes no scale.
    """
    make = choose_function("metric", METRICS, name, options)
    if scale is not None and name not in SCALED_METRICS:
        raise UsageError(f"The metric {name} is for classes, which have no scale. Leave the scale out.")
    return Metric(name, make(scale))


def task_metric(
    manifest: Manifest, output: Output | None = None, scale: Scale | None = None, protocol: str = "validation"
) -> Metric:
    """Create the metric of a target: the one in its manifest, or the default of its task.

    The defaults are 0-1 error % for classification, 1 - mAP for multi-label, RMSE for numbers and nRMSE for series and
    fields of values. nRMSE divides by the values of each sample, so that for numbers its lowest constant prediction is
    far from their mean, and values near 0 decide it.

    Args:
        manifest: Manifest of the target.
        output: Output of the target's models, which tells numbers from series and fields; None stands for the latter.
        scale: Mean and standard deviation as for `metric`.
        protocol: `orca` for the metric of ORCA's code, where the manifest has one of its own.

    Raises:
        UsageError: When the manifest's options do not fit its metric.
    """
    choice = manifest.metric
    if protocol == "orca" and manifest.metric_orca is not None:
        choice = manifest.metric_orca
    if choice is None:
        has_numbers = output is not None and output.task == "regression" and math.prod(output.shape[1:]) == 1
        return metric(NUMBERS if has_numbers else DEFAULT_METRICS[manifest.task], scale)
    return metric(choice.name, scale, **choice.options)


def _as_tensor(values: Tensor | ArrayLike) -> Tensor:
    return values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))


# Definitions of the metrics


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


def _rmse_by_sample(squares: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the RMSE of numbers plus the influence of each sample, shape (n,); NaN for samples without a value.

    Args:
        squares: Squared errors, (n, K).
        valid: False for those that are left out, (n, K).
    """
    defined = valid.any(axis=1)
    if not defined.any():
        return np.full(len(valid), np.nan)
    squares, valid = np.where(valid, squares, 0)[:, valid.any(axis=0)], valid[:, valid.any(axis=0)]
    means = squares.sum(axis=0) / valid.sum(axis=0)
    if not np.isfinite(means).all():
        return np.full(len(valid), np.nan)
    # A sample counts for a number as often as there are samples for each of its values.
    shares = valid * (defined.sum() / valid.sum(axis=0))
    slopes = np.divide(0.5, np.sqrt(means), out=np.zeros(len(means)), where=means != 0)
    values = (np.sqrt(means) + shares * (squares - means) * slopes).mean(axis=1)
    return np.where(defined, values, np.nan)


def collect_scores(outputs: Tensor, y: Tensor, mask: Tensor | None) -> dict[str, np.ndarray]:
    """Collect all valid scores of a batch, one entry for each.

    Args:
        outputs: Scores (n, K, ...), larger for positive.
        y: 0/1 of the same shape, or classes (n, ...).
        mask: 0/1 of y's shape, or of shape (n,) to mask complete samples. None if all positions are valid.

    Returns:
        `scores` (float32), `positive`, `classes` (index on the axis after the samples) and `rows` (index of the
        sample), all of shape (entries,), and `n_classes`, a scalar.

    Raises:
        InputError: When the shapes do not fit.
    """
    valid = valid_positions(mask, y.shape)
    if y.ndim == outputs.ndim - 1:
        y, valid = _one_hot(outputs, y, valid)
    if outputs.ndim < 2 or outputs.shape != y.shape:
        raise InputError(
            f"y has shape {tuple(y.shape)}. Expected the shape of the scores, {tuple(outputs.shape)}, or classes."
        )
    entries = torch.ones_like(y, dtype=torch.bool) if valid is None else valid
    rows, classes = np.nonzero(entries.cpu().numpy())[:2]
    return {
        "scores": outputs[entries].float().cpu().numpy(),
        "positive": (y[entries] > 0.5).cpu().numpy(),
        "classes": classes.astype(np.int32),
        "rows": rows,
        "n_classes": np.array(outputs.shape[1]),
    }


def _one_hot(outputs: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the class of each position as 0/1 for each class. With one output y is 0/1 already."""
    n_classes = outputs.shape[1]
    if n_classes > 1:
        if y.is_floating_point():
            raise InputError(f"y is {y.dtype}. Expected classes as integers for {n_classes} scores at each position.")
        valid_classes = y if valid is None else y * valid
        y = one_hot(valid_classes.long(), n_classes).movedim(-1, 1)
    else:
        y = y.unsqueeze(1)
    return y, None if valid is None else valid.unsqueeze(1).expand(y.shape)


def ranking_error(state: Mapping[str, np.ndarray], kind: str) -> Callable[[np.ndarray], tuple[float, int]]:
    """Return 1 - the mean over classes of a ranking metric, as a function of the samples' weights. Sorts only once.

    Args:
        state: Result of `collect_scores`.
        kind: `AUROC`, over classes with both positive and negative entries, or `mAP`, average precision (the sum over
            scores of the precision times the gain in recall), over classes with positive entries.

    Returns:
        A function of weights (n,) that returns the value, NaN if no class is left, and the number of classes that were
        left out.
    """
    order = np.argsort(-state["scores"])
    # NumPy sorts small integers by radix.
    order = order[np.argsort(state["classes"][order].astype(np.uint16), kind="stable")]
    scores = state["scores"][order]
    classes = state["classes"][order]
    rows = state["rows"][order].astype(np.int32)
    positive = state["positive"][order]
    n_classes = int(state["n_classes"])
    starts = np.searchsorted(classes, np.arange(n_classes + 1))
    is_last = np.append((np.diff(scores) != 0) | (np.diff(classes) != 0), True)[: len(scores)]
    has_nan = bool(np.isnan(scores).any())

    def value(weights: np.ndarray) -> tuple[float, int]:
        areas, precisions = np.full((2, n_classes), np.nan)
        accumulate_areas(starts, rows, positive, is_last, weights, areas, precisions)
        values = areas if kind == "AUROC" else precisions
        defined = ~np.isnan(values)
        left_out = n_classes - int(defined.sum())
        if has_nan or left_out == n_classes:
            return float("nan"), left_out
        return 1 - float(values[defined].mean()), left_out

    return value


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
def accumulate_areas(
    starts: np.ndarray,
    rows: np.ndarray,
    positive: np.ndarray,
    is_last: np.ndarray,
    weights: np.ndarray,
    areas: np.ndarray,
    precisions: np.ndarray,
) -> None:
    """Compute the area under the ROC curve and the average precision of each class. Ties are handled together.

    Args:
        starts: Index of the first entry of each class, and the number of entries, shape (K + 1,). The entries of a
            class are sorted from the largest score down.
        rows: Index of the sample of each entry, shape (entries,).
        positive: True for positive entries, shape (entries,).
        is_last: True for the last entry with the same score in its class, shape (entries,).
        weights: Weight of each sample, shape (n,).
        areas: Result, shape (K,). Values are not changed where they are not defined.
        precisions: Result, shape (K,). Values are not changed where they are not defined.
    """
    for k in range(len(starts) - 1):
        above = 0.0
        below = 0.0
        area = 0.0
        precision = 0.0
        tied_above = 0.0
        tied_below = 0.0
        for e in range(starts[k], starts[k + 1]):
            if positive[e]:
                tied_above += weights[rows[e]]
            else:
                tied_below += weights[rows[e]]
            if is_last[e]:
                area += tied_below * (above + tied_above / 2)
                above += tied_above
                below += tied_below
                if tied_above > 0:
                    precision += tied_above * above / (above + below)
                tied_above = 0.0
                tied_below = 0.0
        if above > 0:
            precisions[k] = precision / above
            if below > 0:
                areas[k] = area / (above * below)


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
