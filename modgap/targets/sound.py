"""Sound files as waveforms at one sampling rate, decoded when they are read."""

import functools
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from modgap.errors import InputError
from modgap.storage.damaged_files import one_line_errors
from modgap.storage.limits import check_memory, check_unpacked_size

SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".wav"})
log = logging.getLogger("modgap")

SEEKABLE = frozenset({".aif", ".aiff", ".flac", ".wav"})
"""Formats of which a part can be read exactly, and whose headers state the length."""
REMEMBERED = 1 << 16
"""Number of files whose lengths are remembered."""
BYTES_PER_VALUE = 4
MARGIN = 4096
"""Number of stored values before and after a part that are decoded for its resampling."""

INSTALL = "Install them with: pip install soundfile soxr"


@dataclass(frozen=True)
class SoundFiles:
    """Mono clips (1, length), float32.

    Attributes:
        clips: Paths of each clip's files. Several files are overlapping pieces of the clip, in order.
        rate: Sampling rate in hertz. Files of another rate are resampled.
        overlap: Seconds that a piece shares with the next one.
    """

    clips: tuple[tuple[str, ...], ...]
    rate: int
    overlap: float = 0.0

    @classmethod
    def of_paths(cls, paths: Iterable[Path], rate: int) -> "SoundFiles":
        """Return clips of one file each."""
        return cls(tuple((str(path),) for path in paths), rate)

    def files_of(self, index: int) -> tuple[Path, ...]:
        """Return the paths of the files of one clip."""
        return tuple(map(Path, self.clips[index]))

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.clips)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one clip. The part that two pieces share is taken from the later piece."""
        pieces = [waveform(Path(path), self.rate) for path in self.clips[index]]
        shared = round(self.overlap * self.rate)
        starts = [piece[: max(len(piece) - shared, 0)] for piece in pieces[:-1]]
        clip: np.ndarray = np.concatenate([*starts, pieces[-1]])[None]
        return clip

    def length(self, index: int) -> int | None:
        """Return the length of a clip at `rate`, from the headers of its files.

        Returns:
            The length; None for a format whose length or parts are not exact.
        """
        if any(Path(path).suffix.lower() not in SEEKABLE for path in self.clips[index]):
            return None
        return sum(self._lengths(index))

    def _lengths(self, index: int) -> list[int]:
        """Return how many values of a clip come from each of its files, after they are resampled."""
        stored = [_frames_and_rate(path) for path in self.clips[index]]
        lengths = [n if rate == self.rate else math.floor(n * self.rate / rate + 0.5) for n, rate in stored]
        shared = round(self.overlap * self.rate)
        return [*(max(length - shared, 0) for length in lengths[:-1]), lengths[-1]]

    def part(self, index: int, start: int, stop: int) -> np.ndarray:
        """Return the values from `start` to `stop` of a clip, (1, stop - start), and decode hardly any others.

        If a file has another rate, the values are those of the whole clip up to rounding in the resampling.
        """
        parts, first = [], 0
        for path, length in zip(self.clips[index], self._lengths(index), strict=True):
            begin, end = max(start - first, 0), min(stop - first, length)
            if begin < end:
                parts.append(_waveform_part(Path(path), self.rate, begin, end))
            first += length
        clip_part: np.ndarray = np.concatenate(parts)[None]
        return clip_part


def _waveform_part(path: Path, rate: int, start: int, stop: int) -> np.ndarray:
    """Return the values from `start` to `stop` of a file's waveform at a rate."""
    _, stored = _frames_and_rate(str(path))
    if stored == rate:
        return waveform(path, rate, start, stop)
    # The part begins at a stored value that falls on a resampled one.
    step = stored // math.gcd(stored, rate)
    first = max(0, (start * stored // rate - MARGIN) // step) * step
    values = waveform(path, rate, first, math.ceil(stop * stored / rate) + MARGIN)
    offset = first * rate // stored
    return values[start - offset : stop - offset]


def waveform(path: Path, rate: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Return the mean of a file's channels at a sampling rate, shape (length,), float32.

    Args:
        path: Sound file.
        rate: Sampling rate in hertz.
        start: First stored value to read.
        stop: Stored value before which reading ends; None for the end of the file.

    Raises:
        InputError: When a library is missing, or the file is not a sound file, empty, or not finite.
    """
    soundfile = _import_soundfile()
    with one_line_errors(f"cannot read sound {path}"), soundfile.SoundFile(str(path)) as file:
        # The header states the length, and silence takes hardly any bytes.
        n_frames = (file.frames if stop is None else min(stop, file.frames)) - start
        size = n_frames * file.channels * BYTES_PER_VALUE
        check_unpacked_size(path, path.stat().st_size, size)
        check_memory(path, size)
        file.seek(start)
        values = file.read(-1 if stop is None else n_frames, dtype="float32", always_2d=True)
        stored_rate = file.samplerate
    if len(values) == 0 or not np.isfinite(values).all():
        raise InputError(f"expected finite sound in {path}, got {'none' if len(values) == 0 else 'NaN or infinities'}")
    mono: np.ndarray = values.mean(axis=1)
    return mono if stored_rate == rate else _resample(mono, stored_rate, rate)


@functools.lru_cache(maxsize=REMEMBERED)
def _frames_and_rate(path: str) -> tuple[int, int]:
    """Return the number of values of a channel, and the rate, from a file's header, which is read once."""
    header = _header(Path(path))
    return int(header.frames), int(header.samplerate)


def _header(path: Path) -> Any:
    """Return rate and number of frames of a sound file, from its header."""
    with one_line_errors(f"cannot read sound {path}"):
        return _import_soundfile().info(str(path))


def common_rate(paths: Sequence[Path]) -> int:
    """Return the sampling rate of most sound files in hertz, the higher one of two; log it if the rates differ.

    Raises:
        InputError: When the library is missing or a file is not a sound file.
    """
    counts = Counter(int(_header(path).samplerate) for path in paths)
    rate = max(counts, key=lambda rate: (counts[rate], rate))
    if len(counts) > 1:
        listed = ", ".join(f"{count:,} of {rate:,} Hz" for rate, count in sorted(counts.items(), reverse=True))
        log.info("The sounds have several sampling rates: %s. All are resampled to %s Hz.", listed, f"{rate:,}")
    return rate


def _import_soundfile() -> ModuleType:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise InputError(f"reading sound needs soundfile and soxr. {INSTALL}") from error
    library: ModuleType = soundfile
    return library


def _resample(values: np.ndarray, stored_rate: int, rate: int) -> np.ndarray:
    try:
        import soxr
    except ImportError as error:
        raise InputError(f"resampling sound from {stored_rate} to {rate} Hz needs soxr. {INSTALL}") from error
    resampled: np.ndarray = soxr.resample(values, stored_rate, rate)
    return resampled
