"""Small fonts and manifests for the readers that render samples, and the functions that read them completely.

The programs themselves are not started: a manifest whose options are accepted is rendered by a stand-in.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np

from tests.campaign.reader_files import Maker, Reader, beside, read_with
from tests.campaign.seed_files import make_file, read_target
from tests.fixtures.audio import wav

LANGUAGES = (
    b"Pty Language Age/Gender VoiceName File Other\n 5 de --/M German gmw/de\n 5 fr-fr --/M French roa/fr (fr 5)\n"
)
"""Languages of eSpeak NG, as it lists them."""


def write_font(path: Path, letters: str) -> None:
    """Write a font that has only some letters, from the one that is part of matplotlib."""
    from fontTools import subset
    from matplotlib import get_data_path

    options = subset.Options(layout_features=[], hinting=False, notdef_outline=True, drop_tables=["FFTM"])
    font = subset.load_font(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=letters)
    subsetter.subset(font)
    content = io.BytesIO()
    font.save(content)
    path.write_bytes(content.getvalue())


def font(folder: Path) -> Path:
    path = make_file(folder, "Small-Regular.ttf")
    write_font(path, "abc")
    return path


def options_of(name: str, kind: str, options: str, files: str) -> Maker:
    def make(folder: Path) -> Path:
        font(folder)
        path = make_file(folder, "mine.toml")
        # The options are in the first bytes, which are changed most often.
        path.write_text(
            f'reader.options = {options}\nreader.name = "{name}"\nschema = 1\nname = "mine"\ntitle = "Mine"\n'
            f'modality = "x"\ntask = "classification"\ninput.kind = "{kind}"\n{files}'
        )
        return path

    return make


def render(command: Sequence[str], *, folder: Path = Path("/"), text: str = "") -> bytes:
    """Return what a program would, without starting it: a list of languages, a spoken text, or a file of notes."""
    if "--voices" in command:
        return LANGUAGES
    if (folder / "notes.mid").exists():
        np.full(1 << 19, 0.5, "<f4").tofile(folder / "notes.raw")
        return b""
    return wav(np.full(len(text), 0.5), 22_050)


def read_rendered(path: Path) -> object:
    """Read some samples of a manifest as if its program and its sound font were installed."""
    from modgap.targets import Target, load_manifest

    program = Path("/usr/bin")
    files = {"sound_font": [Path("/usr/share/sounds/sf2/TimGM6mb.sf2")]}
    manifest = load_manifest(path)
    name = "fluidsynth" if manifest.reader.name == "rendered_notes" else "espeak-ng"
    with mock.patch("modgap_zoo.rendering.run_program", render):
        table = Target(manifest, {**files, "program": [program / name]}).read_originals()
        return [table.samples[number] for number in range(min(len(table), 5))]


_GLYPHS = '{ letters = "abc", size = 24, font_size = 16, label = "letter" }'
_NOTES = '{ pitches = [60, 69], velocities = [90], programs = [0, 8], seconds = 0.5, rate = 8000, label = "family" }'
_SPEECH = (
    '{ languages = ["de", "fr"], texts = ["1", "27"], voices = ["m1", "f2"], seconds = 0.5, rate = 8000, '
    'speeds = [140, 175], pitches = [40], label = "language" }'
)
_FONT = '[[files]]\nrole = "font"\npath = "Small-Regular.ttf"\n'
_FONT_FILE = read_with("rendered_glyphs", beside(font="Small-Regular.ttf"), letters="abc", size=24, font_size=16)
READERS: list[tuple[str, Maker, Reader]] = [
    ("font", font, _FONT_FILE),
    ("rendered_glyphs options", options_of("rendered_glyphs", "image", _GLYPHS, _FONT), read_target),
    ("rendered_notes options", options_of("rendered_notes", "audio", _NOTES, ""), read_rendered),
    ("rendered_speech options", options_of("rendered_speech", "audio", _SPEECH, ""), read_rendered),
]
"""Name of the campaign, maker and reader of each."""
