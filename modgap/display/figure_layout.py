"""Layout that result figures share: sizes, title and subtitle, fonts, and drawable names."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLORS",
    "LINE_STYLES",
    "MARGIN",
    "WIDTH",
    "Ink",
    "draw_title",
    "drawable_names",
    "drawing_settings",
    "figure_below_title",
    "fit_names",
    "name_in_title",
    "result_figure",
    "series_style",
    "shorten_names",
    "style_lines_axes",
    "styled",
    "text_width",
    "wrap_text",
]

WIDTH = 7.0
"""Width of a figure in inches."""
DPI = 200
MARGIN = 0.14
"""Space between the edge of a figure and its text, in inches."""
TITLE_SIZE = 12.0
TITLE_LINE = 0.21
SUBTITLE_SIZE = 8.5
SUBTITLE_LINE = 0.17
TITLE_NAME_CHARACTERS = 32
SHORTEST_NAME = 6
FONTS = ("DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Noto Sans Devanagari", "Noto Naskh Arabic")

COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#C4B000", "#999999", "#882255",
)  # fmt: skip
"""Colors of many classes or series: those of Okabe and Ito, a yellow that is visible on white, gray and wine."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


class Ink:
    """Colors by role; the hues are those of Okabe and Ito."""

    SOURCE = "#0072B2"
    CONTROL = "#6B6B6B"
    FAINT_CONTROL = "#8F8F8F"
    NULL_BAND = "#BFBFBF"
    BASELINE = "#6B6B6B"
    ERROR = "#D55E00"
    ERROR_TEXT = "#B84A00"
    SECOND = "#009E73"
    SECOND_TEXT = "#007A58"
    THIRD = "#CC79A7"
    THIRD_TEXT = "#A3517E"
    TITLE = "#1A1A1A"
    TEXT = "#333333"
    SECONDARY = "#6B6B6B"
    GRID = "#EEEEEE"
    AXIS = "#BDBDBD"
    RANKS = ("#9CC4DE", "#C3DBEA", "#E1EDF4", "#F3F3F3")


LINE_STYLES = (
    (Ink.SOURCE, Ink.SOURCE, "o"),
    (Ink.ERROR, Ink.ERROR_TEXT, "s"),
    (Ink.SECOND, Ink.SECOND_TEXT, "^"),
    (Ink.THIRD, Ink.THIRD_TEXT, "D"),
)
"""Color, color of the label and marker of the first lines; further ones are gray."""


def series_style(number: int) -> tuple[str, str]:
    """Return the color and the marker of a series; a combination is repeated only after 110 series.

    Args:
        number: Number of the series, from 0.
    """
    return COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]


def styled(draw: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Make a function draw with modgap's fonts and without markup in names."""

    @wraps(draw)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        with mpl.rc_context(drawing_settings()):
            return draw(*args, **kwargs)

    return wrapper


def drawing_settings() -> dict[Any, Any]:
    """Return the settings of matplotlib with which figures are drawn and saved."""
    return {
        "font.family": list(_installed_fonts()),
        "font.size": 8.5,
        "text.parse_math": False,
        "text.color": Ink.TEXT,
        "axes.edgecolor": Ink.AXIS,
        "axes.labelcolor": Ink.TEXT,
        "xtick.color": Ink.AXIS,
        "xtick.labelcolor": Ink.TEXT,
        "ytick.labelcolor": Ink.TEXT,
        "svg.fonttype": "none",
        "svg.hashsalt": "modgap",
        "pdf.fonttype": 42,
    }


@cache
def _installed_fonts() -> tuple[str, ...]:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in FONTS if name in installed)


@cache
def _drawable_characters() -> frozenset[int]:
    from matplotlib import font_manager

    paths = [font_manager.findfont(name) for name in _installed_fonts()]
    return frozenset(code for path in paths for code in font_manager.get_font(path).get_charmap())


def drawable_names(names: Sequence[str], kind: str = "class") -> list[str]:
    """Return the names with those that the fonts cannot draw replaced by the kind and the number, as in `class 3`."""
    characters = _drawable_characters()
    return [
        name if name.strip() and all(ord(c) in characters and c.isprintable() for c in name) else f"{kind} {number}"
        for number, name in enumerate(names)
    ]


def shorten_names(names: Sequence[str], limit: int) -> list[str]:
    """Shorten names to a number of characters so that they stay different.

    The ellipsis stands at the end, in the middle or at the start, whichever first keeps all names different. If none
    does, the number of the name stands before it.

    Example:
        >>> shorten_names(["convolution one", "convolution two"], 8)
        ['conv…one', 'conv…two']
    """
    half = limit // 2
    ways: tuple[Callable[[str], str], ...] = (
        lambda name: f"{name[: limit - 1]}…",
        lambda name: f"{name[:half]}…{name[len(name) - (limit - half - 1) :]}",
        lambda name: f"…{name[len(name) - limit + 1 :]}",
    )
    for shorten in ways:
        shortened = [name if len(name) <= limit else shorten(name) for name in names]
        if len(set(shortened)) == len(set(names)):
            return shortened
    return [name if len(name) <= limit else f"{number}: {name}"[:limit] for number, name in enumerate(names)]


