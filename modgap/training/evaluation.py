"""Evaluation of a model by the task's metric, and the test of a trained one: value, interval, errors of the samples."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from modgap.errors import InputError, count
from modgap.forward.batched_inference import BatchLimit
from modgap.forward.reading_ahead import Loader
from modgap.models import TargetModel
from modgap.models.normalization import evaluation_mode
from modgap.process.devices import download, read_late, upload
from modgap.statistics.intervals import MIN_UNITS, SampleErrors, estimate_mean, exact_interval, independent_errors
from modgap.statistics.jackknife import jackknife_interval
from modgap.statistics.paired import PairedDifference, paired_difference
from modgap.statistics.sample_file import SAMPLES_FILE, SampleFile, write_sample_file
from modgap.statistics.units import unit_numbers
from modgap.storage.atomic_files import writing
from modgap.training.batches import chunks
from modgap.training.metrics import Metric, task_metric
from modgap.training.placement import Processes, reduced_precision
from modgap.training.training_data import InputTransform, TargetData, stack_pieces

PERCENT = "%"
MOST_CONFUSED = 200
"""Largest number of classes whose confusion matrix is in the record."""

Batch = tuple[list[np.ndarray], list[int]]
"""Inputs of samples, and the number of inputs of each sample."""


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
        """Return the metric with the selected samples of all processes, see `outputs`.

        Args:
            model: Model to evaluate.
            rows: Indices of the samples.
            metric: A metric without samples, with one process; None for the task's own.
        """
        metric = metric or self._new_metric()
        for batch_rows, outputs in self.outputs(model, self.processes.contiguous_share(rows)):
            y, mask = self.data.ground_truth(batch_rows)
            metric.update(outputs, y, mask)
        if self.processes.size == 1:
            return metric
        from accelerate.utils import gather_object

        joined = self._new_metric()
        # The states of all processes, in the order of their ranks.
        for state in gather_object([metric.state()]):
            joined.merge(state)
        return joined

    def _new_metric(self) -> Metric:
        return task_metric(self.data.target.manifest, self.data.output, self.data.scale, self.data.protocol)

    @property
    def unit(self) -> str:
        """Unit of the metric's value; empty for a ratio."""
        return self._new_metric().unit

    def error(self, model: TargetModel, rows: np.ndarray) -> float:
        """Return the value of the metric on the selected samples."""
        return self.metric(model, rows).compute()

    def outputs(self, model: TargetModel, rows: np.ndarray) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield indices and outputs of the selected samples, batch by batch. The model's mode does not change.

        The output for a sample of several pieces is the mean of the outputs for its pieces.
        """
        batches = chunks(rows, self._limit.size)
        forward = functools.partial(
            launch_outputs, model, limit=self._limit, device=self.device, dtype=self.dtype, autocast=self.autocast
        )
        read = zip(batches, self._loader.load(batches), strict=True)
        launched = (forward(pieces, counts, rows=part.tolist()) for part, (pieces, counts) in read)
        with evaluation_mode(model):
            yield from zip(batches, read_late(launched), strict=True)

    @functools.cached_property
    def _loader(self) -> Loader[np.ndarray, Batch]:
        """Loader of the samples, whose worker processes stay as long as this object."""
        return Loader(functools.partial(_read_batch, self.data), self.workers)

    @functools.cached_property
    def _limit(self) -> BatchLimit:
        return evaluation_limit(self.batch_size, self.device, self.data.transform)


def _read_batch(data: TargetData, rows: np.ndarray) -> Batch:
    samples = [data.transform.pieces(data.table.samples[int(row)]) for row in rows]
    return [piece for pieces in samples for piece in pieces], [len(pieces) for pieces in samples]


EVALUATION_BYTES = 64 << 20
"""Memory of the inputs that pass through a model together on a device that is not the CPU, where nothing is stored for
a gradient, and a batch of the training would hardly keep the device busy."""
LARGEST_EVALUATION_BATCH = 256


def evaluation_limit(batch_size: int, device: torch.device, transform: InputTransform) -> BatchLimit:
    """Return the largest number of inputs that pass through a model together without a gradient.

    On the CPU it is that of the training, so that the outputs have the same bits. On other devices it is at least
    that, and is halved where the memory does not suffice.

    Args:
        batch_size: Batch size of the training.
        device: Device to compute on.
        transform: Transform to the inputs, which have one shape.
    """
    if device.type == "cpu":
        return BatchLimit(batch_size)
    n_fitting = EVALUATION_BYTES // (4 * max(1, math.prod(transform.shape)))
    return BatchLimit(max(batch_size, min(LARGEST_EVALUATION_BATCH, n_fitting)))


def launch_outputs(
    function: Callable[[torch.Tensor], torch.Tensor],
    pieces: Sequence[np.ndarray],
    counts: Sequence[int],
    limit: BatchLimit,
    device: torch.device,
    dtype: torch.dtype,
    autocast: torch.dtype | None,
    rows: Sequence[int],
) -> Callable[[], torch.Tensor]:
    """Begin to compute the output for each sample, and return the function that waits for it and returns it.

    The output is the mean of the outputs for the pieces of a sample, in double precision on the CPU.

    Args:
        function: Model, or a part of it, from a batch of inputs to outputs.
        pieces: Standardized inputs of all samples.
        counts: Number of pieces of each sample.
        limit: Largest number of inputs in a forward pass.
        device: Device to compute on.
        dtype: Precision of the parameters.
        autocast: Reduced precision of forward passes; None for that of the parameters.
        rows: Index of each sample, for messages.
    """
    of_pieces = np.repeat(rows, counts).tolist()

    def forward(part: slice) -> Callable[[], torch.Tensor]:
        batch = stack_pieces(pieces[part], torch.device("cpu"), dtype, of_pieces[part])
        with torch.inference_mode(), reduced_precision(device, autocast):
            return download(function(upload(batch, device)))

    reads = limit.run(len(pieces), forward)

    def means() -> torch.Tensor:
        outputs = torch.cat([read().double() for read in reads])
        if max(counts) == 1:
            return outputs
        return torch.stack([piece_outputs.mean(0) for piece_outputs in torch.split(outputs, list(counts))])

    return means


# The test of a trained model


def evaluate_metric(metric: Metric, data: TargetData, seed: int) -> dict[str, object]:
    """Return the value of the metric on the test samples with its 95 % interval, as entries of the run's record.

    The interval of the 0-1 error is that of `estimate_mean`, which stays within 0 and 100 % and is wide enough where
    errors are rare. That of other metrics is `jackknife_interval`, over samples, or groups where the samples have them.
    With fewer than 8 groups, or independent samples, and where a class has too few of them, there is none, and the
    entry `no_interval` says why.
    `no_sample_errors` says why the errors of the samples are not written; None if
    they are. `confusion` is the confusion matrix.

    Args:
        metric: Metric with the test samples.
        data: Target data.
        seed: Seed of the blocks of the jackknife.
    """
    groups = None if data.groups is None else data.groups[data.test]
    n_units = len(metric) if groups is None else len(np.unique(groups))
    interval = metric_interval(metric, groups, seed)
    reason = None if np.isfinite(interval).all() else "a class has too few test samples, or the metric is not defined"
    if n_units < MIN_UNITS:
        units = count(n_units, "test sample" if groups is None else "test group")
        reason = f"{units} {'is' if n_units == 1 else 'are'} too few (at least {MIN_UNITS})"
    is_classification, n_classes = data.output.task == "classification", data.output.shape[0]
    # There is no confusion matrix of too many classes, or where the metric has none.
    matrix = metric.confusion(n_classes) if is_classification and n_classes <= MOST_CONFUSED else None
    return {
        "metric": metric.name,
        "unit": metric.unit,
        "test": metric.compute(),
        "interval": list(interval),
        "no_interval": reason,
        "left_out": metric.left_out(),
        "no_sample_errors": _reason_for_no_sample_errors(metric),
        "confusion": None if matrix is None else [[int(number) for number in row] for row in matrix],
    }


def metric_interval(metric: Metric, groups: np.ndarray | None, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of a metric, see `evaluate_metric`; NaN if there is none.

    Args:
        metric: Metric with the test samples.
        groups: Group of each, (n,); None if they are independent.
        seed: Seed of the blocks of the jackknife.
    """
    n_units = len(metric) if groups is None else len(np.unique(groups))
    if n_units < MIN_UNITS:
        return float("nan"), float("nan")
    errors = metric.per_sample
    if metric.unit == PERCENT and errors is not None:
        interval = estimate_mean(independent_errors(errors / 100, unit_numbers(groups, len(metric)))).interval
        low, high = interval or (math.nan, math.nan)
        return 100 * low, 100 * high
    largest = 1.0 if metric.name.startswith("1 - ") else math.inf
    most_left_out = metric.left_out()

    def value(weights: np.ndarray) -> float:
        error, left_out = metric.weighted(weights)
        # Without a block, a class may have no sample, and the value would be that of the other classes.
        return error if left_out <= most_left_out else math.nan

    low, high = jackknife_interval(value, len(metric), groups, largest=largest, seed=seed)
    # Where no block differs, such as without any error, the interval of Clopper and Pearson over the units does not
    # exclude every other error. A metric without bounds has no such interval.
    return exact_interval(low, n_units) if low == high and math.isfinite(largest) else (low, high)


