"""Sound files as waveforms at one sampling rate, decoded when they are read."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from modgap.errors import InputError, first_line
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS

__all__ = ["SUFFIXES", "SoundFiles", "common_rate", "file_rate", "waveform"]

SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".wav"})
log = logging.getLogger("modgap")

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


def waveform(path: Path, rate: int) -> np.ndarray:
    """Return the mean of a file's channels at a sampling rate, shape (length,), float32.

    Args:
        path: Sound file.
        rate: Sampling rate in hertz.

    Raises:
        InputError: When a library is missing, or the file is not a sound file, empty, or not finite.
    """
    soundfile = _import_soundfile()
    try:
        values, stored_rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except DAMAGED_FILE_ERRORS as error:
        raise InputError(f"cannot read sound {path}: {first_line(error)}") from error
    if len(values) == 0 or not np.isfinite(values).all():
        raise InputError(f"expected finite sound in {path}, got {'none' if len(values) == 0 else 'NaN or infinities'}")
    mono: np.ndarray = values.mean(axis=1)
    return mono if stored_rate == rate else _resample(mono, stored_rate, rate)


def file_rate(path: Path) -> int:
    """Return the sampling rate of a sound file in hertz, from its header.

    Raises:
        InputError: When the library is missing or the file is not a sound file.
    """
    try:
        return int(_import_soundfile().info(str(path)).samplerate)
    except DAMAGED_FILE_ERRORS as error:
        raise InputError(f"cannot read sound {path}: {first_line(error)}") from error


def common_rate(paths: Sequence[Path]) -> int:
    """Return the sampling rate of most sound files in hertz, the higher one of two; log it if the rates differ.

    Raises:
        InputError: When the library is missing or a file is not a sound file.
    """
    counts = Counter(file_rate(path) for path in paths)
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
