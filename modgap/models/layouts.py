"""Layouts: how a sample of the target becomes the input of a source's stem, and how predictions are mapped back.

`arrange` maps samples (n, C, ...) to the stem's input. `restore` maps predictions at any resolution over that input
back to the sample's own dimensions. `resolution` is the one that an output with given sizes needs.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from modgap.inputs.representations import fold_shape


@dataclass(frozen=True)
class ResizedImage:
    """Layout of an image (C, H, W), which is resized to the source's input size.

    Attributes:
        channels: Number of channels C.
        size: Height and width of the source's input, in pixels.
    """

    channels: int
    size: tuple[int, int]

    def arrange(self, x: Tensor) -> Tensor:
        """Return the images at the source's input size, (n, C, height, width)."""
        return _resize_images(x, self.size)

    def restore(self, values: Tensor) -> Tensor:
        """Return the values unchanged, because sample and input cover the same area."""
        return values

    def resolution(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Return the output's own sizes. For an output with one dimension, return the smallest square that holds it."""
        return spatial if len(spatial) == 2 else (math.ceil(math.sqrt(math.prod(spatial))),) * 2


@dataclass(frozen=True)
class FoldedSeries:
    """Layout of a series (C, length), which is folded into an image of one channel and resized.

    The image is that of `modgap.inputs.representations.fold_series`.

    Attributes:
        series: Number of channels C and length of the series.
        size: Height and width of the source's input, in pixels.
    """

    series: tuple[int, int]
    size: tuple[int, int]
    channels: ClassVar[int] = 1
    """Number of channels of the image: the channels of the series lie below each other."""

    def arrange(self, x: Tensor) -> Tensor:
        """Return the folded series as images (n, 1, height, width)."""
        channels, length = self.series
        rows, width = fold_shape(channels, length)
        extended = torch.cat([x, x[..., -1:].expand(-1, -1, rows * width - length)], dim=-1)
        return _resize_images(extended.reshape(-1, 1, channels * rows, width), self.size)

    def restore(self, values: Tensor) -> Tensor:
        """Return values (n, c, length): the mean over the pixels, one for each channel, that show the same moment."""
        channels, length = self.series
        rows, width = fold_shape(channels, length)
        folded = resize_to(values, (channels * rows, width))
        return torch.unflatten(folded, 2, (channels, rows)).mean(dim=2).flatten(2)[..., :length]

    def resolution(self, spatial: tuple[int, ...]) -> tuple[int, ...]:  # noqa: ARG002
        """Return the sizes of the folded image, whatever the output's sizes are."""
        rows, width = fold_shape(*self.series)
        return self.series[0] * rows, width


@dataclass(frozen=True)
class StridedSeries:
    """Layout of a series (C, length), or of an image (C, H, W) read row by row, cut into windows of `stride` values.

    Attributes:
        shape: Shape of a sample.
        stride: Number of values in each window. The last window is padded with zeros.
    """

    shape: tuple[int, ...]
    stride: int

    @property
    def length(self) -> int:
        """Number of values in each channel."""
        return math.prod(self.shape[1:])

    @property
    def tokens(self) -> int:
        """Number of windows, each of which becomes a token."""
        return math.ceil(self.length / self.stride)

    @property
    def padded_length(self) -> int:
        """Number of values in each channel after padding."""
        return self.tokens * self.stride

    def arrange(self, x: Tensor) -> Tensor:
        """Return the padded series (n, C, tokens * stride)."""
        return functional.pad(x.flatten(2), (0, self.padded_length - self.length))

    def restore(self, values: Tensor) -> Tensor:
        """Return values (n, c, length), or (n, c, H, W), without those of the padding."""
        unpadded = values[..., : math.ceil(values.shape[-1] * self.length / self.padded_length)]
        return unpadded if len(self.shape) == 2 else resize_to(unpadded, self.shape[1:])

    def resolution(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of values of the output, increased by its share of the padding."""
        return (math.ceil(math.prod(spatial) * self.padded_length / self.length),)


@dataclass(frozen=True)
class StretchedSeries:
    """Layout of a series (C, length), or of an image (C, H, W) read row by row, stretched to a fixed number of tokens.

    Attributes:
        shape: Shape of a sample.
        tokens: Number of tokens that the encoder takes.
    """

    shape: tuple[int, ...]
    tokens: int

    @property
    def stride(self) -> int:
        """Number of values of the stretched series in each token, so that no value of the sample is left out."""
        return math.ceil(math.prod(self.shape[1:]) / self.tokens)

    def arrange(self, x: Tensor) -> Tensor:
        """Return the series (n, C, tokens * stride), with values between those of the sample interpolated linearly."""
        return stretch_series(x.flatten(2), self.tokens * self.stride)

    def restore(self, values: Tensor) -> Tensor:
        """Return the values, because sample and input cover the same time; those of an image as (n, c, H, W)."""
        return values if len(self.shape) == 2 else resize_to(values, self.shape[1:])

    def resolution(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of values of the output."""
        return (math.prod(spatial),)


Layout = ResizedImage | FoldedSeries | StridedSeries | StretchedSeries
"""Any of the layouts."""


def stretch_series(series: Tensor, length: int) -> Tensor:
    """Stretch series (n, C, L) to another length by linear interpolation."""
    if series.shape[2] == length:
        return series
    return functional.interpolate(series, length, mode="linear", align_corners=False)


def sequence_stride(length: int, most_tokens: int) -> int:
    """Return the number of values in a token, as in appendix A.2 of MoNA.

    It is the smallest divisor of the length that leaves at most `most_tokens` tokens. If the divisors (as those of a
    prime number) would leave less than half of the tokens that a padded series has, it is the smallest possible number
    instead, and the series has to be padded to its multiple.

    Args:
        length: Number of values in each channel.
        most_tokens: Largest number of tokens.

    Example:
        >>> sequence_stride(24, 512), sequence_stride(1460, 512), sequence_stride(1021, 512)
        (1, 4, 2)
    """
    smallest = math.ceil(length / most_tokens)
    divisor = next(d for d in range(smallest, length + 1) if length % d == 0)
    return divisor if 2 * (length // divisor) >= math.ceil(length / smallest) else smallest


def resize_to(values: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Resize values (n, c, ...) to other sizes by adaptive average pooling.

    If the number of dimensions changes, the values are read row by row.

    Args:
        values: Values with one or two dimensions in space or time.
        spatial: Sizes of the result in space or time.
    """
    if tuple(values.shape[2:]) == tuple(spatial):
        return values
    if values.ndim - 2 != len(spatial) or len(spatial) > 2:
        pooled = resize_to(values.flatten(2), (math.prod(spatial),))
        return torch.unflatten(pooled, 2, spatial)
    if len(spatial) == 1:
        return functional.adaptive_avg_pool1d(values, spatial[0])
    return functional.adaptive_avg_pool2d(values, (spatial[0], spatial[1]))


def _resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    return functional.interpolate(images, size, mode="bilinear", antialias=True)
