"""Divide samples by a number, such as 255 for 8-bit pixels."""

from dataclasses import replace

from modgap.errors import InputError
from modgap.targets.sample_transforms import Division
from modgap.targets.samples import Table, TransformedSamples

__all__ = ["apply"]


def apply(table: Table, *, divisor: float) -> Table:
    """Divide every sample, lazily.

    Args:
        table: Table with samples of any shape.
        divisor: Number that samples are divided by, not 0.

    Raises:
        InputError: When the divisor is 0.
    """
    if not divisor:
        raise InputError("expected a divisor other than 0")
    return replace(table, samples=TransformedSamples(table.samples, Division(divisor)))
