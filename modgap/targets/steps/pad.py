"""Pad samples and targets of different sizes to one size."""

from collections.abc import Sequence
from dataclasses import replace

from modgap.errors import InputError
from modgap.targets.sample_transforms import Padding
from modgap.targets.samples import Samples, Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table, *, size: Sequence[int], start: int = 0, fill: float = 0.0, target_fill: float = 0.0) -> Table:
    """Pad the last axes of samples, targets and masks to `size`, lazily; values that do not fit are cut at the end.

    Args:
        table: Table with samples, and targets and masks if there are any.
        size: Length of each of the last axes after padding.
        start: Index of the first value along each of them.
        fill: Value around samples.
        target_fill: Value around targets. The value around masks is 0.

    Raises:
        InputError: When no value would be left.
    """
    if not size or not 0 <= start < min(size):
        raise InputError(f"expected a size to pad to and a start below it, got {list(size)} and {start}")

    def pad_samples(samples: Samples | None, value: float) -> Samples | None:
        return None if samples is None else TransformedSamples(samples, Padding(start, tuple(size), value))

    return replace(
        table,
        samples=TransformedSamples(table.samples, Padding(start, tuple(size), fill)),
        targets=pad_samples(table.targets, target_fill),
        masks=pad_samples(table.masks, 0.0),
    )
