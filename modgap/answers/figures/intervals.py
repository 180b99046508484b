"""Intervals of results, as lines or bands: the only function that draws them, from numbers that the result has."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INTERVALS = "intervals"
"""Group identifier of drawn intervals, by which SVG files and tests have them."""


def tidy_frame(data: Any, index: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a data frame whose texts are objects, because names may have characters that Arrow cannot store.

    Args:
        data: The data, as for `pandas.DataFrame`.
        index: Names of the rows; None for their numbers.
        columns: Names of the columns; None for those of the data.
    """
    with pd.option_context("future.infer_string", False):
        return pd.DataFrame(data, index, columns)


def interval_columns(value: float, interval: tuple[float, float] | None) -> dict[str, float]:
    """Return the columns `value`, `low` and `high` of a mark; the ends are NaN if there is no interval."""
    low, high = interval or (float("nan"), float("nan"))
    return {"value": value, "low": low, "high": high}


def interval_text(value: float, low: float, high: float) -> str:
    """Return a value with three decimals, and its interval in parentheses if it has one.

    Example:
        >>> interval_text(0.5, 0.4, 0.6), interval_text(0.5, float("nan"), float("nan"))
        ('0.500 (0.400-0.600)', '0.500')
    """
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} ({low:.3f}-{high:.3f})"


def draw_intervals(
    ax: "Axes", frame: pd.DataFrame, at: str, *, color: str, width: float = 2.0, along: str = "x", band: bool = False
) -> None:
    """Draw the interval from `low` to `high` of each row as a line without caps. One without width is not drawn.

    Args:
        ax: The axes.
        frame: One row for each interval, with the columns `low` and `high`.
        at: Column with the positions on the other axis.
        color: Color of the lines.
        width: Width of the lines in points.
        along: Axis that the intervals lie along, `x` or `y`.
        band: True for one band along the positions in place of lines. It is drawn if every row has an interval.
    """
    if band and frame[["low", "high"]].notna().to_numpy().all():
        shape = ax.fill_between(frame[at], frame["low"], frame["high"], color=color, alpha=0.14, linewidth=0, zorder=2)
        shape.set_gid(INTERVALS)
    elif not band:
        shown = frame[frame["high"] > frame["low"]]
        lines = ax.hlines if along == "x" else ax.vlines
        drawn = lines(shown[at], shown["low"], shown["high"], colors=color, linewidth=width, zorder=3, clip_on=False)
        drawn.set(gid=INTERVALS, capstyle="butt")
