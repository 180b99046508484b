"""Sound files as waveforms at one rate, decoded when they are asked for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap.errors import InputError, first_line

__all__ = ["SUFFIXES", "SoundFiles", "file_rate", "waveform"]

SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".wav"})
INSTALL = "install them with: pip install 'modgap[audio]'"


@dataclass(frozen=True)
class SoundFiles:
    """Clips (1, length), float32, mono.

    Attributes:
        clips: Files of each clip; several are its overlapping pieces, in order.
        rate: Values a second, to which other files are resampled.
        overlap: Seconds that a piece shares with the next one.
    """

    clips: tuple[tuple[str, ...], ...]
    rate: int
    overlap: float = 0.0

    def __len__(self) -> int:
        """How many clips there are."""
        return len(self.clips)

    def __getitem__(self, index: int) -> np.ndarray:
        """One clip; what a piece shares with the next one is taken from the next one."""
        pieces = [waveform(Path(path), self.rate) for path in self.clips[index]]
        shared = round(self.overlap * self.rate)
        kept = [piece[: max(len(piece) - shared, 0)] for piece in pieces[:-1]]
        return np.concatenate([*kept, pieces[-1]])[None]


def waveform(path: Path, rate: int) -> np.ndarray:
    """One file's sound, (length,) float32: the mean of its channels, at this rate.

    Raises:
        InputError: When a library is missing, or the file is no sound, empty, or not finite.
    """
    soundfile = _library()
    try:
        values, own = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot read sound {path}: {first_line(error)}") from error
    if len(values) == 0 or not np.isfinite(values).all():
        raise InputError(f"expected finite sound in {path}, got {'none' if len(values) == 0 else 'NaN or infinities'}")
    mono = values.mean(axis=1)
    return mono if own == rate else _resampled(mono, own, rate)


def file_rate(path: Path) -> int:
    """Values a second in a sound file, from its header.

    Raises:
        InputError: When the library is missing or the file is no sound.
    """
    try:
        return int(_library().info(str(path)).samplerate)
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot read sound {path}: {first_line(error)}") from error


def _library():
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise InputError(f"reading sound needs soundfile and soxr; {INSTALL}") from error
    return soundfile


def _resampled(values: np.ndarray, own: int, rate: int) -> np.ndarray:
    try:
        import soxr
    except ImportError as error:
        raise InputError(f"resampling sound from {own} to {rate} Hz needs soxr; {INSTALL}") from error
    return soxr.resample(values, own, rate)
