"""A window cut from the last axes of samples, targets and masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import Samples, Table, TransformedSamples

__all__ = ["apply"]


@dataclass(frozen=True)
class _Cropped:
    start: tuple[int, ...]
    size: tuple[int, ...]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        shape = values.shape[-len(self.size) :]
        spans = list(zip(self.start, self.size, strict=True))
        if any(have < first + size for have, (first, size) in zip(shape, spans, strict=True)):
            raise InputError(f"expected values of at least {self.size} from {self.start} on, got {values.shape}")
        index: tuple[Any, ...] = (..., *(slice(first, first + size) for first, size in spans))
        return values[index]


def apply(table: Table, *, start: Sequence[int], size: Sequence[int]) -> Table:
    """Cut the same window from everything, lazily.

    Args:
        table: Samples, targets and masks with these last axes.
        start: First index along each of the last axes.
        size: Values along each.

    Raises:
        InputError: When start and size are of different length; when a sample is asked for that is too small.
    """
    if len(start) != len(size) or not size:
        raise InputError(f"expected a start and a size for each axis to crop, got {list(start)} and {list(size)}")
    crop = _Cropped(tuple(start), tuple(size))

    def cropped(samples: Samples | None) -> Samples | None:
        return None if samples is None else TransformedSamples(samples, crop)

    return replace(
        table,
        samples=TransformedSamples(table.samples, crop),
        targets=cropped(table.targets),
        masks=cropped(table.masks),
    )
