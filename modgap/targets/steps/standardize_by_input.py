"""Samples and targets both in units of the training samples' mean and sd, point by point."""

import functools
from dataclasses import replace

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import SPLITS, Samples, Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table, *, offset: float = 1e-5) -> Table:
    """(value - mean) / (sd + offset) with the mean and sd (of n - 1) of x over the training split, for x and y.

    For fields that stay in the same units from x to y, as a fluid's do from one time to another.

    Args:
        table: With samples of one shape, and targets of that shape if any.
        offset: Added to the sd, so that points where all samples are equal stay finite.

    Raises:
        InputError: When there are fewer than two training samples, or the targets' shape is another.
    """
    train = np.full(len(table), True) if table.splits is None else table.splits == SPLITS.index("train")
    rows = np.flatnonzero(train)
    if len(rows) < 2:
        raise InputError(f"expected at least two training samples to take mean and sd from, got {len(rows)}")
    mean, sd = _moments(table.samples, rows)
    targets = table.targets
    if targets is not None and np.shape(targets[0]) != mean.shape:
        raise InputError(f"expected targets of the samples' shape {mean.shape}, got {np.shape(targets[0])}")
    scaled = functools.partial(_scaled, mean=mean, sd=sd + offset)
    return replace(
        table,
        samples=TransformedSamples(table.samples, scaled),
        targets=None if targets is None else TransformedSamples(targets, scaled),
    )


def _moments(samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd in one pass, in double precision (Welford's recurrence)."""
    mean, squares = np.zeros(()), np.zeros(())
    for seen, row in enumerate(rows, start=1):
        values = np.asarray(samples[int(row)], np.float64)
        step = values - mean
        mean = mean + step / seen
        squares = squares + step * (values - mean)
    return mean, np.sqrt(squares / (len(rows) - 1))


def _scaled(values: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    return ((values - mean) / sd).astype(np.float32)
