"""Append the coordinates of a field's grid as channels: the position of each point along each axis, from 0 to 1."""

from dataclasses import replace

import numpy as np

from modgap.targets.samples import Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table) -> Table:
    """Append one coordinate channel for each axis to every sample (C, ...), the last axis first, lazily.

    (C, H, W) becomes (C + 2, H, W), and (C, length) becomes (C + 1, length).

    Args:
        table: Table with samples that have at least one axis after the channels.
    """
    return replace(table, samples=TransformedSamples(table.samples, _append_coordinates))


def _append_coordinates(sample: np.ndarray) -> np.ndarray:
    axes = [np.linspace(0, 1, size, dtype=np.float32) for size in sample.shape[1:]]
    coordinates = np.stack(np.meshgrid(*axes, indexing="ij")[::-1])
    extended: np.ndarray = np.concatenate([sample, coordinates])
    return extended.astype(np.float32, copy=False)
