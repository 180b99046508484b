"""Concatenate the channels of samples and targets to one series: (C, length) -> (1, C * length)."""

from dataclasses import replace

import numpy as np

from modgap.targets.samples import Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table) -> Table:
    """Flatten samples, and targets and masks if there are any, lazily.

    Args:
        table: Table with samples (C, length) or (C, H, W).
    """
    return replace(
        table,
        samples=TransformedSamples(table.samples, _flatten),
        targets=None if table.targets is None else TransformedSamples(table.targets, _flatten),
        masks=None if table.masks is None else TransformedSamples(table.masks, _flatten),
    )


def _flatten(values: np.ndarray) -> np.ndarray:
    return values.reshape(1, -1)
