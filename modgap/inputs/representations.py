"""What a sample can be laid out as for a source of another modality: pictures of series and sound, text of numbers."""

import functools
import math

import numpy as np

from modgap.errors import InputError
from modgap.targets.manifest import LogMel

__all__ = [
    "fold",
    "fold_shape",
    "letters",
    "log_mel",
    "numbers_as_text",
    "spectrogram",
    "spectrogram_applies",
    "waveform",
]

WINDOWS = (64, 128, 256, 512, 1024)
"""Windows of a spectrogram; a series shorter than the first is folded."""
LOWEST_POWER, RANGE_DB = 1e-10, 80.0


def fold(series: np.ndarray) -> np.ndarray:
    """Lay each channel of (C, length) out in rows of one width, all below each other: (1, rows, width).

    The width is the divisor of the length nearest to sqrt(length * C), so that the image is about
    square. A prime length is first extended by its last value.

    Example:
        >>> fold(np.arange(24).reshape(1, 24)).shape
        (1, 6, 4)
    """
    channels, length = series.shape
    rows, width = fold_shape(channels, length)
    extended = np.pad(series, ((0, 0), (0, rows * width - length)), mode="edge")
    return extended.reshape(1, channels * rows, width)


def fold_shape(channels: int, length: int) -> tuple[int, int]:
    """Rows of each channel, and the width, of a folded series; rows * width is one more than a prime length.

    Example:
        >>> fold_shape(1, 24), fold_shape(2, 7)
        ((6, 4), (2, 4))
    """
    divisors = [d for d in range(2, length) if length % d == 0]
    if not divisors and length > 3:
        return fold_shape(channels, length + 1)
    width = min(divisors or [length], key=lambda d: abs(d - math.sqrt(length * channels)))
    return length // width, width


def spectrogram_applies(series: np.ndarray) -> bool:
    """Whether (C, length) is long enough for a spectrogram to be the default."""
    return series.shape[-1] >= WINDOWS[0]


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


def log_mel(sound: np.ndarray, rate: float, options: LogMel) -> list[np.ndarray]:
    """Log-mel spectrograms (1, channels x bands, frames), one a chunk.

    Mel filters on the power of a centered short-time Fourier transform, as librosa takes it. What is
    left over after the last whole chunk is not used.

    Args:
        sound: (C, length).
        rate: Values a second.
        options: The manifest's word on bands, window, hop and chunks.
    """
    return [_log_mel(chunk, rate, options) for chunk in _chunks(sound, rate, options)]


def _chunks(sound: np.ndarray, rate: float, options: LogMel) -> list[np.ndarray]:
    if options.chunk is None:
        return [sound]
    size, hop = round(options.chunk * rate), round((options.chunk_hop or options.chunk) * rate)
    if sound.shape[1] < size:
        fill = "constant" if options.short_padding == "zeros" else "wrap"
        sound = np.pad(sound, ((0, 0), (0, size - sound.shape[1])), mode=fill)  # type: ignore[call-overload]
    return [sound[:, start : start + size] for start in range(0, sound.shape[1] - size + 1, hop)]


def _log_mel(sound: np.ndarray, rate: float, options: LogMel) -> np.ndarray:
    from scipy.fft import rfft
    from scipy.signal.windows import hann

    size = options.fft or options.window
    fill = "constant" if options.edge_padding == "zeros" else "reflect"
    padded = np.pad(sound.astype(np.float32), ((0, 0), (size // 2, size // 2)), mode=fill)  # type: ignore[call-overload]
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, :: options.hop]
    beside = (size - options.window) // 2, (size - options.window + 1) // 2
    window = np.pad(hann(options.window, sym=False).astype(np.float32), beside)
    power = np.abs(rfft(frames * window, axis=-1)) ** 2
    bands = power @ _mel_filters(size, options.bands, rate, options.low_hz, options.high_hz or rate / 2, options.scale)
    picture = bands.transpose(0, 2, 1).reshape(1, -1, bands.shape[1])
    if options.decibels:
        picture = 10 * np.log10(np.maximum(picture, LOWEST_POWER))
        picture = np.maximum(picture, picture.max() - RANGE_DB)
    if options.center:
        picture = picture - picture.mean()
    return _of_width(picture.astype(np.float32), options.frames)


def _of_width(picture: np.ndarray, frames: int | None) -> np.ndarray:
    if frames is None:
        return picture
    return np.pad(picture[..., :frames], ((0, 0), (0, 0), (0, max(0, frames - picture.shape[-1]))))


@functools.lru_cache(maxsize=8)
def _mel_filters(size: int, bands: int, rate: float, low: float, high: float, scale: str) -> np.ndarray:
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        size // 2 + 1,
        bands,
        low,
        high,
        sampling_rate=int(rate),
        norm="slaney" if scale == "slaney" else None,
        mel_scale=scale,
    )
    return filters.astype(np.float32)


def waveform(sound: np.ndarray, rate: float, source_rate: float) -> np.ndarray:
    """(C, length) as one channel (length,) at the source's rate, float32."""
    mono = sound.mean(axis=0, dtype=np.float32) if len(sound) > 1 else sound[0].astype(np.float32)
    if rate == source_rate:
        return mono
    from fractions import Fraction

    from scipy.signal import resample_poly

    ratio = Fraction(source_rate / rate).limit_denominator(1000)
    return resample_poly(mono, ratio.numerator, ratio.denominator).astype(np.float32)


def letters(one_hot: np.ndarray, alphabet: str) -> str:
    """One-hot channels (C, length) as a text of their letters; N where no channel is set.

    Example:
        >>> letters(np.eye(4)[:, [0, 2, 2, 3]], "ACGT")
        'AGGT'
    """
    symbols = np.array([*alphabet, "N"])
    chosen = np.where(one_hot.max(axis=0) > 0, one_hot.argmax(axis=0), len(alphabet))
    return "".join(symbols[chosen])


def numbers_as_text(values: np.ndarray, low: float, high: float, most: int, levels: int = 100) -> str:
    """Values (C, ...) as whole numbers 0 .. levels - 1 with spaces between, channel after channel.

    Values between low and high are spread over the levels, those beyond are clipped. Where there are more
    than `most`, each channel is averaged over equal stretches of neighbors first.

    Example:
        >>> numbers_as_text(np.linspace(0, 1, 8)[None], 0, 1, most=4)
        '7 35 64 92'
    """
    series = values.reshape(len(values), -1).astype(np.float64)
    each = max(1, most // len(series))
    if series.shape[1] > each:
        edges = np.linspace(0, series.shape[1], each + 1).astype(np.int64)
        series = np.add.reduceat(series, edges[:-1], axis=1) / np.diff(edges)
    scaled = np.floor((series.ravel() - low) / (high - low) * levels).clip(0, levels - 1)
    return " ".join(str(int(number)) for number in scaled)
