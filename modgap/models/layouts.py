"""How a sample of the target is laid out for the source's stem, and how what comes out is laid back."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from modgap.inputs.representations import fold_shape

__all__ = ["FoldedSeries", "Layout", "ResizedImage", "StridedSeries", "resize_to", "sequence_stride"]


class Layout(Protocol):
    """Sample to input of the stem, and predictions over that input's area back to the sample's own."""

    @property
    def channels(self) -> int:
        """Channels of what the stem gets."""

    def arrange(self, x: Tensor) -> Tensor:
        """Samples (n, C, ...) as the stem's input (n, channels, ...)."""

    def restore(self, values: Tensor) -> Tensor:
        """Values (n, c, ...) at any resolution over the stem's input, over the sample's own dimensions."""

    def canvas(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """The resolution over the stem's input that an output of these sizes asks for."""


@dataclass(frozen=True)
class ResizedImage:
    """An image (C, H, W), resized to the source's input size.

    Attributes:
        channels: C.
        size: Height and width in pixels of the source's input.
    """

    channels: int
    size: tuple[int, int]

    def arrange(self, x: Tensor) -> Tensor:
        """Images (n, C, height, width)."""
        return _resized(x, self.size)

    def restore(self, values: Tensor) -> Tensor:
        """The values as they are: both cover the whole image."""
        return values

    def canvas(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """The output's own sizes; where it has one dimension, about the square that holds as many."""
        return spatial if len(spatial) == 2 else (math.ceil(math.sqrt(math.prod(spatial))),) * 2


@dataclass(frozen=True)
class FoldedSeries:
    """A series (C, length) as an image of one channel, as `representations.fold` lays it out, resized.

    Attributes:
        series: C and length.
        size: Height and width in pixels of the source's input.
    """

    series: tuple[int, int]
    size: tuple[int, int]

    @property
    def channels(self) -> int:
        """One: a series' channels lie below each other."""
        return 1

    def arrange(self, x: Tensor) -> Tensor:
        """Images (n, 1, height, width)."""
        channels, length = self.series
        rows, width = fold_shape(channels, length)
        extended = torch.cat([x, x[..., -1:].expand(-1, -1, rows * width - length)], dim=-1)
        return _resized(extended.reshape(-1, 1, channels * rows, width), self.size)

    def restore(self, values: Tensor) -> Tensor:
        """Values (n, c, length): the mean over the places that a moment has, one in each channel's rows."""
        channels, length = self.series
        rows, width = fold_shape(channels, length)
        folded = resize_to(values, (channels * rows, width))
        return folded.unflatten(2, (channels, rows)).mean(dim=2).flatten(2)[..., :length]

    def canvas(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """The folded image's own sizes."""
        rows, width = fold_shape(*self.series)
        return self.series[0] * rows, width


@dataclass(frozen=True)
class StridedSeries:
    """A series (C, length), or an image (C, H, W) read row by row, cut into stretches of `stride` values.

    Attributes:
        shape: Of the sample.
        stride: Values in each stretch; what the last one lacks is filled with zeros.
    """

    shape: tuple[int, ...]
    stride: int

    @property
    def channels(self) -> int:
        """C."""
        return self.shape[0]

    @property
    def length(self) -> int:
        """Values in each channel."""
        return math.prod(self.shape[1:])

    @property
    def tokens(self) -> int:
        """Stretches."""
        return math.ceil(self.length / self.stride)

    def arrange(self, x: Tensor) -> Tensor:
        """Series (n, C, tokens * stride)."""
        flat = x.flatten(2)
        return functional.pad(flat, (0, self.tokens * self.stride - self.length))

    def restore(self, values: Tensor) -> Tensor:
        """Values (n, c, length), or (n, c, H, W), without those of the filling."""
        whole = self.tokens * self.stride
        kept = values[..., : math.ceil(values.shape[-1] * self.length / whole)]
        return kept if len(self.shape) == 2 else resize_to(kept, self.shape[1:])

    def canvas(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """As many values as the output has, and those of the filling."""
        return (math.ceil(math.prod(spatial) * self.tokens * self.stride / self.length),)


def sequence_stride(length: int, most: int) -> int:
    """Values to a token: the smallest divisor of the length that leaves at most so many tokens (appendix A.2 of MoNA).

    Where the divisors would leave less than half the tokens that a filled-up length has, as those of a
    prime do, it is the smallest number instead, and the length is to be filled up to its multiple.

    Args:
        length: Values in each channel.
        most: Largest number of tokens.

    Example:
        >>> sequence_stride(24, 512), sequence_stride(1460, 512), sequence_stride(1021, 512)
        (1, 4, 2)
    """
    least = math.ceil(length / most)
    divisor = next(d for d in range(least, length + 1) if length % d == 0)
    return divisor if 2 * (length // divisor) >= math.ceil(length / least) else least


def resize_to(values: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Values (n, c, ...) at these sizes by adaptive average pooling.

    Where there are more or fewer dimensions, values are read row by row.
    """
    if tuple(values.shape[2:]) == tuple(spatial):
        return values
    if values.ndim - 2 != len(spatial) or len(spatial) > 2:
        flat, count = values.flatten(2), math.prod(spatial)
        return resize_to(flat, (count,)).unflatten(2, spatial)
    if len(spatial) == 1:
        return functional.adaptive_avg_pool1d(values, spatial[0])
    return functional.adaptive_avg_pool2d(values, (spatial[0], spatial[1]))


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    return functional.interpolate(images, size, mode="bilinear", antialias=True)
