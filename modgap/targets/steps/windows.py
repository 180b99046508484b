"""Cut series into windows of one length, with a stride for each class. Windows keep the split and group of a series."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import Samples, Table

__all__ = ["apply"]


@dataclass(frozen=True)
class _Windows:
    """Windows of `length` values: window i starts at starts[i] of series rows[i]."""

    samples: Samples
    rows: np.ndarray
    starts: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        series: np.ndarray = self.samples[int(self.rows[index])]
        start = int(self.starts[index])
        return series[..., start : start + self.length]


def apply(table: Table, *, length: int, strides: Sequence[int]) -> Table:
    """Cut series (C, T) into windows (C, length) that start at 0, stride, 2 stride, ... below T - length.

    Windows are cut when they are read. A series that is not longer than a window gives no window.

    Args:
        table: Table with series that have one class each.
        length: Number of values in a window.
        strides: Number of values from the start of one window to the next, for each class; or one number for all.

    Raises:
        InputError: When the series have no classes, a class has no stride, or no series is long enough.
    """
    if table.labels is None or table.labels.ndim != 1 or table.targets is not None:
        raise InputError("expected series with one class each to cut into windows")
    n_classes = int(table.labels.max()) + 1
    if len(strides) not in (1, *range(n_classes, len(strides) + 1)) or min(strides) < 1 or length < 1:
        raise InputError(
            f"expected a length and a stride of at least 1 for {n_classes} classes, got {length} and {strides}"
        )
    starts = [
        np.arange(0, max(0, table.samples[i].shape[-1] - length), strides[label if len(strides) > 1 else 0])
        for i, label in enumerate(table.labels)
    ]
    rows = np.repeat(np.arange(len(table)), [len(part) for part in starts])
    if len(rows) == 0:
        raise InputError(f"expected series longer than {length} values to cut into windows, got none")
    return replace(table.select(rows), samples=_Windows(table.samples, rows, np.concatenate(starts), length))
