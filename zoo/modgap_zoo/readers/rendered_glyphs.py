"""Pictures of letters, rendered from the files of fonts."""

import io
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from modgap.errors import InputError, format_bytes
from modgap.storage.damaged_files import convert_read_errors
from modgap.targets.samples import ArraySamples, Table
from modgap_zoo.rendering import check_choice, check_rendered_size, check_whole_number, option_error

LABELS = ("letter", "family", "font")
MAX_LETTERS = 10_000
MAX_FONT_BYTES = 64 << 20
SIZES = (8, 1024)
"""Smallest and largest width of a picture in pixels."""
BASELINE = 0.75
"""Height of the line that letters stand on, as a fraction of the picture from its top."""
ABSENT_CHARACTER = "\uffff"
"""A code point that is never a character. Fonts show their sign for absent letters in its place."""
DRAWN_CATEGORIES = "LNPS"
"""First letters of the Unicode categories of letters, numbers, punctuation and symbols."""
WHITE = 255


def sample_versions() -> dict[str, str]:
    """Return the version of FreeType, which draws the letters for Pillow."""
    return {"freetype": str(features.version_module("freetype2"))}


def read(
    files: Mapping[str, Sequence[Path]],
    *,
    letters: str,
    size: int,
    font_size: int,
    label: Literal["letter", "family", "font"] = "letter",
) -> Table:
    """Draw each letter in each font, white on black, with its baseline at three quarters of the picture's height.

    Args:
        files: Files of fonts (TrueType or OpenType) under the role `font`. The family of a font is the part of the
            file's name before the first hyphen.
        letters: The letters as one string.
        size: Width and height of the pictures in pixels.
        font_size: Size of the fonts in pixels.
        label: The class of a picture: `letter`, `family` or `font`.

    Returns:
        Samples (1, size, size) of bytes, with the groups `letter`, `family` and `font`.

    Raises:
        InputError: When an option or a font is not valid, or a letter is absent from a font or does not fit into the
            picture.
    """
    paths = files["font"]
    if (
        not isinstance(letters, str)
        or not 0 < len(letters) <= MAX_LETTERS
        or len(set(letters)) < len(letters)
        or not all(unicodedata.category(letter)[0] in DRAWN_CATEGORIES for letter in letters)
    ):
        raise option_error("letters", letters, f"a string of 1 to {MAX_LETTERS:,} different letters, digits or signs")
    check_whole_number("size", size, *SIZES)
    check_whole_number("font_size", font_size, 4, size)
    check_choice("label", label, LABELS)
    check_rendered_size(len(paths) * len(letters), size * size)
    pictures = [_draw_letters(path, letters, size, font_size) for path in paths]
    names = {
        "letter": list(letters) * len(paths),
        "family": [path.stem.partition("-")[0] for path in paths for _ in letters],
        "font": [path.stem for path in paths for _ in letters],
    }
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names[label]))}
    labels = np.array([numbers[name] for name in names[label]], np.int64)
    groups = {name: np.array(values) for name, values in names.items()}
    return Table(ArraySamples(np.concatenate(pictures)), labels, list(numbers), None, groups)


def _draw(letter: str, font: ImageFont.FreeTypeFont, size: int) -> np.ndarray | None:
    """Return the picture (size, size) of a letter, white on black; None if it does not fit."""
    x = size // 2
    y = round(BASELINE * size)
    left, top, right, bottom = font.getbbox(letter, mode="L", anchor="ms")
    if min(x + left, y + top) < 0 or max(x + right, y + bottom) > size:
        return None
    image = Image.new("L", (size, size))
    ImageDraw.Draw(image).text((x, y), letter, fill=WHITE, font=font, anchor="ms")
    return np.asarray(image)


def _draw_letters(path: Path, letters: str, size: int, font_size: int) -> np.ndarray:
    """Return the pictures (letters, 1, size, size) of a font."""
    with convert_read_errors(path, "a font"):
        if path.stat().st_size > MAX_FONT_BYTES:
            raise InputError(f"The font {path} is larger than {format_bytes(MAX_FONT_BYTES)}, the limit for fonts.")
        # Pillow would replace a damaged file by an installed font of the same name, so it does not learn the name.
        content = io.BytesIO(path.read_bytes())
        font = ImageFont.truetype(content, font_size, layout_engine=ImageFont.Layout.BASIC)
        absent = _draw(ABSENT_CHARACTER, font, size)
        pictures = []
        for letter in letters:
            picture = _draw(letter, font, size)
            if picture is None:
                raise InputError(
                    f"The letter {letter!r} of the font {path} does not fit into {size} x {size} pixels. Choose a "
                    f"font_size below {font_size}, or leave out the font."
                )
            if not picture.any() or (absent is not None and np.array_equal(picture, absent)):
                raise InputError(f"The font {path} has no letter {letter!r}. Leave out the letter or the font.")
            pictures.append(picture)
    return np.stack(pictures)[:, None]
