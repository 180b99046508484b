"""Express samples and targets in units of the training samples' mean and standard deviation at each point."""

from dataclasses import replace

import numpy as np

from modgap.errors import InputError
from modgap.targets.sample_transforms import Standardization
from modgap.targets.samples import SPLITS, Samples, Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table, *, offset: float = 1e-5) -> Table:
    """Map x and y to (value - mean) / (sd + offset), with mean and sd (with n - 1) of x over the training split.

    This is for fields that have the same units in x and y, such as a fluid at two times.

    Args:
        table: Table with samples of one shape, and targets of that shape if any.
        offset: Number added to the sd, so that points where all samples are equal stay finite.

    Raises:
        InputError: When there are fewer than two training samples, or the targets have another shape.
    """
    train = np.full(len(table), True) if table.splits is None else table.splits == SPLITS.index("train")
    rows = np.flatnonzero(train)
    if len(rows) < 2:
        raise InputError(f"expected at least two training samples to take mean and sd from, got {len(rows)}")
    mean, sd = _moments(table.samples, rows)
    targets = table.targets
    if targets is not None and np.shape(targets[0]) != mean.shape:
        raise InputError(f"expected targets of the samples' shape {mean.shape}, got {np.shape(targets[0])}")
    standardize = Standardization(mean, sd + offset)
    return replace(
        table,
        samples=TransformedSamples(table.samples, standardize),
        targets=None if targets is None else TransformedSamples(targets, standardize),
    )


def _moments(samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and sd in one pass by Welford's recurrence in double precision."""
    mean = np.zeros(())
    squares = np.zeros(())
    for count, row in enumerate(rows, start=1):
        values = np.asarray(samples[int(row)], np.float64)
        difference = values - mean
        mean = mean + difference / count
        squares = squares + difference * (values - mean)
    return mean, np.sqrt(squares / (len(rows) - 1))
