"""Bars beside the rows of a figure, each of which joins rows that are not significantly different."""

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes

from modgap.display.figure_layout import Ink

__all__ = ["LANE", "assign_lanes", "draw_group_bars"]

LANE = 0.1
"""Distance of two bars that stand side by side, in inches."""
MEMBERS_WIDTH = 3.0
GAP_WIDTH = 0.8
"""Widths of a bar beside its members, and beside rows between them that do not belong to it."""


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


def draw_group_bars(
    axes: Axes, bars: Sequence[tuple[Sequence[int], int]], row_height: float, width: float, space: float
) -> None:
    """Draw the bars left of the axes: thick beside the rows that they join, and thin beside rows between these.

    Args:
        axes: Axes whose vertical unit is an inch.
        bars: Rows and lane of each bar.
        row_height: Height of a row in inches.
        width: Width of the axes in inches.
        space: Width of all lanes in inches.
    """
    for rows, lane in bars:
        x = (-0.1 - space + LANE * (lane + 1)) / width
        for first, last, line_width in _pieces(rows):
            ends = [row_height * (first + 0.15), row_height * (last + 0.85)]
            axes.plot(
                [x, x],
                ends,
                transform=axes.get_yaxis_transform(),
                color=Ink.TITLE,
                linewidth=line_width,
                solid_capstyle="butt",
                clip_on=False,
            )


def _pieces(rows: Sequence[int]) -> Iterator[tuple[int, int, float]]:
    """Yield first row, last row and width of a thin line along the whole bar with gaps, and of each run of rows."""
    if rows[-1] - rows[0] >= len(rows):
        yield rows[0], rows[-1], GAP_WIDTH
    start = rows[0]
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        if following != row + 1:
            yield start, row, MEMBERS_WIDTH
            start = following if following is not None else row
