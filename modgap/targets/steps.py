"""Preprocessing steps between a reader and the source: functions from a table, with options, to a table.

A step receives complete splits, so that it can be fitted on the training samples alone. Steps are lazy where
possible: they transform a sample when it is read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from modgap.errors import InputError, named
from modgap.targets import sample_transforms
from modgap.targets.data_frames import list_names
from modgap.targets.sample_transforms import SampleTransform
from modgap.targets.samples import SPLITS, Samples, StoredSamples, Table, TransformedSamples


def get_step(name: str) -> Callable[..., Table]:
    """Return the step with this name, a function of a table and of options.

    Raises:
        UsageError: When there is no such step.
    """
    return STEPS.get(name.replace("_", "-")) or named("step", name, STEPS)


def _transformed(samples: Samples | None, transform: SampleTransform) -> Samples | None:
    """Return samples that are transformed when they are read; None if there are none."""
    return None if samples is None else TransformedSamples(samples, transform)


def _transform_all(
    table: Table, of_samples: SampleTransform, of_targets: SampleTransform, of_masks: SampleTransform
) -> Table:
    """Return the table with samples, targets and masks that are transformed when they are read."""
    samples = TransformedSamples(table.samples, of_samples)
    targets = _transformed(table.targets, of_targets)
    return replace(table, samples=samples, targets=targets, masks=_transformed(table.masks, of_masks))


def _training_rows(table: Table) -> np.ndarray:
    """Return the numbers of the training samples; those of all samples if there are no splits."""
    return np.arange(len(table)) if table.splits is None else np.flatnonzero(table.splits == SPLITS.index("train"))


def clip_targets(table: Table, *, maximum: float, splits: Sequence[str] = SPLITS) -> Table:
    """Replace target values above the maximum by the maximum, lazily.

    Args:
        table: Table with targets.
        maximum: Largest value, in the targets' unit.
        splits: Splits to clip, of train, val and test.

    Raises:
        InputError: When there are no targets or a split has another name.
    """
    if table.targets is None or not set(splits) <= set(SPLITS):
        raise InputError(f"expected targets to clip in {', '.join(SPLITS)}, got {', '.join(splits)}")
    if table.splits is None:
        is_clipped = np.full(len(table), "train" in splits)
    else:
        is_clipped = np.isin(table.splits, [SPLITS.index(split) for split in splits])
    clip = partial(_clip, targets=table.targets, is_clipped=is_clipped, maximum=maximum)
    return replace(table, targets=StoredSamples(range(len(table)), clip))


def _clip(index: int, targets: Samples, is_clipped: np.ndarray, maximum: float) -> np.ndarray:
    values: np.ndarray = targets[index]
    return np.minimum(values, np.float32(maximum)) if is_clipped[index] else values


def coordinates(table: Table) -> Table:
    """Append the position of each point along each axis, from 0 to 1, as channels; the last axis first, lazily.

    (C, H, W) becomes (C + 2, H, W), and (C, length) becomes (C + 1, length).

    Args:
        table: Table with samples that have at least one axis after the channels.
    """
    return replace(table, samples=TransformedSamples(table.samples, sample_transforms.Coordinates()))


def crop(table: Table, *, start: Sequence[int], size: Sequence[int]) -> Table:
    """Cut the same window from the last axes of samples, targets and masks, lazily.

    Args:
        table: Table with samples, targets and masks that share these last axes.
        start: First index of the window along each of the last axes.
        size: Length of the window along each of them.

    Raises:
        InputError: When start and size differ in length, or when a sample that is read is too small.
    """
    if len(start) != len(size) or not size:
        raise InputError(f"expected a start and a size for each axis to crop, got {list(start)} and {list(size)}")
    window = sample_transforms.Crop(tuple(start), tuple(size))
    return _transform_all(table, window, window, window)


def fill(table: Table, *, statistic: Literal["mean", "median"]) -> Table:
    """Replace NaN in samples of one shape by a statistic of the training samples at the same point, lazily.

    Args:
        table: Table with samples of one shape.
        statistic: `mean` or `median` of the training samples that have a value.

    Raises:
        InputError: When the statistic is unknown, or no training sample has a value at some point.
    """
    if statistic not in ("mean", "median"):
        raise InputError(f"The step fill has the statistic {statistic!r}. Expected mean or median.")
    training = np.stack([table.samples[int(row)] for row in _training_rows(table)]).astype(np.float64)
    empty = np.isnan(training).all(axis=0)
    if empty.any():
        shown = list_names(np.flatnonzero(empty).tolist())
        raise InputError(
            f"{int(empty.sum())} of {empty.size} columns have no value in any training sample, so there is nothing to "
            f"fill their missing cells with: {shown}, counted from 0. Leave these columns out with "
            '`custom_data["columns"]`.'
        )
    values = np.nanmean(training, axis=0) if statistic == "mean" else np.nanmedian(training, axis=0)
    return replace(table, samples=TransformedSamples(table.samples, sample_transforms.Filling(values)))


def flatten(table: Table) -> Table:
    """Concatenate the channels of samples, targets and masks to one series, (1, C * length), lazily.

    Args:
        table: Table with samples (C, length) or (C, H, W).
    """
    flattening = sample_transforms.Flattening()
    return _transform_all(table, flattening, flattening, flattening)


def pad(table: Table, *, size: Sequence[int], start: int = 0, fill: float = 0.0, target_fill: float = 0.0) -> Table:
    """Pad the last axes of samples, targets and masks to `size`, lazily; values that do not fit are cut at the end.

    Args:
        table: Table with samples, and targets and masks if there are any.
        size: Length of each of the last axes after padding.
        start: Index of the first value along each of them.
        fill: Value around samples.
        target_fill: Value around targets. The value around masks is 0.

    Raises:
        InputError: When no value would be left.
    """
    if not size or not 0 <= start < min(size):
        raise InputError(f"expected a size to pad to and a start below it, got {list(size)} and {start}")
    fills = (fill, target_fill, 0.0)
    return _transform_all(table, *(sample_transforms.Padding(start, tuple(size), value) for value in fills))


def scale(table: Table, *, divisor: float) -> Table:
    """Divide every sample by a number, such as 255 for 8-bit pixels, lazily.

    Args:
        table: Table with samples of any shape.
        divisor: Number that samples are divided by, not 0.

    Raises:
        InputError: When the divisor is 0.
    """
    if not divisor:
        raise InputError("expected a divisor other than 0")
    return replace(table, samples=TransformedSamples(table.samples, sample_transforms.Division(divisor)))


def standardize(table: Table, *, epsilon: float = 1e-5) -> Table:
    """Standardize samples, and targets if there are any, by the mean and sd of the training samples at each point.

    The moments are computed in one pass over the samples, one at a time. Values are standardized when they are
    read. The targets' mean and sd + epsilon become the table's `target_scale`.

    Args:
        table: Table with samples of one shape, and targets of one shape.
        epsilon: Number added to the standard deviations, which are 0 where all samples are equal.

    Raises:
        InputError: When there are fewer than two training samples, or their shapes differ.
    """
    rows = _training_rows(table)
    if table.targets is not None:
        moments = _standardization(table.targets, rows, epsilon)
        targets = TransformedSamples(table.targets, moments)
        table = replace(table, targets=targets, target_scale=(moments.mean, moments.sd))
    return replace(table, samples=TransformedSamples(table.samples, _standardization(table.samples, rows, epsilon)))


def standardize_by_input(table: Table, *, offset: float = 1e-5) -> Table:
    """Map x and y to (value - mean) / (sd + offset), with mean and sd (with n - 1) of x over the training split.

    This is for fields that have the same units in x and y, such as a fluid at two times.

    Args:
        table: Table with samples of one shape, and targets of that shape if any.
        offset: Number added to the sd, so that points where all samples are equal stay finite.

    Raises:
        InputError: When there are fewer than two training samples, or the targets have another shape.
    """
    moments = _standardization(table.samples, _training_rows(table), offset)
    if table.targets is not None and (shape := np.shape(table.targets[0])) != moments.mean.shape:
        raise InputError(f"expected targets of the samples' shape {moments.mean.shape}, got {shape}")
    targets = _transformed(table.targets, moments)
    return replace(table, samples=TransformedSamples(table.samples, moments), targets=targets)


def _standardization(samples: Samples, rows: np.ndarray, epsilon: float) -> sample_transforms.Standardization:
    """Compute mean and sd (with n - 1) at each point by Welford's recurrence in double precision."""
    if len(rows) < 2:
        raise InputError(f"expected at least two training samples to standardize by, got {len(rows)}")
    mean = np.zeros_like(samples[int(rows[0])], np.float64)
    squares = np.zeros_like(mean)
    for count, row in enumerate(rows, 1):
        values = np.asarray(samples[int(row)], np.float64)
        if values.shape != mean.shape:
            raise InputError(f"expected values of one shape to standardize, got {mean.shape} and {values.shape}")
        difference = values - mean
        mean += difference / count
        squares += difference * (values - mean)
    return sample_transforms.Standardization(mean, np.sqrt(squares / (len(rows) - 1)) + epsilon)


