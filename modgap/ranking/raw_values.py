"""Samples' own values as features: what a source is worth beside no source at all."""

import numpy as np

from modgap.errors import InputError
from modgap.targets import Samples

__all__ = ["RAW", "raw_features"]

RAW = "raw"
"""Name of the row without a model."""
MOST_VALUES = 1024


def raw_features(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Samples (n, ...) flattened; of more than 1,024 values means over equal stretches, float32 (n, D).

    Raises:
        InputError: When the samples are texts, or of different shapes.
    """
    found = []
    for row in rows:
        sample = samples[int(row)]
        if not isinstance(sample, np.ndarray) or sample.dtype.kind not in "fiub":
            raise InputError("expected samples that are arrays, got texts; they have no values of their own")
        found.append(_shortened(np.asarray(sample, np.float32).ravel()))
    sizes = {len(each) for each in found}
    if len(sizes) > 1:
        raise InputError(f"expected samples of one size, got {min(sizes)} to {max(sizes)} values")
    return np.stack(found)


def _shortened(values: np.ndarray) -> np.ndarray:
    if len(values) <= MOST_VALUES:
        return values
    edges = np.linspace(0, len(values), MOST_VALUES + 1).astype(np.int64)
    return (np.add.reduceat(values.astype(np.float64), edges[:-1]) / np.diff(edges)).astype(np.float32)
