"""The metric and the loss of a model on some rows of a target."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from modgap.models import TargetModel
from modgap.transfer.batches import PREFETCHED, chunks
from modgap.transfer.metrics import Metric, task_metric
from modgap.transfer.processes import Processes
from modgap.transfer.training_data import TargetData

__all__ = ["Evaluator"]


@dataclass(frozen=True)
class Evaluator:
    """Applies a task's metric.

    Attributes:
        data: The target.
        device: Where to run.
        dtype: Precision of the parameters.
        batch_size: Pieces at a time.
        processes: Who shares the rows.
        autocast: Precision of forward passes where it is reduced.
    """

    data: TargetData
    device: torch.device
    dtype: torch.dtype
    batch_size: int
    processes: Processes = field(default_factory=Processes)
    autocast: torch.dtype | None = None

    def metric(self, model: TargetModel, rows: np.ndarray) -> Metric:
        """The metric with these rows' samples in it, of all processes; the model's mode is left as it was.

        A sample of several pieces is judged by the mean of their outputs.
        """
        found, training = task_metric(self.data.target.manifest, self.data.scale), model.training
        model.eval()
        try:
            for own, pieces, counts in self._batches(self.processes.contiguous_share(rows)):
                y, mask = self.data.ground_truth(own)
                found.update(self._outputs(model, pieces, counts), y, mask)
        finally:
            model.train(training)
        return self._joined(found)

    def error(self, model: TargetModel, rows: np.ndarray) -> float:
        """The metric's value on these rows."""
        return self.metric(model, rows).compute()

    def _batches(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, list[np.ndarray], list[int]]]:
        def made(own: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
            found = [self.data.transform.pieces(self.data.table.samples[int(row)]) for row in own]
            return own, [piece for pieces in found for piece in pieces], [len(pieces) for pieces in found]

        waiting: list[Future] = []
        with ThreadPoolExecutor(1) as pool:
            for own in chunks(rows, self.batch_size):
                waiting.append(pool.submit(made, own))
                if len(waiting) > PREFETCHED:
                    yield waiting.pop(0).result()
            for left in waiting:
                yield left.result()

    def _outputs(self, model: TargetModel, pieces: list[np.ndarray], counts: list[int]) -> torch.Tensor:
        reduced: contextlib.AbstractContextManager = contextlib.nullcontext()
        if self.autocast:
            reduced = torch.autocast(self.device.type, self.autocast)
        parts = []
        with torch.inference_mode(), reduced:
            for first in range(0, len(pieces), self.batch_size):
                batch = self.data.to_batch(pieces[first : first + self.batch_size], self.device, self.dtype)
                parts.append(model(batch).double().cpu())
        outputs = torch.cat(parts)
        if max(counts) == 1:
            return outputs
        return torch.stack([each.mean(0) for each in outputs.split(counts)])

    def _joined(self, own: Metric) -> Metric:
        if self.processes.size == 1:
            return own
        whole = task_metric(self.data.target.manifest, self.data.scale)
        whole.merge(_joined_state(own.state(), self.processes))
        return whole


def _joined_state(state: dict[str, np.ndarray], processes: Processes) -> dict[str, np.ndarray]:
    """States of all processes as one, samples in the order of the ranks."""
    samples = processes.concatenate(state["samples"].reshape(1))
    joined = {}
    for name, values in state.items():
        if name == "rows":
            values = values + int(samples[: processes.rank].sum())
        # What is one number is the same for all.
        joined[name] = values if values.ndim == 0 else processes.concatenate(values)
    return joined | {"samples": np.array(int(samples.sum()))}
