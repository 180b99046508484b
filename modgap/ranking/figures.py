"""Figure of a ranking: which sources are best, and which cannot be separated?"""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, Formatter, MaxNLocator, ScalarFormatter

from modgap.display.figure_layout import (
    MARGIN,
    WIDTH,
    Ink,
    drawable_names,
    fit_names,
    result_figure,
    styled,
    text_width,
)
from modgap.display.group_bars import LANE, assign_lanes, draw_group_bars
from modgap.display.label_spacing import spread_labels
from modgap.ranking.figure_content import (
    FigureRow,
    figure_rows,
    figure_subtitle,
    figure_title,
    other_scores,
    ranking_caption,
    score_name,
    shown_rows,
    similar_rows,
)
from modgap.ranking.reference_value import ReferenceValue, reference_value
from modgap.ranking.types import Ranking

__all__ = ["ranking_caption", "ranking_figure"]

NAME_SPACE = 1.72
MOST_LANES = 4
"""Number of bars side by side; further bars are left out."""
ROW = 0.34
DENSE_ROW = 0.205
MOST_TALL_ROWS = 12
REST_ROW = 0.36
CELL = 0.24
NARROW_CELL = 0.2
MOST_WIDE_CELLS = 7
STRIP_GAP = 0.3
SLANT = 50
WIDE_TITLE = 1.25
NARROW_TITLE = 0.75
"""Space for the title below the strip on one line and on two, in inches."""
NOTE = ("not significantly better", "than random weights")
FARTHEST_LABEL = 0.55
"""Largest distance of a label from its mark, in inches, if the labels stand side by side."""
LARGE_NUMBER = 10_000


@styled
def ranking_figure(ranking: Ranking) -> Figure:
    """Draw a ranking with one row for each source, best at the top, and its ranks by other scores at the right.

    Sources without a value are left out. With more than 20 sources, the others are marks in one row.

    Args:
        ranking: A ranking in which at least one source has a value.
    """
    rows = figure_rows(ranking)
    n_rows = shown_rows(rows)
    shown = rows[:n_rows]
    bars = assign_lanes(similar_rows(ranking, shown), MOST_LANES)
    scores = other_scores(ranking)
    strip = _Strip(scores, NARROW_CELL if len(scores) > MOST_WIDE_CELLS else CELL)
    row_height = ROW if n_rows <= MOST_TALL_ROWS else DENSE_ROW
    height = row_height * n_rows + (REST_ROW if n_rows < len(rows) else 0) + 0.06
    left = MARGIN + NAME_SPACE + 0.1 + LANE * (1 + max((lane for _, lane in bars), default=-1)) + 0.08
    subtitle = figure_subtitle(ranking, n_rows, len(rows), bool(bars))
    head = max(0.42, strip.label_height)
    figure, axes = result_figure(figure_title(ranking), subtitle, height, left, strip.right_space, head)
    axes.set_ylim(height, 0)
    _Drawing(axes, WIDTH - left - strip.right_space, row_height).draw(ranking, rows, n_rows, bars)
    strip.draw(figure, axes, ranking, shown, row_height)
    return figure


