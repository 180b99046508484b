"""Clip targets from above, in some of the splits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import SPLITS, Samples, Table

__all__ = ["apply"]


@dataclass(frozen=True)
class _ClippedTargets:
    targets: Samples
    is_clipped: np.ndarray
    maximum: float

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> np.ndarray:
        values: np.ndarray = self.targets[index]
        return np.minimum(values, np.float32(self.maximum)) if self.is_clipped[index] else values


def apply(table: Table, *, maximum: float, splits: Sequence[str] = SPLITS) -> Table:
    """Replace target values above the maximum by the maximum, lazily.

    Args:
        table: Table with targets.
        maximum: Largest value, in the targets' unit.
        splits: Splits to clip, of train, val and test.

    Raises:
        InputError: When there are no targets or a split has another name.
    """
    if table.targets is None or not set(splits) <= set(SPLITS):
        raise InputError(f"expected targets to clip in {', '.join(SPLITS)}, got {', '.join(splits)}")
    if table.splits is None:
        is_clipped = np.full(len(table), "train" in splits)
    else:
        is_clipped = np.isin(table.splits, [SPLITS.index(split) for split in splits])
    return replace(table, targets=_ClippedTargets(table.targets, is_clipped, maximum))
