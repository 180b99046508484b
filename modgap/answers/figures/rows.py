"""Rows of marks on one horizontal axis: values with intervals, dumbbells, and bars that join rows."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from matplotlib.transforms import ScaledTranslation

from modgap.answers.figures.intervals import draw_intervals
from modgap.answers.figures.style import BASELINE_STYLE, BELOW_AXES, Ink, figure_of, panel, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LANE = 7.2
"""Distance of two bars that stand side by side, in points."""
MEMBERS_WIDTH = 3.0
GAP_WIDTH = 0.8
"""Widths of a bar beside its members, and beside rows between them that do not belong to it."""


class Mark(NamedTuple):
    """The style of a mark: color, marker, whether it is open, and its size and line width as multiples of others."""

    color: str
    marker: str = "o"
    is_open: bool = False
    size: float = 1.0
    width: float = 1.0


MARKS = {
    "source": Mark(Ink.SOURCE),
    "open source": Mark(Ink.SOURCE, is_open=True),
    "error": Mark(Ink.ERROR),
    "open error": Mark(Ink.ERROR, is_open=True),
    "control": Mark(Ink.CONTROL, "D", is_open=True, size=0.78),
    "baseline": Mark(Ink.CONTROL, "s", size=0.85),
    "history": Mark(Ink.NULL_BAND, size=0.1),
    "faint control": Mark(Ink.FAINT_CONTROL, "D", is_open=True, size=0.55, width=0.55),
}
"""Styles of marks by their role."""


def row_panel(
    title: str,
    subtitle: str,
    axis_label: str,
    rows: float,
    row_height: float,
    head: float,
    ax: "Axes | None",
    above: float = 0.0,
) -> "Axes":
    """Return axes with rows below each other, of which the middle of the first one is at 0.5.

    Args:
        title: The finding, in one sentence.
        subtitle: What was measured, on what, and with how many samples.
        axis_label: Label of the horizontal axis.
        rows: Number of rows.
        row_height: Height of a row in inches.
        head: Space above the first row for labels, in inches.
        ax: Axes of the user. None for a new figure.
        above: Height of text above the axes of a new figure, in inches.
    """
    axes = panel(title, subtitle, above + head + rows * row_height + BELOW_AXES, ax)
    style_axes(axes, "x")
    axes.set(xlabel=axis_label, ylim=(rows, -head / row_height), yticks=[])
    return axes


def draw_marks(ax: "Axes", frame: pd.DataFrame, size: float = 7.0, width: float = 2.0) -> None:
    """Draw each row of a frame as a mark with its interval.

    Args:
        ax: The axes.
        frame: One row for each mark, with the columns `y`, `value`, `low`, `high` and `mark`, a key of `MARKS`.
        size: Diameter of a circle in points, without its edge.
        width: Width of the interval of a circle in points.
    """
    import seaborn

    axis_label = ax.get_xlabel()
    for name, part in frame.groupby("mark", sort=False):
        mark = MARKS[str(name)]
        draw_intervals(ax, part, "y", color=mark.color, width=width * mark.width)
        face = "white" if mark.is_open else mark.color
        style = {
            "facecolor": face,
            "edgecolor": mark.color,
            "linewidth": 1.4,
            "clip_on": False,
            "zorder": 3 + mark.size,
        }
        size_in_points = (size * mark.size) ** 2
        seaborn.scatterplot(data=part, x="value", y="y", marker=mark.marker, s=size_in_points, ax=ax, **style)
    ax.set(xlabel=axis_label, ylabel="")


def draw_reference(ax: "Axes", value: float, top: float = 0.0) -> None:
    """Draw a dashed line at a value without knowledge, from the axis up to the labels above the first row."""
    ax.plot([value, value], [ax.get_ylim()[0], top], **BASELINE_STYLE)


def draw_ticks(ax: "Axes", frame: pd.DataFrame, column: str, reach: float, **style: Any) -> None:
    """Draw a vertical tick at the value of a column in each row, such as the baseline of a class.

    Args:
        ax: The axes.
        frame: One row for each tick, with the column `y`.
        column: Column with the values.
        reach: Half the height of a tick, in rows.
        style: Style of the lines.
    """
    style = {"colors": Ink.BASELINE, "linewidth": 1.3, "zorder": 2, **style}
    ax.vlines(frame[column], frame["y"] - reach, frame["y"] + reach, **style)


def assign_lanes(groups: Sequence[Sequence[int]], most_lanes: int) -> list[tuple[Sequence[int], int]]:
    """Return the rows and the lane of each bar, so that bars in a lane do not touch.

    Args:
        groups: Rows that each bar joins, in increasing order, and the groups in the order of their first rows.
        most_lanes: Number of lanes; bars that do not fit are left out.

    Example:
        >>> assign_lanes([[0, 2], [1, 2, 3], [3, 4]], 2)
        [([0, 2], 0), ([1, 2, 3], 1), ([3, 4], 0)]
    """
    ends: list[int] = []
    bars = []
    for rows in groups:
        lane = next((lane for lane, end in enumerate(ends) if end < rows[0]), len(ends))
        if lane == most_lanes:
            continue
        ends[lane : lane + 1] = [rows[-1]]
        bars.append((rows, lane))
    return bars


def draw_group_bars(ax: "Axes", groups: Sequence[Sequence[int]], most_lanes: int) -> float:
    """Draw bars left of the axes: thick beside the rows that they join, and thin beside rows between these.

    Args:
        ax: The axes.
        groups: Rows that each bar joins, in increasing order.
        most_lanes: Largest number of bars side by side; further bars are left out.

    Returns:
        Distance of the names of the rows from the axes, in points.
    """
    bars = assign_lanes(groups, most_lanes)
    lanes = 1 + max((lane for _, lane in bars), default=-1)
    for rows, lane in bars:
        shift = ScaledTranslation(-(4 + LANE * (lanes - lane)) / 72, 0, figure_of(ax).dpi_scale_trans)
        transform = ax.get_yaxis_transform() + shift
        for first, last, width in _pieces(rows):
            ends = [first + 0.15, last + 0.85]
            style: dict[str, Any] = {"color": Ink.TITLE, "linewidth": width, "solid_capstyle": "butt", "clip_on": False}
            ax.plot([0, 0], ends, transform=transform, **style)
    return 10 + LANE * lanes


def _pieces(rows: Sequence[int]) -> Iterator[tuple[int, int, float]]:
    """Yield first row, last row and width of a thin line along the whole bar with gaps, and of each run of rows."""
    if rows[-1] - rows[0] >= len(rows):
        yield rows[0], rows[-1], GAP_WIDTH
    start = rows[0]
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        if following != row + 1:
            yield start, row, MEMBERS_WIDTH
            start = following if following is not None else row