class _Drawing:
    """The rows of sources on one axis.

    Attributes:
        axes: The axes, whose vertical unit is an inch.
        width: Width of the axes in inches.
        row_height: Height of a row in inches.
    """

    def __init__(self, axes: Axes, width: float, row_height: float) -> None:
        self.axes = axes
        self.width = width
        self.row_height = row_height

    def draw(
        self, ranking: Ranking, rows: Sequence[FigureRow], n_rows: int, bars: Sequence[tuple[Sequence[int], int]]
    ) -> None:
        reference = reference_value(ranking.deciding_table.name, ranking.target)
        self._set_axis(ranking, rows, reference)
        shown = rows[:n_rows]
        names = fit_names(drawable_names([row.name for row in shown], "source"), NAME_SPACE, 9, bold=True)
        for number, (row, name) in enumerate(zip(shown, names, strict=True)):
            y = self.row_height * (number + 0.5)
            self._beside(-0.08 - self._bars_space(bars), y, name, row.ties_with_first)
            self._draw_row(row, y)
        draw_group_bars(self.axes, bars, self.row_height, self.width, self._bars_space(bars))
        if n_rows < len(rows):
            self._draw_rest(rows[n_rows:], self.row_height * n_rows + REST_ROW / 2 + 0.04, bars)
        self._label_series(shown, reference)
        self._write_note(shown)

    @staticmethod
    def _bars_space(bars: Sequence[tuple[Sequence[int], int]]) -> float:
        return LANE * (1 + max((lane for _, lane in bars), default=-1))

    def _beside(self, inches: float, y: float, text: str, is_bold: bool, **style: Any) -> None:
        weight = "bold" if is_bold else "normal"
        self.axes.text(
            (inches - 0.06) / self.width,
            y,
            text,
            transform=self.axes.get_yaxis_transform(),
            ha="right",
            va="center",
            size=9 if self.row_height == ROW else 8.5,
            weight=weight,
            **{"color": Ink.TITLE, **style},
        )

    def _set_axis(self, ranking: Ranking, rows: Sequence[FigureRow], reference: ReferenceValue | None) -> None:
        values = [value for row in rows for value in _all_values(row)] + ([reference.value] if reference else [])
        low = min(values)
        high = max(values)
        margin = 0.06 * (high - low) or 0.1 * abs(low) or 1.0
        deciding = ranking.deciding_table
        better = "higher" if deciding.higher_is_better else "lower"
        self.axes.set(xlim=(low - margin, high + margin), xlabel=f"{score_name(deciding.name)}; {better} is better")
        locator = MaxNLocator(nbins=max(2, int(self.width / 0.65)), steps=[1, 2, 5, 10])
        self.axes.xaxis.set_major_locator(locator)
        self.axes.xaxis.set_major_formatter(_tick_formatter(high))
        if reference:
            self.axes.axvline(reference.value, color=Ink.BASELINE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)

    def _draw_row(self, row: FigureRow, y: float) -> None:
        is_tall = self.row_height == ROW
        shift = 0.09 if is_tall and row.control is not None else 0.0
        if row.control is not None:
            if row.control_interval and is_tall:
                self._line(row.control_interval, y + shift, Ink.AXIS, 1.2)
            self.axes.plot(
                row.control, y + shift, "D", color=Ink.FAINT_CONTROL, markerfacecolor="white", markersize=4, zorder=3
            )
        if row.interval:
            self._line(row.interval, y - shift / 3, Ink.SOURCE, 2.2)
        fill = "white" if row.beats_control is False else Ink.SOURCE
        size = 7.5 if is_tall else 5.5
        self.axes.plot(row.value, y - shift / 3, "o", color=Ink.SOURCE, markerfacecolor=fill, markersize=size, zorder=5)

    def _line(self, interval: tuple[float, float], y: float, color: str, width: float) -> None:
        if interval[1] > interval[0]:
            self.axes.plot(list(interval), [y, y], color=color, linewidth=width, solid_capstyle="butt", zorder=2)

    def _draw_rest(self, rest: Sequence[FigureRow], y: float, bars: Sequence[tuple[Sequence[int], int]]) -> None:
        for row in rest:
            self.axes.plot([row.value] * 2, [y - 0.08, y + 0.08], color=Ink.SOURCE, linewidth=1)
        text = f"{len(rest):,} more sources"
        self._beside(-0.08 - self._bars_space(bars), y, text, False, color=Ink.SECONDARY, style="italic")

    def _label_series(self, shown: Sequence[FigureRow], reference: ReferenceValue | None) -> None:
        """Write the names of the marks above the first row, side by side."""
        controls = [row.control for row in shown if row.control is not None]
        marks = [(shown[0].value, "pretrained", Ink.SOURCE, True)]
        if controls:
            marks.append((controls[0], "random weights", Ink.SECONDARY, False))
        if reference:
            marks.append((reference.value, reference.label, Ink.SECONDARY, False))
        marks.sort(key=lambda mark: mark[0])
        low, high = self.axes.get_xlim()
        unit = (high - low) / self.width
        widths = [text_width(text, 8, bold) * unit for _, text, _, bold in marks]
        limits = (low - 0.2 * unit, high + 0.25 * unit)
        values = [mark[0] for mark in marks]
        centers = spread_labels(values, widths, *limits, 0.08 * unit)
        if max(abs(center - value) for center, value in zip(centers, values, strict=True)) > FARTHEST_LABEL * unit:
            self._stack_labels(marks, unit)
            return
        for center, (_, text, color, bold) in zip(centers, marks, strict=True):
            self._label(center, -0.1, text, color, bold)

    def _stack_labels(self, marks: Sequence[tuple[float, str, str, bool]], unit: float) -> None:
        """Write the labels below each other where marks are too close to have their labels side by side."""
        low, high = self.axes.get_xlim()
        for number, (x, text, color, bold) in enumerate(marks):
            half = text_width(text, 8, bold) * unit / 2
            center = min(max(x, low + half - 0.1 * unit), high - half + 0.2 * unit)
            self._label(center, -0.08 - 0.14 * (len(marks) - 1 - number), text, color, bold)

    def _label(self, x: float, y: float, text: str, color: str, bold: bool) -> None:
        weight = "bold" if bold else "normal"
        self.axes.text(x, y, text, ha="center", va="center", size=8, color=color, weight=weight)

    def _write_note(self, shown: Sequence[FigureRow]) -> None:
        """Explain the first open circle beside it, if the rows are tall and there is room."""
        low, high = self.axes.get_xlim()
        unit = (high - low) / self.width
        for number, row in enumerate(shown):
            if row.beats_control is not False or self.row_height != ROW:
                continue
            space = max(text_width(line, 8) for line in NOTE) * unit + 0.14 * unit
            values = _all_values(row)
            y = self.row_height * (number + 0.5)
            if min(values) - space > low:
                self._note(min(values) - 0.12 * unit, y, "right")
                return
            if max(values) + space < high:
                self._note(max(values) + 0.12 * unit, y, "left")
                return

    def _note(self, x: float, y: float, side: str) -> None:
        text = "\n".join(NOTE)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        self.axes.text(x, y, text, ha=side, va="center", size=8, color=Ink.ERROR_TEXT, linespacing=1.0, bbox=box)


