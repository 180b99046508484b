"""The four figures of the third edition: the value of each target, and the means of rows with their intervals."""

import textwrap
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

from evidence.choice import CONSTANT, HISTORY_SHORT, Regrets, Table, of_constant
from evidence.lines import LARGEST
from evidence.methods import FINE_TUNED, FIRST_STAGE, MONA, SOURCES, error_ratio
from evidence.models import EVERY_KIND, FEWEST, TRANSFER, better_sides, upper_ends
from evidence.summaries import mean_interval

WIDTH, DPI, ROW = 7.0, 200, 0.4
"""Width and height of a row in inches, and dots per inch."""
MARGIN, TITLE_LINE, SUBTITLE_LINE, BELOW, HEAD = 0.14, 0.21, 0.17, 0.52, 0.12
"""Space at the edges, heights of a line of text and of the labels of the axis, and space above the first row."""
TITLE_CHARACTERS, SUBTITLE_CHARACTERS = 71, 110
BLUE, GRAY, TITLE, TEXT, GRID, AXIS = "#0072B2", "#6B6B6B", "#1A1A1A", "#333333", "#EEEEEE", "#BDBDBD"
MEAN_Y, POINTS_Y = 0.38, 0.74
"""Positions of the mean and of the points of the targets in a row."""
POINTS = "Points are targets, blue marks their means with 95\N{NO-BREAK SPACE}% intervals."
STYLE = {
    **seaborn.plotting_context("paper"),
    **seaborn.axes_style("whitegrid"),
    "font.family": ["DejaVu Sans"],
    **dict.fromkeys(("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize"), 8.5),
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), TEXT),
    **dict.fromkeys(("axes.edgecolor", "xtick.color"), AXIS),
    "grid.color": GRID,
}


def rows_figure(
    rows: Mapping[str, np.ndarray], title: str, subtitle: str, label: str, no_difference: float | None
) -> Figure:
    """Draw a faint point for each target, and the mean of each row with its interval over targets, by Student's t.

    Args:
        rows: Values of the targets of each row, by its name. Rows are drawn in their order.
        title: The finding, in one sentence.
        subtitle: What was compared, on how many targets.
        label: Label of the axis. Values around 1 are ratios, of which geometric means are drawn on a log scale.
        no_difference: Value without a difference, at which a line is drawn: 0, or 1 for ratios; None for no line.
    """
    is_ratio = no_difference == 1
    points = pd.DataFrame(
        [(number + POINTS_Y, value) for number, values in enumerate(rows.values()) for value in values],
        columns=["y", "value"],
    )
    means = pd.DataFrame([mean_of_row(values, is_ratio) for values in rows.values()], columns=["value", "low", "high"])
    means["y"] = np.arange(len(rows)) + MEAN_Y
    with mpl.rc_context(STYLE):
        axes = _titled_axes(title, subtitle, len(rows))
        seaborn.scatterplot(points, x="value", y="y", ax=axes, color=GRAY, alpha=0.4, s=16, linewidth=0)
        if is_ratio:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 4]))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        has_interval = means[means["high"] > means["low"]]
        ends = {"colors": BLUE, "linewidth": 2, "zorder": 3, "clip_on": False, "gid": "intervals", "capstyle": "butt"}
        axes.hlines(has_interval["y"], has_interval["low"], has_interval["high"], **ends)
        marks = {"facecolor": BLUE, "edgecolor": BLUE, "linewidth": 1.4, "clip_on": False, "zorder": 4, "s": 49}
        seaborn.scatterplot(means, x="value", y="y", ax=axes, **marks)
        if no_difference is not None:
            dashed = {"color": GRAY, "linestyle": (0, (4, 3)), "linewidth": 1.1, "zorder": 1}
            axes.plot([no_difference] * 2, [len(rows), 0], **dashed)
        axes.set(xlabel=label, ylabel="", yticks=means["y"])
        axes.set_yticklabels(list(rows), size=9, color=TITLE)
        axes.tick_params(axis="y", length=0, pad=7)
    return axes.get_figure()


def _titled_axes(title: str, subtitle: str, rows: int) -> Axes:
    """Return the axes of a new figure below a bold title and a gray subtitle, with the first row at the top."""
    lines, further = textwrap.wrap(title, TITLE_CHARACTERS), textwrap.wrap(subtitle, SUBTITLE_CHARACTERS)
    top = MARGIN + TITLE_LINE * len(lines) + SUBTITLE_LINE * len(further) + 0.22
    height = top + HEAD + rows * ROW + BELOW
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    for number, line in enumerate(lines):
        y = 1 - (MARGIN + TITLE_LINE * number) / height
        figure.text(MARGIN / WIDTH, y, line, size=12, weight="bold", color=TITLE, va="top")
    for number, line in enumerate(further):
        y = 1 - (MARGIN + 0.05 + TITLE_LINE * len(lines) + SUBTITLE_LINE * number) / height
        figure.text(MARGIN / WIDTH, y, line, size=8.5, color=GRAY, va="top")
    side = 0.08 / WIDTH
    figure.set_layout_engine(
        "constrained", rect=(side, 0, 1 - 2 * side, 1 - (top - 0.1) / height), w_pad=0.06, h_pad=0.06
    )
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(visible=False, axis="both")
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", bottom=True, length=3, width=0.8)
    axes.set_ylim(rows, -HEAD / ROW)
    return axes


