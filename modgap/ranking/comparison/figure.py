"""Figure of a comparison: the systems with their intervals, and bars beside those that do not differ significantly."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modgap.answers.figures.files import ResultFigure, result_figure
from modgap.answers.figures.intervals import interval_columns, tidy_frame
from modgap.answers.figures.labels import beside, write_names
from modgap.answers.figures.rows import draw_group_bars, draw_marks, draw_reference, draw_ticks, row_panel
from modgap.answers.figures.style import Ink, figure_of, fit_names, name_in_title, styled
from modgap.answers.formatting import format_value
from modgap.errors import count, visible_name
from modgap.ranking.comparison.answer import finding, too_few_sentence
from modgap.ranking.comparison.systems import Comparison, SystemsComparison
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME_SPACE = 2.8
"""Space for the longest name in inches; longer names are cut."""
MOST_LANES = 6
"""Largest number of bars side by side; further bars are left out."""
MOST_ROWS = 40
"""Largest number of systems that are drawn."""


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """Return the marks of the figure of a comparison: the mean of each system, lowest first, with its interval.

    Over targets, the values are differences to the first system, and each target is a row of the series `target`. The
    means are the series `mean`. `row` is the number of the row from the top.
    """
    main = comparison.main
    first = main.systems[0]
    if not comparison.over_targets:
        means = [(one.name, one.mean.value, one.mean.interval) for one in main.systems]
    else:
        pairs = main.pairs_with_first
        mirrored = [None if (ends := pair.difference.interval) is None else (-ends[1], -ends[0]) for pair in pairs]
        means = [(pair.second, -pair.difference.value, ends) for pair, ends in zip(pairs, mirrored, strict=True)]
        means.insert(0, (first.name, 0.0, None))
    marks: list[dict[str, Any]] = [
        {"name": name, "series": "mean", "row": row, **interval_columns(value, interval)}
        for row, (name, value, interval) in enumerate(means)
    ]
    for mark in marks[1:] if comparison.over_targets else ():
        differences = [one.mean_of(mark["name"]) - one.mean_of(first.name) for one in comparison.targets]
        marks += [{**mark, "series": "target", **interval_columns(value, None)} for value in differences]
    return tidy_frame(marks)


@styled
def comparison_figure(comparison: Comparison, ax: "Axes | None" = None) -> "Figure":
    """Draw one row for each system, lowest error at the top, with bars beside systems that do not differ significantly.

    On one target the axis is the error. Over targets it is the difference to the first system, with a mark for each
    target, because errors on different targets are not comparable.

    Args:
        comparison: The comparison. Of more than 40 systems, the first 40 are drawn.
        ax: Axes to draw on. None for a new figure.
    """
    main = comparison.main
    frame = comparison_frame(comparison)
    frame = frame[frame["row"] < MOST_ROWS].assign(y=frame["row"] + 0.5, mark="source")
    means, targets = frame[frame["series"] == "mean"], frame[frame["series"] == "target"]
    n_rows = len(means)
    interval = " (95 % interval)" if any(pair.difference.interval for pair in main.pairs) else ""
    label = f"{comparison.metric}{interval}; lower is better"
    if comparison.over_targets:
        label = f"difference to the first system{interval}; a mark is one target"
    axes = row_panel(_title(main), _subtitle(comparison, n_rows), label, n_rows + 0.1, 0.34, 0.0, ax)
    ends = frame[["value", "low", "high"]].to_numpy(float)
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    margin = 0.06 * (high - low) or 0.1 * abs(low) or 0.1
    axes.set_xlim(low - margin, high + margin)
    if comparison.over_targets:
        draw_reference(axes, 0)
    draw_ticks(axes, targets, "value", 0.15, colors=Ink.FAINT_CONTROL, linewidth=1)
    draw_marks(axes, means, 6, 2.2)
    points = draw_group_bars(axes, _similar_rows(main, n_rows), MOST_LANES)
    names = fit_names([visible_name(name) for name in means["name"]], "system", NAME_SPACE, 9, bold=True)
    write_names(axes, means["y"], names, -points, bold={0}, size=9)
    sign = "+" if comparison.over_targets else ""
    texts = [f"{sign}{format_value(value or 0.0)}" for value in means["value"]]
    if comparison.over_targets:
        texts[0] = "lowest"
    write_names(axes, means["y"][1:], texts[1:], 8, right=True, size=9, color=Ink.TEXT)
    beside(axes, means["y"].iloc[0], texts[0], 8, right=True, size=9, weight="bold", color=Ink.SOURCE)
    return figure_of(axes)


def planned_figure(comparison: Comparison, name: str = "comparison") -> ResultFigure:
    """Return the figure of a comparison, under a name for its files."""
    return result_figure(name, comparison, comparison_frame, comparison_figure, comparison_caption)


def _similar_rows(main: SystemsComparison, n_rows: int) -> list[list[int]]:
    """Return the rows of each group of two or more systems that do not differ significantly."""
    numbers = {one.name: number for number, one in enumerate(main.systems[:n_rows])}
    groups = [[numbers[name] for name in members if name in numbers] for members in main.groups or ()]
    return [rows for rows in groups if len(rows) > 1]


def _title(main: SystemsComparison) -> str:
    first = name_in_title(visible_name(main.systems[0].name), "system")
    return finding(main, first, "" if main.target is None else name_in_title(visible_name(main.target), "target"))


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
    return f"{measured}{more}{bars}{f' (p above {SIGNIFICANCE_LEVEL:g} by Holm).' if bars else ''}"


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
