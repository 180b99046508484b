"""Figure of a ranking: each row's score with its interval, and its rank by every score."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.figure_style import BLUE, GRAY, ORANGE, style_axes
from modgap.ranking.types import CONTROL, RAW_VALUES, SOURCE, Ranking

__all__ = ["ranking_figure"]

STYLES = {SOURCE: (BLUE, "o"), CONTROL: (GRAY, "s"), RAW_VALUES: (ORANGE, "^")}
"""Color and marker of each kind of row."""


def ranking_figure(ranking: Ranking) -> Figure:
    """Draw a ranking.

    The left panel shows the score that the sources are ranked by, best at the top, with 95 % intervals. The right panel
    shows the ranks by every score as a heat map. Rows without a value are left out.
    """
    table = ranking.tables[ranking.by]
    order = [index for index in ranking.order() if np.isfinite(table.standings.values[index])]
    names = [ranking.rows[index].name for index in order]
    scores = [name for name, other in ranking.tables.items() if (other.source_ranks > 0).sum() > 1]
    height = 1.6 + 0.26 * len(order) + (0.075 * max(map(len, scores), default=0) if scores else 0)
    figure = Figure(figsize=(6.8, max(2.4, height)), layout="constrained")
    if scores:
        left, right = figure.subplots(1, 2, width_ratios=[1.0, min(1.6, 0.18 + 0.1 * len(scores))])
        _draw_ranks(right, ranking, order, scores)
    else:
        left = figure.subplots()
    _draw_values(left, ranking, order, names)
    return figure


def _draw_values(axes: Axes, ranking: Ranking, order: list[int], names: list[str]) -> None:
    table = ranking.tables[ranking.by]
    for y, index in enumerate(order):
        color, marker = STYLES[ranking.rows[index].kind]
        low, high = table.standings.intervals[index]
        if np.isfinite(low):
            axes.plot([low, high], [y, y], color=color, linewidth=1.6, solid_capstyle="butt")
        axes.plot(table.standings.values[index], y, marker=marker, color=color, markersize=5.5, linestyle="")
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    better = "higher" if table.higher_is_better else "lower"
    style_axes(axes, xlabel=f"{ranking.by} ({better} is better)")
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.label.set_fontsize(8.5)
    has_intervals = bool(np.isfinite(table.standings.intervals).any())
    _draw_legend(axes, {ranking.rows[index].kind for index in order}, has_intervals=has_intervals)


def _draw_legend(axes: Axes, kinds: set[str], *, has_intervals: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, marker=marker, markersize=5, linestyle="", label=kind)
        for kind, (color, marker) in STYLES.items()
        if kind in kinds
    ]
    if has_intervals:
        handles.append(Line2D([], [], color=GRAY, linewidth=1.6, label="95 % interval"))
    axes.figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=len(handles),
        fontsize=8,
        frameon=False,
        handletextpad=0.3,
        columnspacing=1.2,
    )


def _draw_ranks(axes: Axes, ranking: Ranking, order: list[int], scores: list[str]) -> None:
    worst_rank = max(3, sum(ranking.rows[index].kind == SOURCE for index in order))
    ranks = np.array([[ranking.tables[name].source_ranks[index] for name in scores] for index in order], float)
    ranks[ranks == 0] = np.nan
    axes.imshow(ranks, cmap="cividis_r", vmin=1, vmax=worst_rank, aspect="auto")
    for (row, column), rank in np.ndenumerate(ranks):
        if np.isfinite(rank):
            color = "w" if rank > (1 + worst_rank) / 2 else "k"
            axes.text(column, row, f"{rank:.0f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(scores)), scores, rotation=90, fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title("ranks among the sources", fontsize=8.5)
