"""Replace missing values by the mean or the median of the training samples at the same point."""

from dataclasses import replace
from typing import Literal

import numpy as np

from modgap.errors import InputError
from modgap.targets.sample_transforms import Filling
from modgap.targets.samples import SPLITS, Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table, *, statistic: Literal["mean", "median"]) -> Table:
    """Replace NaN in samples of one shape, when they are read.

    Args:
        table: Table with samples of one shape.
        statistic: `mean` or `median` of the training samples that have a value.

    Raises:
        InputError: When the statistic is unknown, or no training sample has a value at some point.
    """
    if statistic not in ("mean", "median"):
        raise InputError(f"The step fill has the statistic {statistic!r}. Expected mean or median.")
    rows = np.arange(len(table)) if table.splits is None else np.flatnonzero(table.splits == SPLITS.index("train"))
    training = np.stack([table.samples[int(row)] for row in rows]).astype(np.float64)
    empty = np.isnan(training).all(axis=0)
    if empty.any():
        raise InputError(
            f"{int(empty.sum())} of {empty.size} columns have no value in any training sample, so there is nothing to "
            "fill their missing cells with. Leave these columns out with --columns."
        )
    values = np.nanmean(training, axis=0) if statistic == "mean" else np.nanmedian(training, axis=0)
    return replace(table, samples=TransformedSamples(table.samples, Filling(values)))