def name_in_title(name: str, kind: str) -> str:
    """Return a name as titles show it: drawable, and at most 32 characters long.

    Args:
        name: The name.
        kind: Word that replaces a name that the fonts cannot draw, such as `source`.
    """
    return shorten_names([f"the {kind}" if drawable_names([name]) != [name] else name], TITLE_NAME_CHARACTERS)[0]


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]


@lru_cache(maxsize=10_000)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the width of one line of text in inches.

    Args:
        text: The text, without line breaks.
        size: Font size in points.
        bold: True for bold type.
    """
    font = FontProperties(family=list(_installed_fonts()), size=size, weight="bold" if bold else "normal")
    width, _, _ = _renderer().get_text_width_height_descent(text, font, ismath=False)  # type: ignore[no-untyped-call]
    return float(width) / DPI


def fit_names(names: Sequence[str], width: float, size: float, bold: bool = False) -> list[str]:
    """Shorten names until the widest fits, so that they stay different.

    Args:
        names: The names, which the fonts can draw.
        width: Space for a name in inches.
        size: Font size in points.
        bold: True for bold type.
    """
    # No letter that is common in names is narrower than a fifth of the font size.
    limit = min(max(map(len, names), default=0), max(SHORTEST_NAME, int(width * 72 / (0.2 * size))))
    shortened = shorten_names(names, limit)
    while limit > SHORTEST_NAME and max((text_width(name, size, bold) for name in shortened), default=0) > width:
        limit -= 1
        shortened = shorten_names(names, limit)
    return shortened


def wrap_text(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """Break text into lines between words; a word that is wider than a line is cut with an ellipsis.

    Args:
        text: The text.
        width: Width of a line in inches.
        size: Font size in points.
        bold: True for bold type.
    """
    lines: list[str] = []
    for word in text.split():
        short = fit_names([word], width, size, bold)[0]
        if lines and text_width(f"{lines[-1]} {short}", size, bold) <= width:
            lines[-1] += f" {short}"
        else:
            lines.append(short)
    return lines or [""]


def result_figure(
    title: str, subtitle: str, height: float, left: float, right: float = 0.25, head: float = 0.0
) -> tuple[Figure, "Axes"]:
    """Return a figure with title and subtitle, and one pair of axes with a horizontal error axis below them.

    Args:
        title: The finding, in one sentence.
        subtitle: What was measured, on what, and with how many samples.
        height: Height of the axes in inches.
        left: Space for names left of the axes, in inches.
        right: Space right of the axes, in inches.
        head: Space above the axes for labels, in inches.
    """
    bottom = 0.52
    figure, _ = figure_below_title(title, subtitle, head + height + bottom)
    total = figure.get_figheight()
    draw_title(figure, title, subtitle)
    axes = figure.add_axes((left / WIDTH, bottom / total, (WIDTH - left - right) / WIDTH, height / total))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color=Ink.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks([])
    return figure, axes


def figure_below_title(title: str, subtitle: str, height: float) -> tuple[Figure, float]:
    """Return a figure with space for title and subtitle, and the height of this space in inches.

    Args:
        title: The finding, in one sentence.
        subtitle: What was measured, on what, and with how many samples.
        height: Height of the figure below title and subtitle, in inches.
    """
    top = MARGIN + TITLE_LINE * len(_title_lines(title)) + SUBTITLE_LINE * len(_subtitle_lines(subtitle)) + 0.22
    return Figure(figsize=(WIDTH, top + height), dpi=DPI, facecolor="white"), top


def style_lines_axes(axes: "Axes") -> None:
    """Show only the horizontal axis and a faint horizontal grid, for lines over epochs or sample sizes."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y", color=Ink.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _title_lines(title: str) -> list[str]:
    """Return the lines of a title; a title that needs several lines is broken after a semicolon if it has one."""
    width = WIDTH - 2 * MARGIN
    lines = wrap_text(title, width, TITLE_SIZE, bold=True)
    first, separator, rest = title.partition("; ")
    if len(lines) == 1 or not separator:
        return lines
    clauses = [f"{first};", rest]
    return [line for clause in clauses for line in wrap_text(clause, width, TITLE_SIZE, bold=True)]


def _subtitle_lines(subtitle: str) -> list[str]:
    return wrap_text(subtitle, WIDTH - 2 * MARGIN, SUBTITLE_SIZE)


def draw_title(figure: Figure, title: str, subtitle: str) -> None:
    """Draw the bold title and the gray subtitle below it, flush left, each on as many lines as it needs."""
    height = figure.get_figheight()
    y = height - MARGIN
    for line in _title_lines(title):
        figure.text(MARGIN / WIDTH, y / height, line, size=TITLE_SIZE, weight="bold", color=Ink.TITLE, va="top")
        y -= TITLE_LINE
    y -= 0.05
    for line in _subtitle_lines(subtitle):
        figure.text(MARGIN / WIDTH, y / height, line, size=SUBTITLE_SIZE, color=Ink.SECONDARY, va="top")
        y -= SUBTITLE_LINE