def _reason_for_no_sample_errors(metric: Metric) -> str | None:
    if metric.per_sample is None:
        return (
            f"The metric {metric.name} is not a mean over samples, so a single sample has no error. Compare runs on a "
            "target whose metric is a mean over samples, such as the 0-1 error."
        )
    if not math.isfinite(metric.compute()):
        return f"The metric {metric.name} is not defined on the test samples."
    return None


def write_sample_errors(folder: Path, metric: Metric, data: TargetData, name: str) -> None:
    """Write samples.npz with the errors of the test samples, if the metric has some.

    Errors in percent are written as rates in [0, 1], and other errors in the unit of the metric.

    Args:
        folder: Folder of the run.
        metric: Metric with the test samples.
        data: Target data.
        name: Name of the run's method and source.

    Raises:
        InputError: When the file cannot be written.
    """
    errors = test_errors(metric, data, name)
    if errors is not None:
        with writing(folder / SAMPLES_FILE):
            write_sample_file(folder / SAMPLES_FILE, errors)


def test_errors(metric: Metric, data: TargetData, name: str) -> SampleFile | None:
    """Return the errors of the test samples under a name; None if the metric has none (`Metric.per_sample`).

    Errors in percent are returned as rates in [0, 1], and other errors in the unit of the metric.
    """
    if _reason_for_no_sample_errors(metric) is not None:
        return None
    errors = np.asarray(metric.per_sample, np.float64) / (100 if metric.unit == PERCENT else 1)
    n_samples = len(errors)
    groups = None if data.groups is None else np.unique(data.groups, return_inverse=True)[1].ravel()[data.test]
    units = np.arange(n_samples) if groups is None else groups
    average = np.array([np.nanmean(errors)])
    columns = {name: SampleErrors(errors, np.full(n_samples, 1 / n_samples), units, average, None, 0)}
    is_classification = data.output.task == "classification"
    labels = np.asarray(data.table.labels)[data.test] if is_classification else np.zeros(n_samples, np.int64)
    n_classes = 0 if data.output.task == "regression" else data.output.shape[0]
    return SampleFile(data.test, labels.astype(np.int64), groups, columns, n_classes, None)


def difference_of(first: SampleErrors | None, second: SampleErrors | None, unit: str) -> PairedDifference | None:
    """Return the difference of two test errors, sample by sample; None if they have none."""
    if first is None or second is None:
        return None
    try:
        return paired_difference(first, second, largest=1.0 if unit == PERCENT else float("inf"))
    except InputError:
        return None
