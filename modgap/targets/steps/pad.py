"""Samples and targets of different sizes laid into one size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import Samples, Table, TransformedSamples

__all__ = ["apply"]


@dataclass(frozen=True)
class _Padded:
    start: int
    size: tuple[int, ...]
    fill: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        axes = len(self.size)
        canvas = np.full((*values.shape[:-axes], *self.size), self.fill, np.float32)
        held = [min(have, room - self.start) for have, room in zip(values.shape[-axes:], self.size, strict=True)]
        target: tuple[Any, ...] = (..., *(slice(self.start, self.start + size) for size in held))
        source: tuple[Any, ...] = (..., *(slice(size) for size in held))
        canvas[target] = values[source]
        return canvas


def apply(table: Table, *, size: Sequence[int], start: int = 0, fill: float = 0.0, target_fill: float = 0.0) -> Table:
    """Lay the last axes of samples, targets and masks into `size`, lazily; what does not fit is cut off at the end.

    Args:
        table: Samples, and targets and masks where there are any.
        size: Values along each of the last axes.
        start: Where the first value comes to lie along each of them.
        fill: What samples are surrounded by.
        target_fill: What targets are surrounded by; masks by 0.

    Raises:
        InputError: When nothing would be left.
    """
    if not size or not 0 <= start < min(size):
        raise InputError(f"expected to lay samples into a size from a start within it, got {list(size)} and {start}")

    def padded(samples: Samples | None, value: float) -> Samples | None:
        return None if samples is None else TransformedSamples(samples, _Padded(start, tuple(size), value))

    return replace(
        table,
        samples=TransformedSamples(table.samples, _Padded(start, tuple(size), fill)),
        targets=padded(table.targets, target_fill),
        masks=padded(table.masks, 0.0),
    )
