"""Short texts spoken by the synthesizer eSpeak NG in several languages and voices."""

import struct
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from modgap.errors import InputError, unknown_name
from modgap.targets.samples import Table
from modgap_zoo import rendering

PROGRAM = "espeak-ng"
VOICES = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")
LABELS = ("language", "text", "voice")
MAX_TEXT = 60
MAX_TEXTS = 10_000
SPOKEN_CATEGORIES = "LMN"
"""First letters of the Unicode categories of letters, their marks, and digits."""
SPOKEN_SIGNS = " '-,."
WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
PEAK = 32768


def sample_versions() -> dict[str, str]:
    """Return the versions of the Debian packages of eSpeak NG; its program is one of the manifest's files."""
    return rendering.debian_versions(["espeak-ng", "espeak-ng-data", "libespeak-ng1"])


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    languages: Sequence[str],
    texts: Sequence[str],
    voices: Sequence[str],
    seconds: float,
    rate: int,
    speeds: Sequence[int] = (175,),
    pitches: Sequence[int] = (50,),
    label: Literal["language", "text", "voice"] = "language",
) -> Table:
    """Describe the clips: each text in each language, voice, speed and pitch. A clip is spoken when it is first read.

    Args:
        files: The program `espeak-ng` under the role `program`.
        languages: Names of languages, such as `de` or `en-US`: what follows the slash in the column File of
            `espeak-ng --voices`.
        texts: The texts. Numbers in digits are read in each language.
        voices: Variants of the voice, from `m1` to `m8` and from `f1` to `f5`.
        seconds: Length of a clip in seconds. Longer speech is cut, and silence is added to shorter speech.
        rate: Sampling rate in hertz.
        speeds: Speeds in words per minute, from 80 to 450.
        pitches: Pitches of the voice, from 0 to 99.
        label: The class of a clip: `language`, `text` or `voice`.

    Returns:
        Samples (1, seconds * rate), mono, with the groups `language`, `text` and `voice`.

    Raises:
        InputError: When an option is not valid, or the program fails or is in another folder.
    """
    rendering.check_number("seconds", seconds, 0.1, 30)
    rendering.check_whole_number("rate", rate, 4_000, 48_000)
    rendering.check_choice("label", label, LABELS)
    _check_texts(texts)
    voices = rendering.different_names("voices", voices)
    for voice in voices:
        rendering.check_choice("voices", voice, VOICES)
    speeds = rendering.whole_numbers("speeds", speeds, 80, 450)
    pitches = rendering.whole_numbers("pitches", pitches, 0, 99)
    program = rendering.single_program(files, PROGRAM)
    languages = _check_languages(rendering.different_names("languages", languages), program)
    n_clips = len(languages) * len(voices) * len(texts) * len(speeds) * len(pitches)
    rendering.check_rendered_size(n_clips, round(seconds * rate) * np.dtype(np.float32).itemsize)
    clips = tuple(product(languages, voices, texts, speeds, pitches))
    columns = dict(zip(("language", "voice", "text"), zip(*clips, strict=True), strict=False))
    groups = {name: np.array(columns[name]) for name in LABELS}
    classes = {"language": languages, "text": texts, "voice": voices}[label]
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in groups[label]], np.int64)
    speak = partial(_speak, program=program, clips=clips, seconds=float(seconds), rate=rate)
    return Table(rendering.RenderedSounds(speak, n_clips, 1), labels, list(classes), None, groups)


def _check_texts(texts: object) -> None:
    if not isinstance(texts, list | tuple) or not 0 < len(texts) <= MAX_TEXTS or not all(map(_is_speakable, texts)):
        raise rendering.option_error(
            "texts", texts, f"a list of texts of 1 to {MAX_TEXT} letters, digits, spaces, hyphens, commas and periods"
        )
    if len(set(texts)) < len(texts):
        raise rendering.option_error("texts", texts, "a list of different texts")


def _is_speakable(text: object) -> bool:
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT or not any(map(str.isalnum, text)):
        return False
    return all(unicodedata.category(sign)[0] in SPOKEN_CATEGORIES or sign in SPOKEN_SIGNS for sign in text)


def _check_languages(languages: tuple[str, ...], program: Path) -> tuple[str, ...]:
    """Return the languages if eSpeak NG has a file for each of them.

    Names that are not those of files, such as fr-fr, are languages too, but have the same voice in all variants.
    """
    lines = rendering.run_program([str(program), "--voices"]).decode(errors="replace").splitlines()[1:]
    voices = {fields[4].rpartition("/")[2] for line in lines if len(fields := line.split()) > 4}
    for language in languages:
        if language not in voices:
            raise unknown_name("language", language, voices)
    return languages


def _speak(
    number: int, *, program: Path, clips: Sequence[tuple[str, str, str, int, int]], seconds: float, rate: int
) -> np.ndarray:
    """Return one clip (1, 1, length).

    Args:
        number: Number of the clip.
        program: Path of eSpeak NG.
        clips: Language, voice, text, speed and pitch of each clip.
        seconds: Length of a clip.
        rate: Sampling rate in hertz.
    """
    language, voice, text, speed, pitch = clips[number]
    # Without -D some voices have random noise. The text is no argument, so it cannot be an option.
    command = [str(program), "-D", "-z", "-b", "1", "-v", f"{language}+{voice}"]
    command += ["-s", str(speed), "-p", str(pitch), "--stdin", "--stdout"]
    values, spoken_rate = _parse_wav(rendering.run_program(command, text=text))
    if not values.any():
        raise InputError(
            f"eSpeak NG spoke nothing for the text {text!r} in the language {language}. Leave out the text or the "
            "language."
        )
    return rendering.fit_length(rendering.resample(values, spoken_rate, rate), round(seconds * rate))[None, None]


def _parse_wav(content: bytes) -> tuple[np.ndarray, int]:
    """Return the waveform (length,) from -1 to 1 and its rate; the length in the header of a stream is not true."""
    if len(content) < WAV_HEADER.size:
        return np.zeros(0), 1
    header = WAV_HEADER.unpack_from(content)
    (riff, _, wave, _, _, _, channels, rate, _, _, bits, data, _) = header
    if (riff, wave, data, channels, bits) != (b"RIFF", b"WAVE", b"data", 1, 16) or rate == 0:
        raise InputError("eSpeak NG wrote another format than mono sound of 16 bits. Install version 1.52 of it.")
    n_values = (len(content) - WAV_HEADER.size) // 2
    return np.frombuffer(content, "<i2", n_values, WAV_HEADER.size) / PEAK, rate
