"""Evaluation of a model on selected samples of a target by the task's metric."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from modgap.forward.batched_inference import load_ahead
from modgap.models import TargetModel
from modgap.transfer.batches import chunks
from modgap.transfer.input_transform import stack_pieces
from modgap.transfer.metrics import Metric, task_metric
from modgap.transfer.processes import Processes
from modgap.transfer.training_data import TargetData

__all__ = ["Evaluator", "mean_outputs"]

Batch = tuple[np.ndarray, list[np.ndarray], list[int]]
"""Indices of samples, their inputs, and the number of inputs of each sample."""


@dataclass(frozen=True)
class Evaluator:
    """Evaluation of models by the metric of a task.

    Attributes:
        data: Target data.
        device: Device to compute on.
        dtype: Precision of the parameters.
        batch_size: Number of inputs in a forward pass.
        processes: Processes that share the samples.
        autocast: Precision of forward passes. None for the precision of the parameters.
        workers: Number of processes that read the samples; with 0, a thread of this process reads them.
    """

    data: TargetData
    device: torch.device
    dtype: torch.dtype
    batch_size: int
    processes: Processes = field(default_factory=Processes)
    autocast: torch.dtype | None = None
    workers: int = 0

    def metric(self, model: TargetModel, rows: np.ndarray, metric: Metric | None = None) -> Metric:
        """Return the metric with the selected samples of all processes. The model's mode does not change.

        The output for a sample of several pieces is the mean of the outputs for its pieces.

        Args:
            model: Model to evaluate.
            rows: Indices of the samples.
            metric: A metric without samples, with one process; None for the task's own.
        """
        metric = metric or self._new_metric()
        training = model.training
        model.eval()
        try:
            for batch_rows, pieces, counts in self._batches(self.processes.contiguous_share(rows)):
                y, mask = self.data.ground_truth(batch_rows)
                metric.update(self._outputs(model, pieces, counts, batch_rows), y, mask)
        finally:
            model.train(training)
        return self._join_processes(metric)

    def _new_metric(self) -> Metric:
        return task_metric(self.data.target.manifest, self.data.scale, self.data.protocol)

    @property
    def unit(self) -> str:
        """Unit of the metric's value; empty for a ratio."""
        return self._new_metric().unit

    def error(self, model: TargetModel, rows: np.ndarray) -> float:
        """Return the value of the metric on the selected samples."""
        return self.metric(model, rows).compute()

    def _batches(self, rows: np.ndarray) -> Iterator[Batch]:
        """Yield the indices, the inputs and the number of inputs of each sample, batch by batch, read ahead."""
        read = functools.partial(_read_batch, self.data, chunks(rows, self.batch_size))
        yield from load_ahead(read, -(-len(rows) // self.batch_size), self.workers)

    def _outputs(
        self, model: TargetModel, pieces: list[np.ndarray], counts: list[int], rows: np.ndarray
    ) -> torch.Tensor:
        return mean_outputs(
            model, pieces, counts, self.batch_size, self.device, self.dtype, self.autocast, rows.tolist()
        )

    def _join_processes(self, metric: Metric) -> Metric:
        if self.processes.size == 1:
            return metric
        joined = self._new_metric()
        joined.merge(_join_states(metric.state(), self.processes))
        return joined


def _read_batch(data: TargetData, batches: Sequence[np.ndarray], number: int) -> Batch:
    samples = [data.transform.pieces(data.table.samples[int(row)]) for row in batches[number]]
    return batches[number], [piece for pieces in samples for piece in pieces], [len(pieces) for pieces in samples]


def mean_outputs(
    function: Callable[[torch.Tensor], torch.Tensor],
    pieces: Sequence[np.ndarray],
    counts: Sequence[int],
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    autocast: torch.dtype | None = None,
    rows: Sequence[int] | None = None,
) -> torch.Tensor:
    """Return the output for each sample: the mean of the outputs for its pieces, in double precision on the CPU.

    Args:
        function: Model, or a part of it, from a batch of inputs to outputs.
        pieces: Standardized inputs of all samples.
        counts: Number of pieces of each sample.
        batch_size: Number of inputs in a forward pass.
        device: Device to compute on.
        dtype: Precision of the parameters.
        autocast: Reduced precision of forward passes; None for that of the parameters.
        rows: Index of each sample, for messages; None for its position.
    """
    of_pieces = np.repeat(np.arange(len(counts)) if rows is None else rows, counts).tolist()
    precision: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if autocast:
        precision = torch.autocast(device.type, autocast)
    parts = []
    with torch.inference_mode(), precision:
        for first in range(0, len(pieces), batch_size):
            span = slice(first, first + batch_size)
            batch = stack_pieces(pieces[span], device, dtype, of_pieces[span])
            parts.append(function(batch).double().cpu())
    outputs = torch.cat(parts)
    if max(counts) == 1:
        return outputs
    return torch.stack([piece_outputs.mean(0) for piece_outputs in torch.split(outputs, list(counts))])


def _join_states(state: dict[str, np.ndarray], processes: Processes) -> dict[str, np.ndarray]:
    """Return the states of all processes as one, with the samples in the order of the ranks."""
    samples = processes.concatenate(state["samples"].reshape(1))
    joined = {}
    for name, values in state.items():
        if name == "rows":
            values = values + int(samples[: processes.rank].sum())
        # A single number is the same in all processes.
        joined[name] = values if values.ndim == 0 else processes.concatenate(values)
    return joined | {"samples": np.array(int(samples.sum()))}
