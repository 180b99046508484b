"""Lines over an ordered quantity: errors by samples, layers or epochs, with bands or intervals."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import NullLocator

from modgap.answers.figures.intervals import draw_intervals
from modgap.answers.figures.labels import LABEL_SIZE, Label, label_ends
from modgap.answers.figures.style import BELOW_AXES, Ink, Series, fit_names, panel, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKER = 5.5
"""Size of the marker of a value, in points. Larger ones would hide short intervals."""


def line_panel(title: str, subtitle: str, height: float, ax: "Axes | None", xlabel: str, ylabel: str) -> "Axes":
    """Return axes for lines, with a faint horizontal grid.

    Args:
        title: The finding, in one sentence.
        subtitle: What was measured, on what, and with how many samples.
        height: Height of new axes in inches.
        ax: Axes of the user. None for a new figure.
        xlabel: Label of the horizontal axis.
        ylabel: Label of the vertical axis.
    """
    axes = panel(title, subtitle, height + BELOW_AXES, ax)
    style_axes(axes, "y")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return axes


def log_axis(ax: "Axes", numbers: Sequence[int]) -> None:
    """Make the horizontal axis logarithmic, with a tick at each number."""
    ax.set_xscale("log")
    ax.set_xticks(numbers, [f"{number:,}" for number in numbers])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(numbers[0] / 1.15, numbers[-1] * 1.04)


def draw_lines(ax: "Axes", frame: pd.DataFrame, x: str, styles: Mapping[str, Series], *, band: bool = True) -> None:
    """Draw the values of each series as a line with markers, and their intervals.

    Args:
        ax: The axes.
        frame: One row for each value, with the columns `series`, `value`, `low`, `high` and `x`.
        x: Column with the horizontal positions.
        styles: Style of each series. Series without a marker have no intervals.
        band: True for intervals as a band, and False for a line at each value.
    """
    import seaborn

    for order, (name, style) in enumerate(styles.items()):
        part = frame[frame["series"] == name]
        if part.empty:
            continue
        if style.marker:
            draw_intervals(ax, part, x, color=style.color, width=1.4, along="y", band=band)
        edge_width = 1.2 if style.is_open else 0.6
        marker = {"marker": style.marker or None, "markersize": MARKER, "markeredgewidth": edge_width}
        inside, edge = ("white", style.color) if style.is_open else (style.color, "white")
        line = {"color": style.color, "linewidth": style.width, "zorder": (4 if style.marker else 2) + order / 100}
        look = {"markerfacecolor": inside, "markeredgecolor": edge, **marker, **line}
        seaborn.lineplot(data=part, x=x, y="value", estimator=None, errorbar=None, legend=False, ax=ax, **look)


def label_lines(
    ax: "Axes", frame: pd.DataFrame, styles: Mapping[str, Series], kind: str, width: float, more: Sequence[Label] = ()
) -> None:
    """Write the name of each series with markers where its line ends, and how many others there are.

    Names in the secondary color are not bold.

    Args:
        ax: The axes, whose vertical limits are set.
        frame: The values, as for `draw_lines`; the last one of each series is the end of its line.
        styles: Style of each series.
        kind: Word for a series whose name cannot be drawn.
        width: Space for the widest name in inches.
        more: Further labels.
    """
    ends = frame.drop_duplicates("series", keep="last").set_index("series")["value"]
    named = [name for name, style in styles.items() if style.marker]
    colors = [styles[name].text_color for name in named]
    names = fit_names(named, kind, width, LABEL_SIZE, bold=True)
    labels = [
        (ends[name], text, ink, ink != Ink.SECONDARY) for name, text, ink in zip(named, names, colors, strict=True)
    ]
    others = [ends[name] for name in styles if name not in named]
    if others:
        text = "1 other" if len(others) == 1 else f"{len(others):,} others"
        labels.append((float(np.median(others)), text, Ink.SECONDARY, False))
    label_ends(ax, [*labels, *more])
