"""Representations of samples for a source: series and audio as images, numbers as text, and anything as waveforms."""

import functools
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from modgap.errors import InputError
from modgap.targets.manifest import LogMel
from modgap.targets.samples import computing_type

if TYPE_CHECKING:
    from scipy.signal import ShortTimeFFT

REPRESENTATIONS = {
    ("image", "image"): ("image",),
    ("video", "image"): ("frames",),
    ("series", "image"): ("spectrogram", "fold", "log-mel"),
    ("audio", "image"): ("log-mel", "spectrogram", "fold"),
    ("text", "text"): ("text",),
    ("series", "text"): ("tokens",),
    ("audio", "text"): ("tokens",),
    ("image", "text"): ("tokens",),
    ("audio", "audio"): ("waveform",),
    ("series", "audio"): ("waveform",),
    ("image", "audio"): ("rows", "patches"),
}
"""Representations by the kind of the samples and the kind of the source's input; the first is the default."""
BUILT_IN = tuple(dict.fromkeys(name for names in REPRESENTATIONS.values() for name in names))
"""Names of modgap's own representations. Other packages bring more."""
SPECTROGRAM_WINDOWS = (64, 128, 256, 512, 1024)
"""Window lengths of spectrograms, in values. By default, a series that is shorter than the first is folded."""
LOWEST_POWER = 1e-10
"""Power to which smaller ones are raised before their logarithm is taken."""
RANGE_DB = 80.0
"""Range of a log-mel spectrogram in decibels. Values further below its largest value are raised to this range."""
MOST_WINDOWS = 32
"""Largest number of windows of a sample, whose outputs are averaged."""
PATCH = 8
"""Height and width of the patches of an image that are read one after the other, in pixels."""

PadMode = Literal["constant", "wrap", "reflect"]


# Images


def fold_series(series: np.ndarray) -> np.ndarray:
    """Fold each channel of a series (C, length) into rows of equal width: an image (1, rows, width).

    The rows of all channels lie below each other. The width is the divisor of the length nearest to
    sqrt(length * C), so that the image is about square. The width 1 and the width of the whole length do not count, so
    a series of prime length above 3 is first extended by its last value.

    Example:
        >>> fold_series(np.arange(24).reshape(1, 24)).shape
        (1, 6, 4)
    """
    channels, length = series.shape
    rows, width = fold_shape(channels, length)
    extended = np.pad(series, ((0, 0), (0, rows * width - length)), mode="edge")
    return extended.reshape(1, channels * rows, width)


def fold_shape(channels: int, length: int) -> tuple[int, int]:
    """Return the rows per channel and the width of a folded series of so many channels and values.

    The product of both is the length, or one more for a prime length above 3.

    Example:
        >>> fold_shape(1, 24), fold_shape(2, 7)
        ((6, 4), (2, 4))
    """
    divisors = [d for d in range(2, length) if length % d == 0]
    if not divisors and length > 3:
        return fold_shape(channels, length + 1)
    width = min(divisors or [length], key=lambda d: abs(d - math.sqrt(length * channels)))
    return length // width, width


def spectrogram(series: np.ndarray) -> np.ndarray:
    """Compute log(1 + magnitude) of the short-time Fourier transform of each channel: an image (1, rows, frames).

    The spectrograms of all channels lie below each other. The Hann window has the length nearest to length / 16 among
    the powers of two from 64 to 1024, and the hop is a quarter of it.

    Raises:
        InputError: When the series is shorter than half the window.

    Example:
        >>> spectrogram(np.zeros((2, 1460))).shape
        (1, 66, 95)
    """
    transform = _short_time_transform(series.shape[1])
    magnitude: np.ndarray = np.abs(transform.stft(series.astype(np.float64), axis=-1))
    return np.asarray(np.log1p(magnitude).reshape(1, -1, magnitude.shape[-1]))


