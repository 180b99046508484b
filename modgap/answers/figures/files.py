"""Files of result figures: a figure that cannot be drawn or saved is a warning, because the results are there."""

import io
import logging
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure

from modgap.answers.figures.style import DPI, drawing_settings
from modgap.errors import first_line, named
from modgap.storage.atomic_files import atomic_path, write_text_atomically

if TYPE_CHECKING:
    import pandas as pd

COLORS_IN_PNG = 256

Result = TypeVar("Result")

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class ResultFigure:
    """A figure of a result that is still to be drawn.

    Attributes:
        name: Name of the figure and of its files, without a suffix.
        frame: Function that returns the data frame that is drawn.
        draw: Function that returns the figure. It takes the axes of a user as `ax` if the figure has one panel.
        caption: Function that returns the caption in whole sentences.
    """

    name: str
    frame: Callable[[], "pd.DataFrame"]
    draw: Callable[..., Figure]
    caption: Callable[[], str]


def result_figure(
    name: str,
    result: Result,
    frame: Callable[[Result], "pd.DataFrame"],
    draw: Callable[..., Figure],
    caption: Callable[[Result], str],
) -> ResultFigure:
    """Return a figure whose functions take nothing but the result."""
    return ResultFigure(name, partial(frame, result), partial(draw, result), partial(caption, result))


def figure_named(figures: Iterable[ResultFigure], name: str) -> ResultFigure:
    """Return the figure with a name.

    Raises:
        UsageError: If there is none. The message names those that there are.
    """
    return named("figure", name, {figure.name: figure for figure in figures})


def write_figures(figures: Iterable[ResultFigure], folder: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Draw figures and write their files. A figure that fails is a warning, and the others are drawn.

    Args:
        figures: The figures.
        folder: An existing folder, which has the results already.
        formats: Formats of the figures: some of `png`, `svg` and `pdf`.

    Returns:
        The paths of the figures, without the captions.
    """
    written = []
    for planned in figures:
        try:
            written += save_figure(planned.draw(), folder / planned.name, planned.caption(), formats)
        except Exception as error:  # Drawing libraries can fail in any way, and the results are more than a figure.
            reason = f"{type(error).__name__}: {first_line(error)}"
            log.warning("The figure %s was not drawn (%s). All results are complete.", planned.name, reason)
    return written


def save_figure(figure: Figure, path: Path, caption: str = "", formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write a figure in each format, and its caption as a text file beside it, each file complete or not at all.

    Args:
        figure: The figure.
        path: Path without a suffix.
        caption: Caption in whole sentences; empty for none.
        formats: Some of `png` (256 colors), `svg` (with searchable text) and `pdf`.

    Returns:
        The paths of the figures, without the caption's.
    """
    from PIL import Image

    written = []
    for name in formats:
        target = path.with_name(f"{path.name}.{name}")
        with mpl.rc_context(drawing_settings()), atomic_path(target) as temporary:
            if name == "png":
                drawn = io.BytesIO()
                figure.savefig(drawn, format="png", dpi=DPI)
                image = Image.open(drawn).convert("RGB").quantize(COLORS_IN_PNG, dither=Image.Dither.NONE)
                image.save(temporary, format="PNG", optimize=True)
            else:
                figure.savefig(temporary, format=name, metadata={"Date": None} if name == "svg" else None)
        written.append(target)
    if caption:
        write_text_atomically(path.with_name(f"{path.name}.txt"), textwrap.fill(caption, 100) + "\n")
    return written
