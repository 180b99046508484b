"""Notes of the General MIDI instruments of a sound font, rendered by FluidSynth."""

import os
import re
import struct
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from modgap.errors import InputError
from modgap.targets.file_layout import single_file
from modgap.targets.samples import Table
from modgap_zoo import rendering

PROGRAM = "fluidsynth"
SOUND_FONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts")
"""The only folders from which FluidSynth opens a sound font; those into which packages install them."""
SOUND_FONT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.sf[23]")
FAMILIES = (
    "piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe",
    "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects",
)  # fmt: skip
PROGRAMS_PER_FAMILY = 8
N_PROGRAMS = 128
LABELS = ("family", "program", "pitch")
SYNTHESIS_RATE = 48_000
CHANNELS = 2
HELD = 0.8
"""Part of a clip during which the key is held."""
PAUSE = 0.25
"""Seconds of silence after each clip while all notes are rendered as one piece."""
TICKS_PER_SECOND = 1000
TICKS_PER_STEP = 4
"""Notes begin at multiples of so many ticks: FluidSynth starts notes every 64 samples, three times in 4 ms."""


def sample_versions() -> dict[str, str]:
    """Return the versions of the Debian packages of FluidSynth; its program is one of the manifest's files."""
    return rendering.debian_versions(["fluidsynth", "libfluidsynth3"])


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    pitches: Sequence[int],
    velocities: Sequence[int],
    seconds: float,
    rate: int,
    programs: Sequence[int] = tuple(range(N_PROGRAMS)),
    label: Literal["family", "program", "pitch"] = "family",
) -> Table:
    """Describe the notes. All notes of an instrument are rendered when one of them is first read.

    Args:
        files: The program `fluidsynth` under the role `program`, and a sound font in the folder of such a package
            under `sound_font`.
        pitches: Numbers of the MIDI notes; 69 is the A of 440 Hz.
        velocities: Strengths of the key strokes, from 1 to 127.
        seconds: Length of a note in seconds. Its key is held for 80 % of it.
        rate: Sampling rate in hertz.
        programs: Numbers of the General MIDI instruments, from 0 to 127. Eight in a row are a family.
        label: The class of a note: `family`, `program` or `pitch`.

    Returns:
        Samples (1, seconds * rate), mono, with the groups `program`, `pitch` and `velocity`.

    Raises:
        InputError: When an option is not valid, or the program or the sound font is in another folder.
    """
    programs = rendering.whole_numbers("programs", programs, 0, N_PROGRAMS - 1)
    pitches = rendering.whole_numbers("pitches", pitches, 0, 127)
    velocities = rendering.whole_numbers("velocities", velocities, 1, 127)
    rendering.check_number("seconds", seconds, 0.1, 30)
    rendering.check_whole_number("rate", rate, 4_000, SYNTHESIS_RATE)
    rendering.check_choice("label", label, LABELS)
    notes = tuple(product(pitches, velocities))
    rendering.check_rendered_size(len(programs) * len(notes), round(seconds * rate) * np.dtype(np.float32).itemsize)
    synthesizer = rendering.single_program(files, PROGRAM)
    sound_font = single_file(files, "sound_font")
    if str(sound_font.parent) not in SOUND_FONT_FOLDERS or not SOUND_FONT_NAME.fullmatch(sound_font.name):
        raise InputError(
            f"The sound font is {sound_font}. Expected a file such as TimGM6mb.sf2 in "
            f"{' or '.join(SOUND_FONT_FOLDERS)}, because FluidSynth opens only sound fonts that are installed."
        )
    # The rendering of one instrument, before it is resampled, may be larger than all clips.
    rendering.check_rendered_size(len(notes), _frames_per_note(seconds) * CHANNELS * np.dtype(np.float32).itemsize)
    program, note = (part.ravel() for part in np.indices((len(programs), len(notes))))
    numbers = {
        "program": np.array(programs)[program],
        "pitch": np.array(notes)[note, 0],
        "velocity": np.array(notes)[note, 1],
    }
    values = numbers["program"] // PROGRAMS_PER_FAMILY if label == "family" else numbers[label]
    present, labels = np.unique(values, return_inverse=True)
    classes = [FAMILIES[value] if label == "family" else f"{label} {value}" for value in present]
    # Reverberation and chorus would carry one note into the next. The configuration of the user is not read.
    options = ("-n", "-i", "-q", "-f", os.devnull, "-R", "0", "-C", "0", "-g", "0.5", "-r", str(SYNTHESIS_RATE))
    output = ("-O", "float", "-T", "raw", "-E", "little", "-F", "notes.raw", "-o", "synth.cpu-cores=1")
    command = (str(synthesizer), *options, *output, str(sound_font), "notes.mid")
    render = partial(_render, command=command, programs=programs, notes=notes, seconds=float(seconds), rate=int(rate))
    return Table(rendering.RenderedSounds(render, len(programs), len(notes)), labels, classes, None, numbers)