def windows(table: Table, *, length: int, strides: Sequence[int]) -> Table:
    """Cut series (C, T) into windows (C, length) that start at 0, stride, 2 stride, ... below T - length, lazily.

    Windows have the split and the group of their series. A series that is not longer than a window gives no window.

    Args:
        table: Table with series that have one class each.
        length: Number of values in a window.
        strides: Numbers of values from the start of one window to the next, one for each class or a single one for all.

    Raises:
        InputError: When the series have no classes, a class has no stride, or no series is long enough.
    """
    if table.labels is None or table.labels.ndim != 1 or table.targets is not None:
        raise InputError("expected series with one class each to cut into windows")
    n_classes = int(table.labels.max()) + 1
    if not strides or 1 < len(strides) < n_classes or min(strides) < 1 or length < 1:
        raise InputError(
            f"expected a length and a stride of at least 1 for {n_classes} classes, got {length} and {strides}"
        )
    starts = [
        np.arange(0, max(0, table.samples[i].shape[-1] - length), strides[label if len(strides) > 1 else 0])
        for i, label in enumerate(table.labels)
    ]
    rows = np.repeat(np.arange(len(table)), [len(part) for part in starts])
    if len(rows) == 0:
        raise InputError(f"expected series longer than {length} values to cut into windows, got none")
    cut = partial(_window, samples=table.samples, rows=rows, starts=np.concatenate(starts), length=length)
    return replace(table.select(rows), samples=StoredSamples(range(len(rows)), cut))


def _window(index: int, samples: Samples, rows: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Return the window of this number, which starts at starts[index] of the series rows[index]."""
    series: np.ndarray = samples[int(rows[index])]
    start = int(starts[index])
    return series[..., start : start + length]


def zscore(table: Table, *, by_channel: bool = False) -> Table:
    """Standardize every sample by its own mean and standard deviation, lazily. A constant sample becomes 0.

    Args:
        table: Table with samples of any shape.
        by_channel: True to standardize each channel by its own values, False to standardize all values together.
    """
    return replace(table, samples=TransformedSamples(table.samples, sample_transforms.OwnStandardization(by_channel)))


STEPS: Mapping[str, Callable[..., Table]] = {
    "clip-targets": clip_targets,
    "coordinates": coordinates,
    "crop": crop,
    "fill": fill,
    "flatten": flatten,
    "pad": pad,
    "scale": scale,
    "standardize": standardize,
    "standardize-by-input": standardize_by_input,
    "windows": windows,
    "zscore": zscore,
}
"""Steps by the name that manifests have."""
