"""The grid that a field lives on as further channels: where each point lies along each axis, from 0 to 1."""

from dataclasses import replace

import numpy as np

from modgap.targets.samples import Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table) -> Table:
    """Put behind the channels of every sample (C, ...) its points' places, the last axis's first; lazily.

    (C, H, W) becomes (C + 2, H, W), and (C, length) becomes (C + 1, length).

    Args:
        table: Samples with at least one axis after the channels.
    """
    return replace(table, samples=TransformedSamples(table.samples, _with_places))


def _with_places(sample: np.ndarray) -> np.ndarray:
    axes = [np.linspace(0, 1, size, dtype=np.float32) for size in sample.shape[1:]]
    places = np.meshgrid(*axes, indexing="ij")[::-1]
    return np.concatenate([sample, np.stack(places)]).astype(np.float32, copy=False)
