"""Metrics of the benchmarks, all lower is better: collected by batch, merged between processes, computed at the end."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from modgap.errors import InputError, UsageError
from modgap.targets import Manifest
from modgap.transfer.metric_definitions import METRICS, SCALED_METRICS, MetricDefinition, State
from modgap.transfer.named_functions import choose_function
from modgap.transfer.numerics import Scale

__all__ = ["Metric", "metric", "task_metric"]

DEFAULT_METRICS = {"classification": "0-1 error %", "multi-label": "1 - mAP", "regression": "nRMSE"}
CONSTANTS = ("n_classes",)
"""Entries of a state that are the same in all batches."""


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

    def merge(self, other: "Metric | State") -> None:
        """Append the samples of another metric, or of its state.

        Raises:
            InputError: When it is the state of another metric.
        """
        state = dict(other.state() if isinstance(other, Metric) else other)
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
        """Value of each sample (n,), NaN where it has none. None if the metric is not a mean over samples."""
        state = self.state()
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

    def compute(self, rows: ArrayLike | None = None) -> float:
        """Compute the value. It is NaN if no sample or class is left to compute it from.

        Args:
            rows: Indices of the samples to use, in any order; a repeated index counts repeatedly. None for all samples.

        Raises:
            InputError: When there are no samples, or an index is out of range.
        """
        return self._compute(rows)[0]

    def left_out(self, rows: ArrayLike | None = None) -> int:
        """Return how many items the mean leaves out: classes that do not occur, or samples without a value."""
        return self._compute(rows)[1]

    def weighted(self, weights: np.ndarray) -> float:
        """Compute the value with weights (n,), 0 or more, of the samples."""
        return self._compute_weighted(np.asarray(weights, np.float64))[0]

    def _compute(self, rows: ArrayLike | None) -> tuple[float, int]:
        if not self._size:
            raise InputError(f"The metric {self.name} has no samples. Add some with update.")
        if rows is None:
            return self._compute_weighted(np.ones(self._size))
        rows = np.asarray(rows, np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < self._size:
            raise InputError(f"The rows range from {rows.min()} to {rows.max()}. Expected 0 to {self._size - 1}.")
        return self._compute_weighted(np.bincount(rows, minlength=self._size).astype(np.float64))

    def _compute_weighted(self, weights: np.ndarray) -> tuple[float, int]:
        if self._prepared is None:
            self._prepared = self._definition.prepare(self.state())
        return self._prepared(weights)


def metric(name: str, scale: Scale | None = None, **options: Any) -> Metric:
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
            `modgap.transfer.losses.loss`. The metric is then in the original unit. Only for metrics of real values.
        **options: Options of the metric in the table.

    Raises:
        UsageError: When there is no such metric or option, or the metric takes no scale.
    """
    make = choose_function("metric", METRICS, name, options)
    if scale is not None and name not in SCALED_METRICS:
        raise UsageError(f"The metric {name} is for classes, which have no scale. Leave the scale out.")
    return Metric(name, make(scale))


def task_metric(manifest: Manifest, scale: Scale | None = None, protocol: str = "validation") -> Metric:
    """Create the metric of a target: the one in its manifest, or the default of its task.

    The defaults are 0-1 error % for classification, 1 - mAP for multi-label and nRMSE for regression.

    Args:
        manifest: Manifest of the target.
        scale: Mean and standard deviation as for `metric`.
        protocol: `orca` for the metric of ORCA's code, where the manifest has one of its own.

    Raises:
        UsageError: When the manifest's options do not fit its metric.
    """
    choice = manifest.metric
    if protocol == "orca" and manifest.metric_orca is not None:
        choice = manifest.metric_orca
    if choice is None:
        return metric(DEFAULT_METRICS[manifest.task], scale)
    return metric(choice.name, scale, **choice.options)


def _as_tensor(values: Tensor | ArrayLike) -> Tensor:
    return values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
