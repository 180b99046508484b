"""Concatenate the channels of samples and targets to one series: (C, length) -> (1, C * length)."""

from dataclasses import replace

from modgap.targets.sample_transforms import Flattening
from modgap.targets.samples import Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table) -> Table:
    """Flatten samples, and targets and masks if there are any, lazily.

    Args:
        table: Table with samples (C, length) or (C, H, W).
    """
    return replace(
        table,
        samples=TransformedSamples(table.samples, Flattening()),
        targets=None if table.targets is None else TransformedSamples(table.targets, Flattening()),
        masks=None if table.masks is None else TransformedSamples(table.masks, Flattening()),
    )
