"""Append the coordinates of a field's grid as channels: the position of each point along each axis, from 0 to 1."""

from dataclasses import replace

from modgap.targets.sample_transforms import Coordinates
from modgap.targets.samples import Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table) -> Table:
    """Append one coordinate channel for each axis to every sample (C, ...), the last axis first, lazily.

    (C, H, W) becomes (C + 2, H, W), and (C, length) becomes (C + 1, length).

    Args:
        table: Table with samples that have at least one axis after the channels.
    """
    return replace(table, samples=TransformedSamples(table.samples, Coordinates()))
