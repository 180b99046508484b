"""Representations of samples as waveforms for sources of sound: sound itself, series, and images."""

from fractions import Fraction
from functools import lru_cache
from math import gcd

import numpy as np

from modgap.targets.samples import computing_type

__all__ = [
    "MOST_WINDOWS",
    "PATCH",
    "cut_windows",
    "image_patches",
    "image_rows",
    "mono_waveform",
    "resample",
    "series_channels",
    "stretch",
]

MOST_WINDOWS = 32
"""Largest number of windows of a sample, whose outputs are averaged."""
PATCH = 8
"""Height and width of the patches of an image that are read one after the other, in pixels."""


def mono_waveform(sound: np.ndarray, rate: float, source_rate: float) -> np.ndarray:
    """Average the channels of a sound (C, length), and resample it: float32 (length,).

    Args:
        sound: Sound of shape (C, length).
        rate: Sampling rate of the sound in hertz.
        source_rate: Sampling rate that the source expects, in hertz.
    """
    mono: np.ndarray = sound.mean(axis=0, dtype=np.float32) if len(sound) > 1 else sound[0].astype(np.float32)
    return resample(mono, rate, source_rate)


def resample(waveform: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """Resample a waveform (length,) from one rate in hertz to another; float32, or float64 if it needs this."""
    values = waveform.astype(computing_type(waveform.dtype))
    if rate == new_rate:
        return values
    ratio = Fraction(new_rate / rate).limit_denominator(1000)
    return _resample_poly(values, ratio.numerator, ratio.denominator, "constant")


def stretch(waveform: np.ndarray, length: int) -> np.ndarray:
    """Resample a waveform to a number of values, whatever its rate is; (length,), of the type to compute in.

    The filter that prevents aliasing treats what lies beyond the ends as a straight line through them, so that a series
    that does not end where it began has no jumps.

    Example:
        >>> stretch(np.array([0.0, 1.0, 2.0, 3.0]), 8).round(1).tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    """
    dtype = computing_type(waveform.dtype)
    if len(waveform) == length:
        return waveform.astype(dtype)
    stretched = _resample_poly(waveform.astype(np.float64), length, len(waveform), "line")
    return stretched[:length].astype(dtype)


def _resample_poly(waveform: np.ndarray, up: int, down: int, padding: str) -> np.ndarray:
    """Return what scipy.signal.resample_poly returns, with a filter that is designed once for many waveforms.

    The filter has twenty times as many values as the larger number of the reduced ratio. If a series of 29 values
    becomes a waveform of 48,000, its design takes a hundred times as long as its use.
    """
    from scipy.signal import resample_poly

    divisor = gcd(up, down)
    larger = max(up, down) // divisor
    if larger == 1:
        return waveform.copy()
    # One design serves all types: scipy, too, designs in double precision and then converts.
    window = _anti_aliasing_filter(larger).astype(waveform.dtype, copy=False)
    resampled: np.ndarray = resample_poly(waveform, up // divisor, down // divisor, window=window, padtype=padding)
    return resampled


@lru_cache(maxsize=16)
def _anti_aliasing_filter(larger: int) -> np.ndarray:
    """Return the filter of resample_poly for a reduced ratio whose larger number is given: (20 larger + 1,)."""
    from scipy.signal import firwin

    taps: np.ndarray = firwin(20 * larger + 1, 1 / larger, window=("kaiser", 5.0))
    taps.flags.writeable = False
    return taps


def cut_windows(waveform: np.ndarray, window: int, most: int = MOST_WINDOWS) -> list[np.ndarray]:
    """Cut a waveform into windows that do not overlap; a shorter waveform is padded with zeros to one window.

    What is left after the last complete window is not used. If there are more windows than `most`, evenly spaced ones
    are kept, the first and the last among them.

    Example:
        >>> [window.tolist() for window in cut_windows(np.arange(7), 3)]
        [[0, 1, 2], [3, 4, 5]]
    """
    if len(waveform) < window:
        return [np.pad(waveform, (0, window - len(waveform)))]
    n_windows = len(waveform) // window
    chosen = np.linspace(0, n_windows - 1, min(most, n_windows)).round().astype(np.int64)
    return [waveform[number * window : (number + 1) * window] for number in chosen]


def series_channels(series: np.ndarray, most: int = MOST_WINDOWS) -> np.ndarray:
    """Return the channels of a series (C, length), averaged over groups of neighbors if there are more than `most`.

    Example:
        >>> series_channels(np.array([[0.0], [2.0], [4.0], [6.0]]), 2).tolist()
        [[1.0], [5.0]]
    """
    if len(series) <= most:
        return series
    return np.stack([group.mean(axis=0) for group in np.array_split(series, most)])


def image_rows(image: np.ndarray) -> np.ndarray:
    """Read the mean over the channels of an image (C, H, W) row by row: shape (H W,).

    Example:
        >>> image_rows(np.array([[[0.0, 1.0], [2.0, 3.0]]])).tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    gray: np.ndarray = image.mean(axis=0, dtype=np.float64)
    return gray.ravel()


def image_patches(image: np.ndarray, size: int = PATCH) -> np.ndarray:
    """Read the mean over the channels of an image (C, H, W) patch by patch, which keeps neighbors near each other.

    An image whose sides are no multiples of the size is extended by its last row and column.

    Example:
        >>> image_patches(np.arange(16.0).reshape(1, 4, 4), 2).tolist()[:8]
        [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]
    """
    gray = image.mean(axis=0, dtype=np.float64)
    gray = np.pad(gray, [(0, -side % size) for side in gray.shape], mode="edge")
    height, width = gray.shape
    return gray.reshape(height // size, size, width // size, size).swapaxes(1, 2).ravel()
