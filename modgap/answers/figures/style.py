"""The style of all figures: seaborn's paper context with modgap's colors, fonts, sizes, titles and drawable names."""

import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, wraps
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 7.0
"""Width of a figure in inches."""
DPI = 200
MARGIN = 0.14
"""Space between the edge of a figure and its text, in inches."""
BELOW_AXES = 0.52
"""Height of the labels of a horizontal axis in inches."""
PADDING = 0.06
"""Space around each panel in inches."""
TITLE_SIZE = 12.0
TITLE_LINE = 0.21
SUBTITLE_SIZE = 8.5
SUBTITLE_LINE = 0.17
"""Font sizes in points, and heights of a line in inches."""
TITLE_NAME_CHARACTERS = 32
SHORTEST_NAME = 6
"""Most characters of a name in a title, and fewest to which a name is shortened."""
FONTS = ("DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Noto Sans Devanagari", "Noto Naskh Arabic")

COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#C4B000", "#999999", "#882255",
)  # fmt: skip
"""Colors of many classes: those of Okabe and Ito, a yellow that is visible on white, gray and wine."""
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


class Series(NamedTuple):
    """The style of a series: color, color of its label, marker (empty for a line alone), and width of its line."""

    color: str
    text_color: str
    marker: str
    width: float = 2.0
    is_open: bool = False


SERIES = (
    Series(Ink.SOURCE, Ink.SOURCE, "o"),
    Series(Ink.ERROR, Ink.ERROR_TEXT, "s"),
    Series(Ink.SECOND, Ink.SECOND_TEXT, "^"),
    Series(Ink.THIRD, Ink.THIRD_TEXT, "D"),
)
"""Styles of the first lines of a figure; further ones are gray."""
BASELINE_STYLE: dict[str, Any] = {"color": Ink.BASELINE, "linestyle": (0, (4, 3)), "linewidth": 1.1, "zorder": 1}
"""Style of lines at a level without knowledge."""


def drawing_settings() -> dict[Any, Any]:
    """Return the settings of matplotlib with which figures are drawn and saved: seaborn's for print, and modgap's."""
    import seaborn

    return {
        **seaborn.plotting_context("paper"),
        **seaborn.axes_style("whitegrid"),
        "font.family": list(_installed_fonts()),
        **dict.fromkeys(("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize"), 8.5),
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), Ink.TEXT),
        **dict.fromkeys(("axes.edgecolor", "xtick.color"), Ink.AXIS),
        "grid.color": Ink.GRID,
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "modgap",
        "pdf.fonttype": 42,
    }


