"""Channels laid end to end as one series: (C, length) -> (1, C * length), of samples and of targets alike."""

from dataclasses import replace

import numpy as np

from modgap.targets.samples import Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table) -> Table:
    """Flatten samples, and targets and masks where there are any; lazy.

    Args:
        table: With samples (C, length) or (C, H, W).
    """
    return replace(
        table,
        samples=TransformedSamples(table.samples, _flat),
        targets=None if table.targets is None else TransformedSamples(table.targets, _flat),
        masks=None if table.masks is None else TransformedSamples(table.masks, _flat),
    )


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(1, -1)