def _render(
    number: int,
    *,
    command: Sequence[str],
    programs: Sequence[int],
    notes: Sequence[tuple[int, int]],
    seconds: float,
    rate: int,
) -> np.ndarray:
    """Return the notes (notes, 1, length) of an instrument.

    Args:
        number: Number of the instrument in `programs`.
        command: Command of FluidSynth, whose last arguments are the sound font and the file of the notes.
        programs: General MIDI numbers of the instruments.
        notes: Pitch and velocity of each note.
        seconds: Length of a note.
        rate: Sampling rate in hertz.
    """
    with tempfile.TemporaryDirectory(prefix="modgap-notes-") as name:
        folder = Path(name)
        (folder / "notes.mid").write_bytes(_midi_file(programs[number], notes, seconds))
        rendering.run_program(command, folder=folder)
        values = np.fromfile(folder / "notes.raw", "<f4")
    n_values = len(notes) * _frames_per_note(seconds) * CHANNELS
    if len(values) < n_values or not np.isfinite(values).all() or not values.any():
        raise InputError(
            f"FluidSynth rendered no sound for the program {programs[number]} of {command[-2]}. Leave out the program, "
            "or choose another sound font."
        )
    pieces = values[:n_values].reshape(len(notes), _frames_per_note(seconds), CHANNELS).mean(axis=2)
    return rendering.fit_length(rendering.resample(pieces, SYNTHESIS_RATE, rate), round(seconds * rate))[:, None]


def _frames_per_note(seconds: float) -> int:
    """Return the number of samples from one note to the next before resampling."""
    return _ticks_per_note(seconds) * SYNTHESIS_RATE // TICKS_PER_SECOND


def _ticks_per_note(seconds: float) -> int:
    """Return the time from one note to the next, so that all notes begin at the start of a step of FluidSynth."""
    return round((seconds + PAUSE) * TICKS_PER_SECOND / TICKS_PER_STEP) * TICKS_PER_STEP


def _midi_file(program: int, notes: Sequence[tuple[int, int]], seconds: float) -> bytes:
    """Return a MIDI file in which an instrument plays notes one after the other, each with a pause after it."""
    held = round(HELD * seconds * TICKS_PER_SECOND)
    slot = _ticks_per_note(seconds)
    silenced = slot - round(PAUSE * TICKS_PER_SECOND / 2)
    # One beat is one second.
    events = b"\x00\xff\x51\x03" + (1_000_000).to_bytes(3, "big") + bytes([0, 0xC0, program])
    wait = 0
    for pitch, velocity in notes:
        events += _variable_length(wait) + bytes([0x90, pitch, velocity])
        events += _variable_length(held) + bytes([0x80, pitch, 0])
        # All sound off, so that no note is heard in the next clip.
        events += _variable_length(silenced - held) + bytes([0xB0, 120, 0])
        wait = slot - silenced
    events += _variable_length(wait + TICKS_PER_SECOND) + b"\xff\x2f\x00"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, TICKS_PER_SECOND, b"MTrk", len(events)) + events


def _variable_length(number: int) -> bytes:
    """Return a number as MIDI files store times: seven bits in a byte, and a mark on all bytes but the last.

    Example:
        >>> _variable_length(200).hex()
        '8148'
    """
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(0x80 | number & 0x7F)
    return bytes(reversed(parts))
