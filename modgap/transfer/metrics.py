"""Metrics of the benchmarks, all lower is better: sums by batch, merged between processes, computed at the end."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from modgap.errors import InputError, UsageError
from modgap.targets import Manifest
from modgap.transfer.metric_definitions import METRICS, VALUED, Measure, State
from modgap.transfer.named_functions import choose_function
from modgap.transfer.numerics import Scale

__all__ = ["Metric", "metric", "task_metric"]

DEFAULTS = {"classification": "0-1 error %", "multi-label": "1 - mAP", "regression": "nRMSE"}
ONE_FOR_ALL = ("n_classes",)


class Metric:
    """A metric under way.

    Example:
        >>> errors = metric("0-1 error %")
        >>> errors.update(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([0, 1]))
        >>> errors.update(np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([1, 1]))
        >>> errors.compute(), errors.per_sample.tolist(), errors.unit
        (25.0, [0.0, 0.0, 100.0, 0.0], '%')
    """

    def __init__(self, name: str, measure: Measure) -> None:
        """One without samples; `metric` makes it by name."""
        self.name = name
        self._measure = measure
        self._parts: list[dict[str, np.ndarray]] = []
        self._size = 0
        self._prepared: Callable[[np.ndarray], tuple[float, int]] | None = None

    def __len__(self) -> int:
        """Samples so far."""
        return self._size

    @property
    def unit(self) -> str:
        """Unit of the value, in words; empty for a ratio, and for RMSE, which is in y's."""
        return self._measure.unit

    def update(
        self, outputs: Tensor | ArrayLike, y: Tensor | ArrayLike, mask: Tensor | ArrayLike | None = None
    ) -> None:
        """Take a batch, of tensors or arrays; nothing of them is kept on their device.

        Args:
            outputs: What the network gives, (n, ...).
            y: What is right.
            mask: 0/1 of y's shape, or (n,) for whole samples; None where all positions count.

        Raises:
            InputError: When shapes do not fit.
        """
        outputs, y = _tensor(outputs), _tensor(y)
        part = self._measure.collect(outputs, y, None if mask is None else _tensor(mask))
        self._take(part, len(outputs))

    def merge(self, other: "Metric | State") -> None:
        """Take over what another metric, or its state, has; its samples come after those that are here.

        Raises:
            InputError: When it is of another metric.
        """
        state = dict(other.state() if isinstance(other, Metric) else other)
        size = int(state.pop("samples"))
        if not size:
            return
        if self._parts and set(state) != set(self._parts[0]):
            raise InputError(f"expected the state of a metric {self.name} to merge, got {', '.join(state)}")
        self._take(state, size)

    def _take(self, part: dict[str, np.ndarray], size: int) -> None:
        if self._parts and any(part[key] != self._parts[0][key] for key in ONE_FOR_ALL if key in part):
            raise InputError(f"expected {self._parts[0]['n_classes']} classes, as before, got {part['n_classes']}")
        if "rows" in part:
            part["rows"] = part["rows"] + self._size
        self._parts.append(part)
        self._size += size
        self._prepared = None

    def state(self) -> dict[str, np.ndarray]:
        """All that was kept, as arrays that processes can gather and merge; `samples` () says of how many."""
        if len(self._parts) > 1:
            first = self._parts[0]
            self._parts = [
                {
                    key: first[key] if key in ONE_FOR_ALL else np.concatenate([part[key] for part in self._parts])
                    for key in first
                }
            ]
        return {**(self._parts[0] if self._parts else {}), "samples": np.array(self._size)}

    @property
    def per_sample(self) -> np.ndarray | None:
        """Each sample's value (n,), NaN where it has none, if the metric is a mean over samples; None if not."""
        state = self.state()
        return np.where(state["known"], state["values"], np.nan) if "values" in state else None

    def compute(self, rows: ArrayLike | None = None) -> float:
        """The value; NaN where nothing is left to take it of.

        Args:
            rows: Numbers of the samples that it is taken of, in any order; one that is there twice counts twice.

        Raises:
            InputError: When there are no samples, or no sample of such a number.
        """
        return self._computed(rows)[0]

    def left_out(self, rows: ArrayLike | None = None) -> int:
        """How many were left out of the mean: classes that do not occur, or samples without a value of their own."""
        return self._computed(rows)[1]

    def weighted(self, weights: np.ndarray) -> float:
        """The value with weights (n,), 0 or more, of the samples."""
        return self._weighted(np.asarray(weights, np.float64))[0]

    def _computed(self, rows: ArrayLike | None) -> tuple[float, int]:
        if not self._size:
            raise InputError(f"expected samples before {self.name} is computed, got none")
        if rows is None:
            return self._weighted(np.ones(self._size))
        rows = np.asarray(rows, np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < self._size:
            raise InputError(f"expected rows from 0 to {self._size - 1}, got {rows.min()} to {rows.max()}")
        return self._weighted(np.bincount(rows, minlength=self._size).astype(np.float64))

    def _weighted(self, weights: np.ndarray) -> tuple[float, int]:
        if self._prepared is None:
            self._prepared = self._measure.prepare(self.state())
        return self._prepared(weights)


def metric(name: str, scale: Scale | None = None, **options: Any) -> Metric:
    """A fresh metric by name. Lower is better in all of them.

    | name | outputs, y | value | options |
    |---|---|---|---|
    | 0-1 error % | logits (n, K, ...), classes (n, ...) | positions got wrong, mean over samples | ignore |
    | 1 - F1 | the same | 1 - mean over classes of F1 | ignore |
    | 1 - AUROC | scores (n, K, ...), 0/1 of that shape, or classes (n, ...) | 1 - mean over classes | |
    | 1 - mAP | the same | 1 - mean over classes of average precision | |
    | MAE8 | distances (n, 1, L, L), the same | mean absolute error, mean over samples | distance, separation |
    | nRMSE, RMSE, relative L2 | values (n, ...), the same | of each sample, mean over samples | |

    A class of `1 - F1` that is neither labeled nor predicted is left out, as in scikit-learn. A class of `1 - mAP`
    without a positive entry, and one of `1 - AUROC` without both kinds, is left out; of dense outputs all positions
    of all samples are ranked together. MAE8 averages the prediction of (i, j) and (j, i) and takes the pairs with
    j - i of at least `separation` (24) whose true distance is at most `distance` (8), as PDNET does (Adhikari 2020);
    a sample without such a pair is left out. nRMSE and RMSE are PDEBench's (Takamoto et al. 2022): of each sample and
    channel, then the mean; nRMSE and relative L2 leave out samples whose y is 0 everywhere. `left_out` counts them.

    Args:
        name: One of the above.
        scale: Mean and sd of y where outputs and y are both standardized, as `modgap.transfer.losses.loss` takes
            them: the metric is then in the original unit. For metrics of values only.
        **options: As above.

    Raises:
        UsageError: When there is no such metric or option, or the metric takes no scale.
    """
    make = choose_function("metric", METRICS, name, options)
    if scale is not None and name not in VALUED:
        raise UsageError(f"metric {name} is of classes, which have no scale; leave it out")
    return Metric(name, make(scale))


def task_metric(manifest: Manifest, scale: Scale | None = None) -> Metric:
    """A fresh metric of a task: its manifest's, or by its type.

    0-1 error % for classification, 1 - mAP for multi-label, nRMSE for regression.

    Args:
        manifest: The target's.
        scale: As `metric` takes it.

    Raises:
        UsageError: When the manifest's options do not fit its metric.
    """
    given = manifest.metric
    return metric(DEFAULTS[manifest.task], scale) if given is None else metric(given.name, scale, **given.options)


def _tensor(values: Tensor | ArrayLike) -> Tensor:
    return values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
