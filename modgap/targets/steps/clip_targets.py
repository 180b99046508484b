"""Targets limited from above, in some splits alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import SPLITS, Samples, Table

__all__ = ["apply"]


@dataclass(frozen=True)
class _Clipped:
    targets: Samples
    which: np.ndarray
    high: float

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> np.ndarray:
        values = self.targets[index]
        return np.minimum(values, np.float32(self.high)) if self.which[index] else values


def apply(table: Table, *, high: float, splits: Sequence[str] = SPLITS) -> Table:
    """Set targets above `high` to it, lazily.

    Args:
        table: With targets.
        high: Largest value, in the targets' unit.
        splits: Where that is done, of train, val and test.

    Raises:
        InputError: When there are no targets or a split has another name.
    """
    if table.targets is None or not set(splits) <= set(SPLITS):
        raise InputError(f"expected targets to clip in {', '.join(SPLITS)}, got {', '.join(splits)}")
    codes = [SPLITS.index(split) for split in splits]
    which = np.full(len(table), "train" in splits) if table.splits is None else np.isin(table.splits, codes)
    return replace(table, targets=_Clipped(table.targets, which, high))
