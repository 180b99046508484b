"""Probe error before and after fine-tuning, one row for each method: the figure of runs with one epoch each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.display.figure_layout import MARGIN, WIDTH, Ink, drawable_names, fit_names, result_figure, text_width
from modgap.distortion.grid import GridCell

__all__ = ["dumbbell_figure"]

RIGHT = 0.95
ROW = 0.27
HEADING = 0.34
LABELS = 0.26
SMALL = 0.01
"""Difference of errors below which all are printed with three decimals."""
NAME_SPACE = 1.9
NAME_GAP = 0.14
"""Distances in inches."""


def dumbbell_figure(
    title: str, subtitle: str, cells: Sequence[GridCell], before: float, worst: str | None, worse: Sequence[bool]
) -> Figure:
    """Draw one row for each method and target, with a line from the error before to the error after fine-tuning.

    Args:
        title: The finding, in one sentence.
        subtitle: What was measured.
        cells: The rows from top to bottom; those of a target follow each other.
        before: Error of the source before fine-tuning.
        worst: Method of the title, which is orange. None if there is none.
        worse: For each row, True if its error is significantly higher than that of the source.
    """
    targets = list(dict.fromkeys(cell.target for cell in cells))
    names = fit_names(drawable_names([cell.method for cell in cells], "method"), NAME_SPACE, 8.5, bold=True)
    headings = fit_names(drawable_names(targets, "target"), NAME_SPACE, 9.5, bold=True)
    left = MARGIN + NAME_GAP + max(text_width(name, 8.5, bold=True) for name in names)
    left = max(left, MARGIN + NAME_GAP + max(text_width(name, 9.5, bold=True) for name in headings))
    height = LABELS + HEADING * len(targets) + ROW * len(cells)
    figure, axes = result_figure(title, subtitle, height, left, RIGHT)
    axes.set(ylim=(height, 0), xlim=_limits(cells, before), xlabel="probe error (95 % intervals); lower is better")
    axes_width = WIDTH - left - RIGHT
    decimals = 2 if any(abs(cell.mean - before) >= SMALL for cell in cells) else 3
    _label_before(axes, before, decimals)
    _write(axes, 1 + (RIGHT - MARGIN) / axes_width, 0.1, "difference", "right", size=8.5, weight="bold")
    y = LABELS
    for cell, name, is_worse in zip(cells, names, worse, strict=True):
        if cell.target in targets:
            heading = headings[len(headings) - len(targets)]
            targets.remove(cell.target)
            _write(axes, -(left - MARGIN) / axes_width, y + 0.17, heading, "left", size=9.5, weight="bold")
            y += HEADING
        color = Ink.ERROR if cell.method == worst or (worst is None and is_worse) else Ink.SOURCE
        text_color = Ink.ERROR_TEXT if color == Ink.ERROR else Ink.SOURCE if is_worse else Ink.SECONDARY
        _draw_row(axes, cell, before, y + ROW / 2, color, is_worse)
        _write(axes, -NAME_GAP / axes_width, y + ROW / 2, name, "right", size=8.5)
        difference = _difference(cell.mean, before, decimals)
        style = {"size": 8.5, "color": text_color, "weight": "bold" if is_worse else "normal"}
        _write(axes, 1 + (RIGHT - MARGIN) / axes_width, y + ROW / 2, difference, "right", **style)
        y += ROW
    return figure


def _limits(cells: Sequence[GridCell], before: float) -> tuple[float, float]:
    ends = [end for cell in cells for end in (cell.mean, *cell.interval) if np.isfinite(end)]
    low, high = min([before, *ends]), max([before, *ends])
    span = (high - low) or 0.1
    return max(0.0, low - 0.08 * span), high + 0.08 * span


def _label_before(axes: Axes, before: float, decimals: int) -> None:
    low, high = axes.get_xlim()
    side = "left" if before < (low + high) / 2 else "right"
    axes.axvline(before, color=Ink.BASELINE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
    text = f" before fine-tuning {before:.{decimals}f} "
    axes.text(before, 0.1, text, ha=side, va="center", size=8, color=Ink.SECONDARY)


def _write(axes: Axes, x: float, y: float, text: str, side: str, **style: Any) -> None:
    style = {"color": Ink.TITLE, **style}
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), ha=side, va="center", **style)


def _draw_row(axes: Axes, cell: GridCell, before: float, y: float, color: str, is_worse: bool) -> None:
    axes.plot([before, cell.mean], [y, y], color=color, linewidth=5, alpha=0.2, solid_capstyle="butt", zorder=2)
    if np.isfinite(cell.interval).all():
        axes.plot(cell.interval, [y, y], color=color, linewidth=1.8, solid_capstyle="butt", zorder=3)
    fill = color if is_worse else "white"
    axes.plot(cell.mean, y, "o", color=color, markerfacecolor=fill, markersize=6, markeredgewidth=1.4, zorder=4)


def _difference(error: float, before: float, decimals: int) -> str:
    """Return the difference of the two errors as printed, so that a reader who subtracts gets the same."""
    difference = round(round(error, decimals) - round(before, decimals), decimals)
    return f"{difference:+.{decimals}f}".replace("-", "−") if difference else f"{0:.{decimals}f}"
