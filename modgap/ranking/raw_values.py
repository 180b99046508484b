"""Raw values of the samples as features: the baseline without any model."""

import numpy as np

from modgap.errors import InputError
from modgap.targets import Samples
from modgap.targets.samples import computing_type

__all__ = ["RAW", "raw_features"]

RAW = "raw"
"""Name of the row of raw values in a ranking."""
MAX_VALUES = 1024
MOST_ROUNDING = 1e-3
"""Largest error of float32, relative to the standard deviation of a value over the samples."""


def raw_features(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Flatten samples. Samples of more than 1,024 values are reduced to means over equal stretches.

    Args:
        samples: Samples of a target.
        rows: Indices of n samples, shape (n,).

    Returns:
        Features, float32, shape (n, D) with D at most 1,024. A value is centered if float32 has too few digits for its
        differences, as with Unix times.

    Raises:
        InputError: If the samples are texts, or if they differ in size.
    """
    features = []
    for row in rows:
        sample = samples[int(row)]
        if not isinstance(sample, np.ndarray) or sample.dtype.kind not in "fiub":
            raise InputError("Text samples have no raw values to score. Raw values need numeric arrays.")
        features.append(_shorten(np.asarray(sample, computing_type(sample.dtype)).ravel()))
    sizes = {len(values) for values in features}
    if len(sizes) > 1:
        raise InputError(
            f"The samples have {min(sizes)} to {max(sizes)} values. Raw values can be scored only if all samples have "
            "the same size."
        )
    return _single_precision(np.stack(features))


def _single_precision(features: np.ndarray) -> np.ndarray:
    """Return features as float32. Columns whose differences it would round away lose their mean first."""
    spread = features.std(axis=0)
    rounding = np.abs(features).max(axis=0, initial=0) * np.finfo(np.float32).eps
    is_far = (features.dtype == np.float64) & (spread > 0) & (rounding > MOST_ROUNDING * spread)
    near_zero: np.ndarray = features - np.where(is_far, features.mean(axis=0), 0)
    return near_zero.astype(np.float32)


def _shorten(values: np.ndarray) -> np.ndarray:
    if len(values) <= MAX_VALUES:
        return values
    edges = np.linspace(0, len(values), MAX_VALUES + 1).astype(np.int64)
    return (np.add.reduceat(values.astype(np.float64), edges[:-1]) / np.diff(edges)).astype(values.dtype)