def _short_time_transform(length: int) -> "ShortTimeFFT":
    """Return the transform for a series of a length, or raise an InputError if it is shorter than half the window."""
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    size = min(SPECTROGRAM_WINDOWS, key=lambda n: abs(n - length / 16))
    if length < size // 2:
        raise InputError(
            f"A series of {length} values is too short for a spectrogram, which needs at least {size // 2}. "
            'Use `representation="fold"`.'
        )
    return ShortTimeFFT(hann(size, sym=False), size // 4, fs=1.0)


def spectrogram_frames(length: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Return how `spectrogram` cuts a series of a length into frames, for code that computes it in another way.

    Returns:
        Window by which each frame is multiplied, (size,); position of the first value of each frame in the padded
        series, (frames,); and the numbers of zeros before and after the series.

    Raises:
        InputError: When the series is shorter than half the window.
    """
    transform = _short_time_transform(length)
    size, hop = transform.m_num, transform.hop
    before = transform.m_num_mid - transform.p_min * hop
    starts = np.arange(transform.p_num(length)) * hop
    return transform.win, starts, (before, int(starts[-1]) + size - before - length)


def log_mel_spectrograms(sound: np.ndarray, rate: float, options: LogMel) -> list[np.ndarray]:
    """Compute the log-mel spectrogram (1, channels x bands, frames) of each chunk of a sound.

    Mel filters are applied to the power of a centered short-time Fourier transform, as in librosa. The values after
    the last complete chunk are not used. The spectrograms of all channels lie below each other.

    Args:
        sound: Sound of shape (C, length).
        rate: Sampling rate in hertz.
        options: Bands, window and hop in values, and chunks in seconds, as in the manifest.
    """
    spans = chunk_spans(sound.shape[1], rate, options)
    missing = spans[0][1] - sound.shape[1]
    if missing > 0:
        # A sound that is shorter than a chunk is padded.
        mode: PadMode = "constant" if options.short_padding == "zeros" else "wrap"
        sound = np.pad(sound, ((0, 0), (0, missing)), mode=mode)
    return [_log_mel_spectrogram(sound[:, start:stop], rate, options) for start, stop in spans]


def chunk_spans(length: int, rate: float, options: LogMel) -> list[tuple[int, int]]:
    """Return the position of the first value of each chunk of a sound, and the position after its last value.

    A sound that is shorter than a chunk is one chunk, which ends after the sound. Without chunks in the options, the
    whole sound is one.

    Args:
        length: Number of values of the sound.
        rate: Sampling rate in hertz.
        options: Length and hop of the chunks in seconds, as in the manifest.

    Example:
        >>> chunk_spans(10, 1, LogMel(bands=1, window=2, hop=1, chunk=4, chunk_hop=2))
        [(0, 4), (2, 6), (4, 8), (6, 10)]
    """
    if options.chunk is None:
        return [(0, length)]
    size = max(1, round(options.chunk * rate))
    hop = max(1, round((options.chunk_hop or options.chunk) * rate))
    return [(start, start + size) for start in range(0, max(length, size) - size + 1, hop)]


def _log_mel_spectrogram(sound: np.ndarray, rate: float, options: LogMel) -> np.ndarray:
    """Return the log-mel spectrogram of one chunk (C, length): an image (1, channels x bands, frames)."""
    from scipy.fft import rfft
    from scipy.signal.windows import hann

    size = options.fft or options.window
    mode: PadMode = "constant" if options.edge_padding == "zeros" else "reflect"
    padded = np.pad(sound.astype(computing_type(sound.dtype)), ((0, 0), (size // 2, size // 2)), mode=mode)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, :: options.hop]
    # A window that is shorter than the transform lies in the middle of the frame.
    margins = ((size - options.window) // 2, (size - options.window + 1) // 2)
    window = np.pad(hann(options.window, sym=False).astype(np.float32), margins)
    power = np.abs(rfft(frames * window, axis=-1)) ** 2
    high_hz = options.high_hz or rate / 2
    bands = power @ _mel_filters(size, options.bands, rate, options.low_hz, high_hz, options.scale)
    image: np.ndarray = bands.transpose(0, 2, 1).reshape(1, -1, bands.shape[1])
    if options.decibels:
        image = 10 * np.log10(np.maximum(image, LOWEST_POWER))
        image = np.maximum(image, image.max() - RANGE_DB)
    if options.center:
        image = image - image.mean()
    image = image.astype(np.float32)
    if options.frames is None:
        return image
    missing = max(0, options.frames - image.shape[-1])
    return np.pad(image[..., : options.frames], ((0, 0), (0, 0), (0, missing)))


@functools.lru_cache(maxsize=8)
def _mel_filters(size: int, bands: int, rate: float, low: float, high: float, scale: str) -> np.ndarray:
    """Return mel filters (size // 2 + 1, bands) for a transform of a size, from `low` to `high` hertz."""
    from transformers.audio_utils import mel_filter_bank

    filters: np.ndarray = mel_filter_bank(
        size // 2 + 1,
        bands,
        low,
        high,
        sampling_rate=int(rate),
        norm="slaney" if scale == "slaney" else None,
        mel_scale=scale,
    )
    return filters.astype(np.float32)


# Text


def one_hot_as_letters(one_hot: np.ndarray, alphabet: str) -> str:
    """Write one-hot channels (C, length) as a text of their letters, with N where no channel is above 0.

    Args:
        one_hot: Channels, shape (C, length).
        alphabet: Letter of each channel, C letters.

    Example:
        >>> one_hot_as_letters(np.eye(4)[:, [0, 2, 2, 3]], "ACGT")
        'AGGT'
    """
    symbols = np.array([*alphabet, "N"])
    chosen = np.where(one_hot.max(axis=0) > 0, one_hot.argmax(axis=0), len(alphabet))
    return "".join(symbols[chosen])


def numbers_as_text(values: np.ndarray, low: float, high: float, most: int, levels: int = 100) -> str:
    """Write values (C, ...) as whole numbers 0 .. levels - 1 with spaces between, channel after channel.

    Args:
        values: Values of shape (C, ...).
        low: Value that becomes 0. Smaller values are clipped.
        high: Value that becomes levels - 1. Larger values are clipped.
        most: Largest number of numbers. If there are more values, each channel is first averaged over about equal
            stretches of neighboring values. If there are more channels, neighboring channels are averaged, too.
        levels: Number of different whole numbers.

    Example:
        >>> numbers_as_text(np.linspace(0, 1, 8)[None], 0, 1, most=4)
        '7 35 64 92'
    """
    series = series_channels(values.reshape(len(values), -1).astype(np.float64), most)
    per_channel = most // len(series)
    if series.shape[1] > per_channel:
        edges = np.linspace(0, series.shape[1], per_channel + 1).astype(np.int64)
        series = np.add.reduceat(series, edges[:-1], axis=1) / np.diff(edges)
    scaled = np.floor((series.ravel() - low) / (high - low) * levels).clip(0, levels - 1)
    return " ".join(str(int(number)) for number in scaled)


# Waveforms


def mono_waveform(sound: np.ndarray, rate: float, source_rate: float) -> np.ndarray:
    """Average the channels of a sound and resample it: float32 (new length,).

    Args:
        sound: Sound of shape (C, length).
        rate: Sampling rate of the sound in hertz.
        source_rate: Sampling rate that the source expects, in hertz.
    """
    mono: np.ndarray = sound.mean(axis=0, dtype=np.float32) if len(sound) > 1 else sound[0].astype(np.float32)
    return resample(mono, rate, source_rate)


def resample(waveform: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """Resample a waveform (length,) from one rate in hertz to another, in the `computing_type` of its values."""
    values = waveform.astype(computing_type(waveform.dtype))
    if rate == new_rate:
        return values
    # Below about 1 / 2000 the nearest fraction with such a denominator is 0.
    ratio = Fraction(new_rate / rate).limit_denominator(1000) or Fraction(1, round(rate / new_rate))
    return _resample_poly(values, ratio.numerator, ratio.denominator, "constant")


def stretch(waveform: np.ndarray, length: int) -> np.ndarray:
    """Resample a waveform to a number of values, whatever its rate is: (length,), in its `computing_type`.

    Beyond its ends, the filter that prevents aliasing continues the waveform along the straight line through both ends,
    so that a series that does not end where it began has no jumps.

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

    Args:
        waveform: Waveform of shape (length,).
        up: Factor by which the number of values rises.
        down: Factor by which it falls.
        padding: `constant` for zeros beyond the ends, or `line` for the straight line through them, as in scipy.
    """
    from scipy.signal import resample_poly

    divisor = math.gcd(up, down)
    larger = max(up, down) // divisor
    if larger == 1:
        return waveform.copy()
    # One design serves all types: scipy, too, designs in double precision and then converts.
    window = _anti_aliasing_filter(larger).astype(waveform.dtype, copy=False)
    return np.asarray(resample_poly(waveform, up // divisor, down // divisor, window=window, padtype=padding))


@functools.lru_cache(maxsize=16)
def _anti_aliasing_filter(larger: int) -> np.ndarray:
    """Return the filter of resample_poly for a reduced ratio whose larger number is given: (20 larger + 1,)."""
    from scipy.signal import firwin

    taps: np.ndarray = firwin(20 * larger + 1, 1 / larger, window=("kaiser", 5.0))
    taps.flags.writeable = False
    return taps


def cut_windows(waveform: np.ndarray, window: int, most: int = MOST_WINDOWS) -> list[np.ndarray]:
    """Cut a waveform into windows that do not overlap; a shorter waveform is padded with zeros to one window.

    The values after the last complete window are not used. If there are more windows than `most`, evenly spaced ones
    are kept, with the first and, if `most` is above 1, the last.

    Args:
        waveform: Waveform of shape (length,).
        window: Number of values of a window.
        most: Largest number of windows.

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
