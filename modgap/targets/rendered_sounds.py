"""Sounds that are rendered when one of them is first used, and cut or padded to one length."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import gcd

import numpy as np

__all__ = ["RenderedSounds", "fit_length", "resample"]


@dataclass(frozen=True)
class RenderedSounds:
    """Mono clips (1, length), float32, which are rendered in blocks and kept in memory.

    Attributes:
        render: Returns a block of clips (block_size, 1, length) by its number; it does not depend on other blocks.
        n_blocks: Number of blocks.
        block_size: Number of clips in a block.
    """

    render: Callable[[int], np.ndarray]
    n_blocks: int
    block_size: int
    _rendered: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of clips."""
        return self.n_blocks * self.block_size

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one clip; the block that contains it is rendered if no other clip of it was used before."""
        block, row = divmod(range(len(self))[index], self.block_size)
        if block not in self._rendered:
            self._rendered[block] = self.render(block)
        clip: np.ndarray = self._rendered[block][row]
        return clip


def resample(values: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Return a waveform (..., length) at another sampling rate, without the frequencies that it cannot have."""
    from scipy.signal import resample_poly

    factor = gcd(rate, new_rate)
    resampled: np.ndarray = resample_poly(values, new_rate // factor, rate // factor, axis=-1)
    return resampled


def fit_length(values: np.ndarray, length: int) -> np.ndarray:
    """Return the start of a waveform (..., n) as float32, with zeros at its end if it is shorter than `length`."""
    fitted = np.zeros((*values.shape[:-1], length), np.float32)
    fitted[..., : values.shape[-1]] = values[..., :length]
    return fitted
