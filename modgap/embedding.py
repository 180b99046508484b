"""Native embedding: a target's samples as images that the source's own preprocessing takes."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np

from modgap.errors import InputError, UsageError
from modgap.targets import SPLITS, Table
from modgap.targets.manifest import InputSpec

__all__ = ["REPRESENTATIONS", "Embedding", "fold", "native_embedding", "spectrogram"]

WINDOWS = (64, 128, 256, 512, 1024)
"""Windows of a spectrogram; a series shorter than the first is folded."""


@dataclass(frozen=True)
class Embedding:
    """How samples become images; recorded in every result.

    Attributes:
        representation: `image`, `fold` or `spectrogram`.
        low: Value that becomes 0.
        high: Value that becomes 1; values beyond are not clipped.
    """

    representation: str
    low: float
    high: float

    def image(self, sample: np.ndarray) -> np.ndarray:
        """A sample as float32 image (C, H, W), scaled so that the training split lies in [0, 1]."""
        picture = REPRESENTATIONS[self.representation](sample)
        return (picture.astype(np.float32) - np.float32(self.low)) / np.float32(self.high - self.low)

    def to_dict(self) -> dict:
        """Plain values for the result's record."""
        return asdict(self)


def fold(series: np.ndarray) -> np.ndarray:
    """Lay each channel of (C, length) out in rows of one width, all below each other: (1, rows, width).

    The width is the divisor of the length nearest to sqrt(length * C), so that the image is about
    square. A prime length is first extended by its last value.

    Example:
        >>> fold(np.arange(24).reshape(1, 24)).shape
        (1, 6, 4)
    """
    channels, length = series.shape
    divisors = [d for d in range(2, length) if length % d == 0]
    if not divisors and length > 3:
        return fold(np.concatenate([series, series[:, -1:]], axis=1))
    width = min(divisors or [length], key=lambda d: abs(d - math.sqrt(length * channels)))
    return series.reshape(1, channels * (length // width), width)


def spectrogram(series: np.ndarray) -> np.ndarray:
    """log(1 + magnitude) of each channel's short-time Fourier transform, channels below each other.

    Hann window of the power of two nearest to length / 16 (64 to 1024), hop a quarter of it.

    Example:
        >>> spectrogram(np.zeros((2, 1460))).shape
        (1, 66, 95)
    """
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    length = series.shape[1]
    size = min(WINDOWS, key=lambda n: abs(n - length / 16))
    if length < size // 2:
        raise InputError(f"expected series of at least {size // 2} values for a spectrogram, got {length}; use fold")
    transform = ShortTimeFFT(hann(size, sym=False), size // 4, fs=1.0)
    magnitude = np.abs(transform.stft(series.astype(np.float64), axis=-1))
    return np.log1p(magnitude).reshape(1, -1, magnitude.shape[-1])


def _image(sample: np.ndarray) -> np.ndarray:
    return sample


REPRESENTATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "image": _image,
    "fold": fold,
    "spectrogram": spectrogram,
}


def native_embedding(spec: InputSpec, table: Table, representation: str | None = None) -> Embedding:
    """Choose the representation and the range.

    Args:
        spec: The manifest's word on the input.
        table: The data, for the training split's range where the manifest gives none.
        representation: Overrides the manifest's; series only.

    Raises:
        UsageError: When a representation is asked for data that has none.
        InputError: When all training values are equal or some are NaN or infinite.
    """
    if representation and spec.kind != "series":
        raise UsageError("--representation applies to series, and this target's samples are images")
    chosen = representation or spec.representation
    if spec.kind == "image":
        chosen = "image"
    elif chosen is None:
        chosen = "spectrogram" if table.samples[0].shape[-1] >= WINDOWS[0] else "fold"
    low, high = spec.low, spec.high
    if low is None or high is None:
        train = np.flatnonzero(table.splits == SPLITS.index("train"))
        if len(train) == 0:
            raise InputError("expected training samples to take the range of values from, got none; give low and high")
        found = _value_range(REPRESENTATIONS[chosen](table.samples[i]) for i in train)
        low, high = found[0] if low is None else low, found[1] if high is None else high
    if not low < high:
        raise InputError(f"expected low below high to scale samples by, got {low} and {high}")
    return Embedding(chosen, low, high)


def _value_range(pictures: Iterable[np.ndarray]) -> tuple[float, float]:
    extremes = np.array([(picture.min(), picture.max()) for picture in pictures], dtype=np.float64)
    low, high = float(extremes[:, 0].min()), float(extremes[:, 1].max())
    if not math.isfinite(low) or not math.isfinite(high):
        bad = int((~np.isfinite(extremes)).any(axis=1).sum())
        raise InputError(f"expected finite samples, got NaN or infinite values in {bad} of the training split's")
    if low == high:
        raise InputError(f"expected samples that differ, got the value {low} throughout the training split")
    return low, high
