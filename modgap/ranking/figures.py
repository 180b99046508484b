"""The figure of a ranking: a row a source, its score with its interval, and how the other scores place it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.figure_style import BLUE, GRAY, ORANGE, tidy
from modgap.ranking.types import CONTROL, NO_MODEL, SOURCE, Ranking

__all__ = ["ranking_figure"]

STYLES = {SOURCE: (BLUE, "o"), CONTROL: (GRAY, "s"), NO_MODEL: (ORANGE, "^")}
NOT_RANKED = ("size", "source-error")


def ranking_figure(ranking: Ranking) -> Figure:
    """Left the score that decides, best at the top, with 95 % intervals; right the ranks by every score as a heat map.

    Rows without a value by that score are left out.
    """
    table = ranking.tables[ranking.by]
    order = [number for number in ranking.order() if np.isfinite(table.all.values[number])]
    names = [ranking.rows[number].name for number in order]
    scores = [name for name, each in ranking.tables.items() if (each.sources > 0).sum() > 1]
    height = 1.6 + 0.26 * len(order) + (0.075 * max(map(len, scores), default=0) if scores else 0)
    figure = Figure(figsize=(6.8, max(2.4, height)), layout="constrained")
    if scores:
        left, right = figure.subplots(1, 2, width_ratios=[1.0, min(1.6, 0.18 + 0.1 * len(scores))])
        _ranks(right, ranking, order, scores)
    else:
        left = figure.subplots()
    _values(left, ranking, order, names)
    return figure


def _values(axes: Axes, ranking: Ranking, order: list[int], names: list[str]) -> None:
    table = ranking.tables[ranking.by]
    for place, number in enumerate(order):
        color, marker = STYLES[ranking.rows[number].kind]
        value, (low, high) = table.all.values[number], table.all.intervals[number]
        if np.isfinite(low):
            axes.plot([low, high], [place, place], color=color, linewidth=1.6, solid_capstyle="butt")
        axes.plot(value, place, marker=marker, color=color, markersize=5.5, linestyle="")
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    better = "higher" if table.higher_is_better else "lower"
    tidy(axes, xlabel=f"{ranking.by} ({better} is better)")
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.label.set_fontsize(8.5)
    _legend(axes, {ranking.rows[number].kind for number in order}, np.isfinite(table.all.intervals).any())


def _legend(axes: Axes, kinds: set[str], intervals: bool) -> None:
    from matplotlib.lines import Line2D

    told = {SOURCE: "source", CONTROL: "random weights", NO_MODEL: "own values, no model"}
    marks = [
        Line2D([], [], color=STYLES[kind][0], marker=STYLES[kind][1], markersize=5, linestyle="", label=label)
        for kind, label in told.items()
        if kind in kinds
    ]
    if intervals:
        marks.append(Line2D([], [], color=GRAY, linewidth=1.6, label="95 %"))
    axes.figure.legend(
        handles=marks, loc="outside upper left", ncols=len(marks), fontsize=8, frameon=False, handletextpad=0.3,
        columnspacing=1.2,
    )  # fmt: skip


def _ranks(axes: Axes, ranking: Ranking, order: list[int], scores: list[str]) -> None:
    models = [number for number in order if ranking.rows[number].kind == SOURCE]
    places = np.array([[ranking.tables[name].sources[number] for name in scores] for number in order], float)
    places[places == 0] = np.nan
    axes.imshow(places, cmap="cividis_r", vmin=1, vmax=max(3, len(models)), aspect="auto")
    for (row, column), value in np.ndenumerate(places):
        if np.isfinite(value):
            dark = value > (1 + max(3, len(models))) / 2
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
    axes.set_xticks(range(len(scores)), scores, rotation=90, fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title("ranks among the sources", fontsize=8.5)
