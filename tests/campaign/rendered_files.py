"""Small fonts and manifests for the readers that render samples, and the functions that read them completely.

The programs themselves are not started: a manifest whose options are accepted is rendered by a stand-in.
"""

import io
from pathlib import Path

from tests.campaign.reader_files import Maker, Reader, beside, read_with
from tests.campaign.seed_files import make_file, read_target

__all__ = ["READERS", "write_font"]


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


_GLYPHS = '{ letters = "abc", size = 24, font_size = 16, label = "letter" }'
_FONT = '[[files]]\nrole = "font"\npath = "Small-Regular.ttf"\n'
_FONT_FILE = read_with("rendered_glyphs", beside(font="Small-Regular.ttf"), letters="abc", size=24, font_size=16)
READERS: list[tuple[str, Maker, Reader]] = [
    ("font", font, _FONT_FILE),
    ("rendered_glyphs options", options_of("rendered_glyphs", "image", _GLYPHS, _FONT), read_target),
]
"""Name of the campaign, maker and reader of each."""