def mean_of_row(values: np.ndarray, is_ratio: bool) -> tuple[float, float, float]:
    """Return the mean over targets with the ends of its 95 % interval, which are NaN for fewer than four targets.

    Args:
        values: Value of each target, (n,).
        is_ratio: True for the geometric mean.
    """
    values = np.log(values) if is_ratio else values
    ends = mean_interval(values) if len(values) >= FEWEST else (values.mean(), np.nan, np.nan)
    mean, low, high = map(float, np.exp(ends) if is_ratio else ends)
    return mean, low, high


def choice_figure(regrets: Regrets, table: Table) -> Figure:
    """Draw the regret of each way to choose (question A), the lowest at the top.

    The title says that history is better only if it is so with and without the targets that the constant source cannot
    read.
    """
    rows = {name: values[np.isfinite(values)] for name, values in regrets.items()}
    differences = [values[HISTORY_SHORT] - values[CONSTANT] for values in (regrets, of_constant(regrets, table))]
    is_better = all(mean_interval(values[np.isfinite(values)]).high < 0 for values in differences)
    relation = "better" if is_better else "not shown to be better"
    title = f"History with pilots of three epochs is {relation} than the {CONSTANT}"
    subtitle = f"Test error of the chosen source above that of the best, on {len(rows[CONSTANT])} targets. {POINTS}"
    return rows_figure(_sorted(rows), title, subtitle, "regret in points", None)


def baseline_figure(frame: pd.DataFrame) -> Figure:
    """Draw the error of the best probe minus that of the best baseline by kind of target (question B).

    Args:
        frame: Result of `Models.chosen`.
    """
    both = frame.dropna(subset=["probe", "baseline"])
    differences = both["probe"] - both["baseline"]
    kinds = _sorted({str(kind): part.to_numpy() for kind, part in differences.groupby(both["kind"])})
    better = better_sides(frame)
    sides = {side: [kind for kind in kinds if better.get(kind) == side] for side in ("probe", "baseline")}
    parts = [f"the best {side} is better on {' and '.join(of_side)}" for side, of_side in sides.items() if of_side]
    finding = "no difference is shown over all targets"
    if better[EVERY_KIND] in sides:
        finding = f"the best {better[EVERY_KIND]} is better over all targets"
    parts = [finding, *(parts or ["no single kind shows a difference"])]
    subtitle = (
        f"Test errors on {len(both)} targets; below 0 the probe is better. {POINTS} Kinds of few targets have none."
    )
    rows = {EVERY_KIND: differences.to_numpy(), **kinds}
    return rows_figure(
        {f"{kind} ({len(values)})": values for kind, values in rows.items()},
        f"With {LARGEST} labeled samples, {', and '.join(parts)}",
        subtitle,
        "error of the best probe minus that of the best baseline, in points",
        0,
    )


def transfer_figure(errors: pd.DataFrame) -> Figure:
    """Draw the regret of whole transfers beside single strategies (question C), the lowest at the top.

    Args:
        errors: Test errors in percent, a row for each target and a column for each strategy.
    """
    regrets = errors.sub(errors.min(axis=1), axis=0)
    ends = upper_ends(errors)
    opponent = max(ends, key=lambda name: ends[name])
    relation = "is better than" if ends[opponent] < 0 else "is as good as"
    relation = f"{relation} all single strategies" if ends[opponent] < 1 else f"is not shown to match the {opponent}"
    interval = mean_interval((errors[TRANSFER] - errors[opponent]).to_numpy())
    subtitle = (
        f"Test error above the lowest of all strategies on {len(errors)} targets. {POINTS} "
        f"The transfer minus the {opponent}: {interval}."
    )
    rows = {str(name): regrets[name].to_numpy() for name in regrets}
    return rows_figure(_sorted(rows), f"A transfer of 10 minutes {relation}", subtitle, "regret in points", None)


def method_figure(frame: pd.DataFrame) -> Figure:
    """Draw the error of each method over that of fine-tuning, with a learning rate of its own for each target.

    Args:
        frame: Result of `runs_frame`.
    """
    logs = frame.pivot_table(index="target", columns="method", values="log_error", aggfunc="mean")
    ratios = logs.sub(logs[FINE_TUNED], axis=0).drop(columns=FINE_TUNED).dropna()
    is_lower = all(error_ratio(frame, MONA, other).high < 1 for other in (FINE_TUNED, FIRST_STAGE))
    title = f"With rates of their own, MoNA {'lowers' if is_lower else 'is not shown to lower'} the error"
    subtitle = (
        f"Test errors over those of fine-tuning on {len(ratios)} targets, geometric means over {len(SOURCES)} sources "
        f"and the seeds. {POINTS}"
    )
    rows = _sorted({str(name): ratios[name].to_numpy() for name in ratios})
    ratios_by_row = {name: np.exp(values) for name, values in rows.items()}
    return rows_figure(ratios_by_row, title, subtitle, "error divided by that of fine-tuning", 1)


def _sorted(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return rows by their means, the lowest first."""
    return dict(sorted(rows.items(), key=lambda item: float(item[1].mean())))