def _all_values(row: FigureRow) -> list[float]:
    values = [row.value, *(row.interval or ())]
    if row.control is not None:
        values += [row.control, *(row.control_interval or ())]
    return values


def _tick_formatter(highest: float) -> Formatter:
    if abs(highest) >= LARGE_NUMBER:
        return EngFormatter(sep="")
    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    return formatter


class _Strip:
    """The ranks by other scores, as a strip of cells right of the axes.

    Attributes:
        scores: Names of the scores.
        cell: Width of a cell in inches.
    """

    def __init__(self, scores: Sequence[str], cell: float) -> None:
        self.scores = scores
        self.cell = cell

    @property
    def label_height(self) -> float:
        """Height of the slanted labels in inches."""
        return max((text_width(name, 8) for name in self.scores), default=0) * math.sin(math.radians(SLANT)) + 0.2

    @property
    def right_space(self) -> float:
        """Space right of the axes in inches: the strip, and the part of the labels that stands out."""
        if not self.scores:
            return 0.25
        return STRIP_GAP + self.cell * len(self.scores) + self._overhang

    @property
    def _overhang(self) -> float:
        ends = [
            text_width(name, 8) * math.cos(math.radians(SLANT)) + 0.16 - self.cell * (len(self.scores) - number - 0.5)
            for number, name in enumerate(self.scores)
        ]
        half_of_title = (NARROW_TITLE - self.cell * len(self.scores)) / 2 + 0.1
        return max(0.2, half_of_title, *ends)

    def draw(self, figure: Figure, axes: Axes, ranking: Ranking, rows: Sequence[FigureRow], row_height: float) -> None:
        """Draw the strip beside the axes, with the same rows."""
        if not self.scores:
            return
        box = axes.get_position()
        width = self.cell * len(self.scores)
        left = (WIDTH - self._overhang - width) / WIDTH
        strip = figure.add_axes((left, box.y0, width / WIDTH, box.height))
        strip.set(xlim=(0, len(self.scores)), ylim=axes.get_ylim())
        strip.set_axis_off()
        for column, name in enumerate(self.scores):
            strip.text(
                column + 0.4, -0.05, name, rotation=SLANT, rotation_mode="anchor", ha="left", va="bottom", size=8
            )
            ranks = ranking.tables[name].source_ranks
            for number, row in enumerate(rows):
                _draw_cell(strip, column, row_height * number, row_height, int(ranks[row.index]))
        end = row_height * len(rows)
        title = "rank by other scores" if width > WIDE_TITLE else "rank by\nother scores"
        strip.text(len(self.scores) / 2, end + 0.07, title, ha="center", va="top", size=8)


def _draw_cell(strip: Axes, column: int, y: float, height: float, rank: int) -> None:
    color = Ink.RANKS[min(rank, len(Ink.RANKS)) - 1] if rank else "white"
    strip.add_patch(
        Rectangle((column + 0.03, y + 0.01), 0.94, height - 0.02, facecolor=color, edgecolor="none", clip_on=False)
    )
    text = f"{rank}" if rank else "–"
    weight = "bold" if rank == 1 else "normal"
    strip.text(column + 0.5, y + height / 2, text, ha="center", va="center", size=8, weight=weight)
