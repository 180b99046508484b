"""Cut a window from the last axes of samples, targets and masks."""

from collections.abc import Sequence
from dataclasses import replace

from modgap.errors import InputError
from modgap.targets.sample_transforms import Crop
from modgap.targets.samples import Samples, Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table, *, start: Sequence[int], size: Sequence[int]) -> Table:
    """Cut the same window from samples, targets and masks, lazily.

    Args:
        table: Table with samples, targets and masks that share these last axes.
        start: First index of the window along each of the last axes.
        size: Length of the window along each of them.

    Raises:
        InputError: When start and size differ in length, or when a sample that is read is too small.
    """
    if len(start) != len(size) or not size:
        raise InputError(f"expected a start and a size for each axis to crop, got {list(start)} and {list(size)}")
    crop = Crop(tuple(start), tuple(size))

    def crop_samples(samples: Samples | None) -> Samples | None:
        return None if samples is None else TransformedSamples(samples, crop)

    return replace(
        table,
        samples=TransformedSamples(table.samples, crop),
        targets=crop_samples(table.targets),
        masks=crop_samples(table.masks),
    )
