"""Samples and targets, each point by point, to mean 0 and standard deviation 1 over the training split."""

from dataclasses import dataclass, replace

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import SPLITS, Samples, Table, TransformedSamples

__all__ = ["apply"]


@dataclass(frozen=True)
class _Standardized:
    mean: np.ndarray
    sd: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return ((values - self.mean) / self.sd).astype(np.float32)


def apply(table: Table, *, epsilon: float = 1e-5) -> Table:
    """Standardize samples, and targets where there are any, by the training samples' moments at each point.

    Moments are taken in one pass over the samples, one at a time; the values are standardized when they are asked
    for. The targets' mean and sd + epsilon are left in `target_scale`.

    Args:
        table: Samples of one shape, targets of one shape.
        epsilon: Added to the standard deviations, which are 0 where all samples agree.

    Raises:
        InputError: When there are fewer than two training samples, or their shapes differ.
    """
    rows = np.arange(len(table)) if table.splits is None else np.flatnonzero(table.splits == SPLITS.index("train"))
    if len(rows) < 2:
        raise InputError(f"expected at least two training samples to standardize by, got {len(rows)}")
    done = replace(table, samples=TransformedSamples(table.samples, _fitted(table.samples, rows, epsilon)))
    if table.targets is None:
        return done
    scale = _fitted(table.targets, rows, epsilon)
    return replace(done, targets=TransformedSamples(table.targets, scale), target_scale=(scale.mean, scale.sd))


def _fitted(samples: Samples, rows: np.ndarray, epsilon: float) -> _Standardized:
    """Mean and sd (of n - 1) by Welford's recurrence, in double precision."""
    mean = np.zeros_like(samples[int(rows[0])], np.float64)
    squares = np.zeros_like(mean)
    for count, row in enumerate(rows, 1):
        values = np.asarray(samples[int(row)], np.float64)
        if values.shape != mean.shape:
            raise InputError(f"expected values of one shape to standardize, got {mean.shape} and {values.shape}")
        step = values - mean
        mean += step / count
        squares += step * (values - mean)
    return _Standardized(mean, np.sqrt(squares / (len(rows) - 1)) + epsilon)