def styled(draw: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Make a function draw with modgap's settings and without markup in names."""

    @wraps(draw)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        with mpl.rc_context(drawing_settings()):
            return draw(*args, **kwargs)

    return wrapper


def panel(title: str, subtitle: str, height: float, ax: "Axes | None" = None) -> "Axes":
    """Return the axes of a figure of one panel: new ones below title and subtitle, or those of the user.

    The space around new axes follows from the text beside them. Axes of the user get the finding as their title.

    Args:
        title: The finding, in one sentence.
        subtitle: What was measured, on what, and with how many samples.
        height: Height of new axes with the text below them, in inches.
        ax: Axes of the user. None for a new figure.
    """
    if ax is None:
        return panels(title, subtitle, height)[0]
    # A layout takes up to a quarter of the width for the text beside the axes.
    lines = wrap_text(title, 0.75 * size_in_inches(ax)[0], 9.5, bold=True)
    ax.set_title("\n".join(lines), loc="left", fontsize=9.5, fontweight="bold", color=Ink.TITLE, parse_math=False)
    return ax


def panels(
    title: str, subtitle: str, height: float, count: int = 1, columns: int = 1, *, sharey: bool = False
) -> "list[Axes]":
    """Return the axes of a new figure of several panels below title and subtitle.

    Args:
        title: The finding, in one sentence.
        subtitle: What was measured, on what, and with how many samples.
        height: Height of all panels with the text around them, in inches.
        count: Number of panels.
        columns: Number of panels side by side.
        sharey: True for panels with one vertical axis.
    """
    figure, top = figure_below_title(title, subtitle, height)
    draw_title(figure, title, subtitle)
    side = (MARGIN - PADDING) / WIDTH
    rect = (side, 0.0, 1 - 2 * side, 1 - (top - 0.1) / figure.get_figheight())
    figure.set_layout_engine("constrained", rect=rect, w_pad=PADDING, h_pad=PADDING)
    axes = figure.subplots(-(-count // columns), columns, squeeze=False, sharey=sharey).ravel().tolist()
    for unused in axes[count:]:
        unused.remove()
    return list(axes[:count])


def figure_of(ax: "Axes") -> Figure:
    """Return the figure of axes, which may lie in a part of it."""
    figure = ax.figure
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def size_in_inches(ax: "Axes") -> tuple[float, float]:
    """Return the width and the height of axes after the layout of their figure."""
    figure = figure_of(ax)
    figure.draw_without_rendering()
    box = ax.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    return float(box.width), float(box.height)


def style_axes(ax: "Axes", grid: Literal["x", "y"]) -> None:
    """Show only the horizontal axis, and a faint grid across the axis `grid`, which is `x` or `y`."""
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(visible=False, axis="both")
    ax.grid(axis=grid, color=Ink.GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", bottom=True, length=3, width=0.8)


@cache
def _installed_fonts() -> tuple[str, ...]:
    installed = {font.name for font in fontManager.ttflist}
    return tuple(name for name in FONTS if name in installed)


@cache
def _drawable_characters() -> frozenset[int]:
    return frozenset(code for name in _installed_fonts() for code in get_font(findfont(name)).get_charmap())


def _drawable_names(names: Sequence[str], kind: str) -> list[str]:
    """Return the names with those that the fonts cannot draw replaced by the kind and the number, as in `class 3`."""
    characters = _drawable_characters()

    def is_drawable(name: str) -> bool:
        visible = name.replace("\N{NO-BREAK SPACE}", " ")
        return bool(visible.strip()) and visible.isprintable() and all(ord(c) in characters for c in visible)

    return [name if is_drawable(name) else f"{kind} {number}" for number, name in enumerate(names)]


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
    is_drawable = _drawable_names([name], kind) == [name]
    return shorten_names([name if is_drawable else f"the {kind}"], TITLE_NAME_CHARACTERS)[0]


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, DPI)


@lru_cache(maxsize=10_000)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the width of one line of text in inches.

    Args:
        text: The text, without line breaks.
        size: Font size in points.
        bold: True for bold type.
    """
    font = FontProperties(family=list(_installed_fonts()), size=size, weight="bold" if bold else "normal")
    width, _, _ = _renderer().get_text_width_height_descent(text, font, ismath=False)
    return float(width) / DPI


def fit_names(names: Sequence[str], kind: str, width: float, size: float, bold: bool = False) -> list[str]:
    """Return names that the fonts can draw, shortened until the widest fits, so that they stay different.

    Args:
        names: The names.
        kind: Word for a thing with such a name, which stands for a name that cannot be drawn, as in `class 3`.
        width: Space for a name in inches.
        size: Font size in points.
        bold: True for bold type.
    """
    names = _drawable_names(names, kind)
    # No letter that is common in names is narrower than a fifth of the font size.
    limit = min(max(map(len, names), default=0), max(SHORTEST_NAME, int(width * 72 / (0.2 * size))))
    shortened = shorten_names(names, limit)
    while limit > SHORTEST_NAME and max((text_width(name, size, bold) for name in shortened), default=0) > width:
        limit -= 1
        shortened = shorten_names(names, limit)
    return shortened


def wrap_text(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """Break text into lines between words; a word that is wider than a line is cut with an ellipsis.

    A no-break space does not separate words.

    Args:
        text: The text.
        width: Width of a line in inches.
        size: Font size in points.
        bold: True for bold type.
    """
    lines: list[str] = []
    for word in re.findall(r"\S+", text, re.ASCII):
        short = fit_names([word], "word", width, size, bold)[0]
        if lines and text_width(f"{lines[-1]} {short}", size, bold) <= width:
            lines[-1] += f" {short}"
        else:
            lines.append(short)
    return lines or [""]


def figure_below_title(title: str, subtitle: str, height: float) -> tuple[Figure, float]:
    """Return a figure with space for title and subtitle, and the height of this space in inches.

    Args:
        title: The finding, in one sentence.
        subtitle: What was measured, on what, and with how many samples.
        height: Height of the figure below title and subtitle, in inches.
    """
    top = MARGIN + TITLE_LINE * len(title_lines(title)) + SUBTITLE_LINE * len(_subtitle_lines(subtitle)) + 0.22
    return Figure(figsize=(WIDTH, top + height), dpi=DPI, facecolor="white"), top


def title_lines(title: str) -> list[str]:
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
    for line in title_lines(title):
        figure.text(MARGIN / WIDTH, y / height, line, size=TITLE_SIZE, weight="bold", color=Ink.TITLE, va="top")
        y -= TITLE_LINE
    y -= 0.05
    for line in _subtitle_lines(subtitle):
        figure.text(MARGIN / WIDTH, y / height, line, size=SUBTITLE_SIZE, color=Ink.SECONDARY, va="top")
        y -= SUBTITLE_LINE
