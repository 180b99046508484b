"""Values divided by a number, such as 255 for pixels of 8 bits."""

from dataclasses import dataclass, replace

import numpy as np

from modgap.errors import InputError
from modgap.targets.samples import Table, TransformedSamples

__all__ = ["apply"]


@dataclass(frozen=True)
class _Scaled:
    divide: float

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        return np.asarray(sample, np.float32) / np.float32(self.divide)


def apply(table: Table, *, divide: float) -> Table:
    """Divide every sample, lazily.

    Args:
        table: Samples of any shape.
        divide: What they are divided by, not 0.

    Raises:
        InputError: When it is 0.
    """
    if not divide:
        raise InputError("expected to divide samples by another number than 0")
    return replace(table, samples=TransformedSamples(table.samples, _Scaled(divide)))
