"""The four figures of the third edition: the value of each target, and the means of rows with their intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

from evidence.ratios import error_ratios
from evidence.replay_tables import SHORT
from evidence.selection import CONSTANT, HISTORY, Table
from evidence.study_jobs import SOURCES
from evidence.third_choice import of_constant
from evidence.third_models import ALL_KINDS, FEWEST, LARGEST, TRANSFER, better_sides, upper_ends
from evidence.third_ratios import FINE_TUNED, FIRST_STAGE, MONA
from evidence.two_way import target_interval
from modgap.answers.figures.labels import write_names
from modgap.answers.figures.rows import draw_marks, draw_reference, row_panel
from modgap.answers.figures.style import Ink, figure_of, styled

ROW, HEAD = 0.4, 0.12
"""Height of a row, and of the space above the first one, in inches."""
MEAN_Y, POINTS_Y = 0.38, 0.74
"""Positions of the mean and of the points of the targets in a row."""
POINTS = "Points are targets, blue marks their means with 95\N{NO-BREAK SPACE}% intervals."


@styled
def rows_figure(values: pd.DataFrame, title: str, subtitle: str, label: str, no_difference: float | None) -> Figure:
    """Draw a faint point for each target, and the mean of each row with its interval over targets, by Student's t.

    Args:
        values: Columns `row`, the name of a row, and `value`, that of one target in it. Rows are drawn in their order.
        title: The finding, in one sentence.
        subtitle: What was compared, on how many targets.
        label: Label of the axis. Values around 1 are ratios, of which geometric means are drawn on a log scale.
        no_difference: Value without a difference, at which a line is drawn: 0, or 1 for ratios; None for no line.
    """
    names = list(dict.fromkeys(values["row"]))
    axes = row_panel(title, subtitle, label, len(names), ROW, HEAD, None)
    is_ratio = no_difference == 1
    points = values.assign(y=values["row"].map(names.index) + POINTS_Y)
    style: dict[str, Any] = {"color": Ink.CONTROL, "alpha": 0.4, "s": 16, "linewidth": 0}
    seaborn.scatterplot(data=points, x="value", y="y", ax=axes, **style)
    rows = [mean_of_row(values.loc[values["row"] == name, "value"].to_numpy(), is_ratio) for name in names]
    means = pd.DataFrame(rows, columns=["value", "low", "high"]).assign(y=np.arange(len(names)) + MEAN_Y, mark="source")
    axes.set(xlabel=label, ylabel="")
    if is_ratio:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 4]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    draw_marks(axes, means)
    if no_difference is not None:
        draw_reference(axes, no_difference)
    write_names(axes, [number + MEAN_Y for number in range(len(names))], names, points=-10, size=9)
    return figure_of(axes)


def mean_of_row(values: np.ndarray, is_ratio: bool) -> tuple[float, float, float]:
    """Return the mean over targets with the ends of its 95 % interval, which are NaN for fewer than four targets.

    Args:
        values: Value of each target, (n,).
        is_ratio: True for the geometric mean.
    """
    values = np.log(values) if is_ratio else values
    ends = np.array([values.mean(), np.nan, np.nan])
    if len(values) >= FEWEST:
        interval = target_interval(values)
        ends[1:] = interval.low, interval.high
    mean, low, high = map(float, np.exp(ends) if is_ratio else ends)
    return mean, low, high


def choice_figure(regrets: Mapping[str, np.ndarray], table: Table) -> Figure:
    """Draw the regret of each way to choose (question A), the lowest at the top.

    The title says that history is better only if it is so with and without the targets that the constant source cannot
    read.

    Args:
        regrets: Result of `judged_regrets`.
        table: The table from which they come.
    """
    of_targets = {name: values[np.isfinite(values)] for name, values in regrets.items()}
    order = sorted(of_targets, key=lambda name: of_targets[name].mean())
    differences = [
        values[HISTORY.format(SHORT)] - values[CONSTANT] for values in (regrets, of_constant(regrets, table))
    ]
    is_better = all(target_interval(values[np.isfinite(values)]).high < 0 for values in differences)
    relation = "better" if is_better else "not shown to be better"
    title = f"History with pilots of three epochs is {relation} than the {CONSTANT}"
    subtitle = (
        f"Test error of the chosen source above that of the best, on {len(of_targets[CONSTANT])} targets. {POINTS}"
    )
    return rows_figure(_long({name: of_targets[name] for name in order}), title, subtitle, "regret in points", None)


def baseline_figure(frame: pd.DataFrame) -> Figure:
    """Draw the error of the best probe minus that of the best baseline by kind of target (question B).

    Args:
        frame: Result of `chosen_table`.
    """
    both = frame.dropna(subset=["probe", "baseline"])
    both = both.assign(difference=both["probe"] - both["baseline"])
    of_kinds = {str(kind): part["difference"].to_numpy() for kind, part in both.groupby("kind")}
    of_kinds = dict(sorted(of_kinds.items(), key=lambda item: item[1].mean()))
    better = better_sides(frame)
    sides = {side: [kind for kind in of_kinds if better.get(kind) == side] for side in ("probe", "baseline")}
    parts = [f"the best {side} is better on {' and '.join(kinds)}" for side, kinds in sides.items() if kinds]
    of_all = better[ALL_KINDS]
    finding = "no difference is shown over all targets"
    if of_all in sides:
        finding = f"the best {of_all} is better over all targets"
    title = (
        f"With {LARGEST} labeled samples, {', and '.join([finding, *(parts or ['no single kind shows a difference'])])}"
    )
    subtitle = (
        f"Test errors on {len(both)} targets; below 0 the probe is better. {POINTS} Kinds of few targets have none."
    )
    rows = {f"{kind} ({len(values)})": values for kind, values in of_kinds.items()}
    every = {f"{ALL_KINDS} ({len(both)})": both["difference"].to_numpy()}
    label = "error of the best probe minus that of the best baseline, in points"
    return rows_figure(_long({**every, **rows}), title, subtitle, label, 0)


def transfer_figure(errors: pd.DataFrame) -> Figure:
    """Draw the regret of whole transfers beside single strategies (question C), the lowest at the top.

    Args:
        errors: Test errors in percent, a row for each target and a column for each strategy.
    """
    complete = errors.dropna()
    regrets = complete.sub(complete.min(axis=1), axis=0)
    ends = upper_ends(complete)
    opponent = max(ends, key=lambda name: ends[name])
    relation = "is better than" if ends[opponent] < 0 else "is as good as"
    relation = f"{relation} all single strategies" if ends[opponent] < 1 else f"is not shown to match the {opponent}"
    title = f"A transfer of 10 minutes {relation}"
    interval = target_interval((complete[TRANSFER] - complete[opponent]).to_numpy())
    subtitle = (
        f"Test error above the lowest of all strategies on {len(complete)} targets. {POINTS} "
        f"The transfer minus the {opponent}: {interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]."
    )
    order = regrets.mean().sort_values().index
    rows = {str(name): regrets[name].to_numpy() for name in order}
    return rows_figure(_long(rows), title, subtitle, "regret in points", None)


def method_figure(frame: pd.DataFrame) -> Figure:
    """Draw the error of each method over that of fine-tuning, with a learning rate of its own for each target.

    Args:
        frame: Result of `runs_frame`.
    """
    logs = frame.pivot_table(index="target", columns="method", values="log_error", aggfunc="mean")
    ratios = np.exp(logs.sub(logs[FINE_TUNED], axis=0).drop(columns=FINE_TUNED)).dropna()
    of_mona = error_ratios(frame, MONA, [FINE_TUNED, FIRST_STAGE])
    is_lower = all(ratio.high < 1 for ratio in of_mona.values())
    title = f"With rates of their own, MoNA {'lowers' if is_lower else 'is not shown to lower'} the error"
    subtitle = (
        f"Test errors over those of fine-tuning on {len(ratios)} targets, geometric means over {len(SOURCES)} sources "
        f"and the seeds. {POINTS}"
    )
    order = np.log(ratios).mean().sort_values().index
    rows = {str(name): ratios[name].to_numpy() for name in order}
    return rows_figure(_long(rows), title, subtitle, "error divided by that of fine-tuning", 1)


def _long(rows: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return the frame that `rows_figure` takes."""
    pairs = [(name, float(value)) for name, values in rows.items() for value in values]
    return pd.DataFrame(pairs, columns=["row", "value"])
