"""Standardize samples and targets at each point to mean 0 and standard deviation 1 over the training split."""

from dataclasses import replace

import numpy as np

from modgap.errors import InputError
from modgap.targets.sample_transforms import Standardization
from modgap.targets.samples import SPLITS, Samples, Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table, *, epsilon: float = 1e-5) -> Table:
    """Standardize samples, and targets if there are any, by the mean and sd of the training samples at each point.

    The moments are computed in one pass over the samples, one at a time. Values are standardized when they are
    read. The targets' mean and sd + epsilon become the table's `target_scale`.

    Args:
        table: Table with samples of one shape, and targets of one shape.
        epsilon: Number added to the standard deviations, which are 0 where all samples are equal.

    Raises:
        InputError: When there are fewer than two training samples, or their shapes differ.
    """
    rows = np.arange(len(table)) if table.splits is None else np.flatnonzero(table.splits == SPLITS.index("train"))
    if len(rows) < 2:
        raise InputError(f"expected at least two training samples to standardize by, got {len(rows)}")
    samples = TransformedSamples(table.samples, _fit(table.samples, rows, epsilon))
    if table.targets is None:
        return replace(table, samples=samples)
    scale = _fit(table.targets, rows, epsilon)
    targets = TransformedSamples(table.targets, scale)
    return replace(table, samples=samples, targets=targets, target_scale=(scale.mean, scale.sd))


def _fit(samples: Samples, rows: np.ndarray, epsilon: float) -> Standardization:
    """Compute mean and sd (with n - 1) by Welford's recurrence in double precision."""
    mean = np.zeros_like(samples[int(rows[0])], np.float64)
    squares = np.zeros_like(mean)
    for count, row in enumerate(rows, 1):
        values = np.asarray(samples[int(row)], np.float64)
        if values.shape != mean.shape:
            raise InputError(f"expected values of one shape to standardize, got {mean.shape} and {values.shape}")
        difference = values - mean
        mean += difference / count
        squares += difference * (values - mean)
    return Standardization(mean, np.sqrt(squares / (len(rows) - 1)) + epsilon)
