"""Figure of a comparison: the systems with their intervals, and bars beside those that do not differ significantly."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.comparison.answer import finding, too_few_sentence
from modgap.comparison.result import LEVEL, Comparison, SystemsComparison
from modgap.display.figure_layout import (
    MARGIN,
    WIDTH,
    Ink,
    drawable_names,
    fit_names,
    name_in_title,
    result_figure,
    styled,
    text_width,
)
from modgap.display.group_bars import LANE, assign_lanes, draw_group_bars
from modgap.formatting import count, format_value, visible_name

__all__ = ["comparison_caption", "comparison_figure"]

NAME_SPACE = 2.8
"""Space for the longest name in inches; longer names are cut."""
NAME_SIZE = 9
MOST_LANES = 6
"""Largest number of bars side by side; further bars are left out."""
ROW = 0.34
MOST_ROWS = 40
"""Largest number of systems that are drawn."""
VALUE_SPACE = 0.68
"""Space right of the axes for the values, in inches."""


@dataclass(frozen=True)
class _Row:
    """A system as it is drawn.

    Attributes:
        name: Name of the system.
        value: Mean error or, over targets, mean difference to the first system.
        interval: 95 % interval of the value; None if there is none.
        points: Difference to the first system on each target; empty for one target.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    points: tuple[float, ...]


@styled
def comparison_figure(comparison: Comparison) -> Figure:
    """Draw one row for each system, lowest error at the top, with bars beside systems that do not differ significantly.

    On one target the axis is the error. Over targets it is the difference to the first system, with a mark for each
    target, because errors on different targets are not comparable.

    Args:
        comparison: The comparison. Of more than 40 systems, the first 40 are drawn.
    """
    main = comparison.main
    rows = _target_rows(comparison) if comparison.over_targets else _rows(main)
    rows = rows[:MOST_ROWS]
    bars = assign_lanes(_similar_rows(main, len(rows)), MOST_LANES)
    bars_space = LANE * (1 + max((lane for _, lane in bars), default=-1))
    names = fit_names(
        drawable_names([visible_name(row.name) for row in rows], "system"), NAME_SPACE, NAME_SIZE, bold=True
    )
    left = MARGIN + max(text_width(name, NAME_SIZE, bold=True) for name in names) + 0.2 + bars_space
    height = ROW * len(rows) + 0.06
    figure, axes = result_figure(_title(main), _subtitle(comparison, len(rows)), height, left, VALUE_SPACE)
    axes.set_ylim(height, 0)
    axes.set_xlim(_limits(rows))
    axes.set_xlabel(_axis_label(comparison))
    _draw_rows(axes, rows, names, WIDTH - left - VALUE_SPACE, bars_space, comparison.over_targets is not None)
    draw_group_bars(axes, bars, ROW, WIDTH - left - VALUE_SPACE, bars_space)
    return figure


def _rows(main: SystemsComparison) -> list[_Row]:
    return [_Row(one.name, one.mean.value, one.mean.interval, ()) for one in main.systems]


def _target_rows(comparison: Comparison) -> list[_Row]:
    """Return the differences to the first system, over targets and on each target."""
    main = comparison.main
    first = main.systems[0].name
    differences = {pair.second: pair.difference for pair in main.pairs if pair.first == first}
    rows = [_Row(first, 0.0, None, ())]
    for name, difference in differences.items():
        points = tuple(one.mean_of(name) - one.mean_of(first) for one in comparison.targets)
        interval = difference.interval
        mirrored = None if interval is None else (-interval[1], -interval[0])
        rows.append(_Row(name, -difference.value, mirrored, points))
    return rows


def _similar_rows(main: SystemsComparison, n_rows: int) -> list[list[int]]:
    """Return the rows of each group of two or more systems that do not differ significantly."""
    numbers = {one.name: number for number, one in enumerate(main.systems[:n_rows])}
    groups = [[numbers[name] for name in members if name in numbers] for members in main.groups or ()]
    return [rows for rows in groups if len(rows) > 1]


def _limits(rows: Sequence[_Row]) -> tuple[float, float]:
    values = [value for row in rows for value in (row.value, *(row.interval or ()), *row.points)]
    low = min(values)
    high = max(values)
    margin = 0.06 * (high - low) or 0.1 * abs(low) or 0.1
    return low - margin, high + margin


def _draw_rows(
    axes: Axes, rows: Sequence[_Row], names: Sequence[str], width: float, bars_space: float, over_targets: bool
) -> None:
    if over_targets:
        axes.axvline(0, color=Ink.BASELINE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
    transform = axes.get_yaxis_transform()
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        y = ROW * (number + 0.5)
        weight = "normal" if number else "bold"
        x = (-0.14 - bars_space) / width
        axes.text(
            x, y, name, transform=transform, ha="right", va="center", size=NAME_SIZE, weight=weight, color=Ink.TITLE
        )
        if row.points:
            axes.plot(row.points, [y] * len(row.points), "|", color=Ink.FAINT_CONTROL, markersize=7, zorder=2)
        if row.interval:
            axes.plot(list(row.interval), [y, y], color=Ink.SOURCE, linewidth=2.2, solid_capstyle="butt", zorder=3)
        axes.plot(row.value, y, "o", color=Ink.SOURCE, markersize=7, zorder=4)
        text = "lowest" if over_targets and not number else _shown_value(row.value, over_targets)
        color = Ink.SOURCE if number == 0 else Ink.TEXT
        axes.text(
            1 + 0.08 / width, y, text, transform=transform, ha="left", va="center", size=9, weight=weight, color=color
        )


def _shown_value(value: float, is_difference: bool) -> str:
    return f"+{format_value(value)}" if is_difference else format_value(value)


def _title(main: SystemsComparison) -> str:
    first = name_in_title(visible_name(main.systems[0].name), "system")
    return finding(main, first, "" if main.target is None else _target_name(main.target))


def _target_name(target: str) -> str:
    return name_in_title(visible_name(target), "target")


def _subtitle(comparison: Comparison, n_rows: int) -> str:
    main = comparison.main
    units = f" in {count(main.n_units, 'group')}" if main.unit == "group" else ""
    measured = (
        f"Mean {comparison.metric} on {count(main.n_units, 'target')}, {count(main.n_samples, 'sample')} in all."
        if main.target is None
        else f"{comparison.metric[0].upper()}{comparison.metric[1:]} on {count(main.n_samples, 'sample')}{units}."
    )
    more = f" The first {n_rows} of {len(main.systems)} systems are shown." if n_rows < len(main.systems) else ""
    if main.groups is None:
        return measured + more
    bars = " A bar joins systems that are not significantly different" if _similar_rows(main, n_rows) else ""
    return f"{measured}{more}{bars}{f' (p above {LEVEL:g} by Holm).' if bars else ''}"


def _axis_label(comparison: Comparison) -> str:
    main = comparison.main
    interval = " (95 % interval)" if any(pair.difference.interval for pair in main.pairs) else ""
    if main.target is None:
        return f"difference to the first system{interval}; a mark is one target"
    return f"{comparison.metric}{interval}; lower is better"


def comparison_caption(comparison: Comparison) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    main = comparison.main
    values = "; ".join(f"{one.name} {one.mean.value:.4g}" for one in main.systems[:MOST_ROWS])
    tests = (
        too_few_sentence(main)
        if main.groups is None
        else f"P-values of {count(main.n_tests, 'pair')} are corrected by Holm's method."
    )
    return f"{_title(main)}. {_subtitle(comparison, min(len(main.systems), MOST_ROWS))} Mean errors: {values}. {tests}"
