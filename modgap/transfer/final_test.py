"""The test of a trained model: the value of the metric, its interval, and the errors of the test samples."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from modgap.formatting import count
from modgap.statistics.bootstrap import bootstrap_interval
from modgap.statistics.intervals import MIN_UNITS, SampleErrors, exact_interval
from modgap.statistics.sample_file import SAMPLES_FILE, SampleFile, write_sample_file
from modgap.storage.atomic_files import writing
from modgap.transfer.metrics import Metric
from modgap.transfer.training_data import TargetData

__all__ = ["evaluate_metric", "write_sample_errors"]

RESAMPLES = 1000
"""Bootstrap resamples of the test error's confidence interval."""
PERCENT = "%"
MOST_CONFUSED = 200
"""Largest number of classes whose confusion matrix is in the record."""


def evaluate_metric(metric: Metric, data: TargetData, seed: int) -> dict[str, Any]:
    """Return the value of the metric on the test samples with its 95 % interval, as entries of the run's record.

    The interval resamples groups where the samples have them. With fewer than 8 groups, or independent samples, it
    would be too short, so that there is none and the entry `no_interval` says why. Where all errors are alike, it is
    the exact interval of a proportion. `no_sample_errors` says why the errors of the samples are not written; None if
    they are. `confusion` is the confusion matrix, and `majority_error` the error of always predicting the largest
    training class, where the metric is the 0-1 error.

    Args:
        metric: Metric with the test samples.
        data: Target data.
        seed: Seed of the resamples.
    """
    groups = None if data.groups is None else data.groups[data.test]
    n_units = len(metric) if groups is None else len(np.unique(groups))
    interval = (float("nan"), float("nan"))
    if n_units >= MIN_UNITS:
        interval = bootstrap_interval(metric.weighted, len(metric), groups, resamples=RESAMPLES, seed=seed)
        interval = _exact_if_alike(interval, metric, n_units)
    return {
        "metric": metric.name,
        "unit": metric.unit,
        "test": metric.compute(),
        "interval": list(interval),
        "no_interval": _reason_for_no_interval(n_units, "test sample" if groups is None else "test group"),
        "left_out": metric.left_out(),
        "no_sample_errors": _reason_for_no_sample_errors(metric),
        "confusion": _confusion(metric, data),
        "majority_error": _majority_error(metric, data),
    }


def _exact_if_alike(interval: tuple[float, float], metric: Metric, n_units: int) -> tuple[float, float]:
    """Return the interval, or that of Clopper and Pearson over the units where all resamples have the same value.

    Without an observed error, the bootstrap would exclude every error above 0. A metric without bounds has no such
    interval and keeps its own.
    """
    largest = 100 if metric.unit == PERCENT else 1
    if interval[0] != interval[1] or not (metric.unit == PERCENT or metric.name.startswith("1 - ")):
        return interval
    low, high = exact_interval(interval[0] / largest, n_units)
    return largest * low, largest * high


def _confusion(metric: Metric, data: TargetData) -> list[list[int]] | None:
    """Return the confusion matrix of the test samples; None if there are too many classes, or the metric has none."""
    if data.output.task != "classification" or data.output.shape[0] > MOST_CONFUSED:
        return None
    matrix = metric.confusion(data.output.shape[0])
    return None if matrix is None else [[int(count) for count in row] for row in matrix]


def _majority_error(metric: Metric, data: TargetData) -> float | None:
    """Return the 0-1 error in percent of always predicting the largest class of the training samples, or None."""
    labels = data.table.labels
    if metric.name != "0-1 error %" or data.output.task != "classification" or labels is None or labels.ndim != 1:
        return None
    largest = np.bincount(labels[data.train]).argmax()
    return float(100 * (labels[data.test] != largest).mean())


def _reason_for_no_interval(n_units: int, unit: str) -> str | None:
    if n_units >= MIN_UNITS:
        return None
    return f"{count(n_units, unit)} {'is' if n_units == 1 else 'are'} too few (at least {MIN_UNITS})"


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
    """Write samples.npz with the errors of the test samples, if the metric is a mean over samples.

    Errors in percent are written as rates in [0, 1], and other errors in the unit of the metric.

    Args:
        folder: Folder of the run.
        metric: Metric with the test samples.
        data: Target data.
        name: Name of the run's method and source.

    Raises:
        InputError: When the file cannot be written.
    """
    if _reason_for_no_sample_errors(metric) is not None:
        return
    with writing(folder / SAMPLES_FILE):
        write_sample_file(folder / SAMPLES_FILE, _sample_file(metric, data, name))


def _sample_file(metric: Metric, data: TargetData, name: str) -> SampleFile:
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
