"""Series cut into windows of one length, at a stride for each class; a series' windows keep its split and group."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import Samples, Table

__all__ = ["apply"]


@dataclass(frozen=True)
class _Windows:
    """Window i: `length` values of series rows[i] from starts[i] on."""

    samples: Samples
    rows: np.ndarray
    starts: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        start = int(self.starts[index])
        return self.samples[int(self.rows[index])][..., start : start + self.length]


def apply(table: Table, *, length: int, strides: Sequence[int]) -> Table:
    """Cut series (C, T) into windows (C, length) that start at 0, stride, 2 stride, ... below T - length.

    Samples are cut when they are asked for. A series no longer than a window gives none.

    Args:
        table: Series with a class each.
        length: Values of a window.
        strides: Values from one window's start to the next, for each class; one number for all.

    Raises:
        InputError: When the series have no classes, a class has no stride, or no series is long enough.
    """
    if table.labels is None or table.labels.ndim != 1 or table.targets is not None:
        raise InputError("expected series with one class each to cut into windows")
    classes = int(table.labels.max()) + 1
    steps = list(strides) * classes if len(strides) == 1 else list(strides)
    if len(steps) < classes or min(steps) < 1 or length < 1:
        raise InputError(
            f"expected a length and a stride of at least 1 for {classes} classes, got {length} and {strides}"
        )
    starts = [
        np.arange(0, max(0, table.samples[i].shape[-1] - length), steps[label]) for i, label in enumerate(table.labels)
    ]
    rows = np.repeat(np.arange(len(table)), [len(part) for part in starts])
    if len(rows) == 0:
        raise InputError(f"expected series longer than {length} values to cut into windows, got none")
    return replace(table.select(rows), samples=_Windows(table.samples, rows, np.concatenate(starts), length))
