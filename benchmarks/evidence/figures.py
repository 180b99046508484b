"""The five figures of docs/evidence-second.md. Their titles say what the numbers say.

Their text is larger than that of modgap's other figures, so that it can be read where the page is 390 pixels wide.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FormatStrFormatter, MaxNLocator, NullLocator

from evidence.agreement import CONSTANT, Judgment
from evidence.relation import without_effects
from evidence.two_way import MeanInterval
from modgap.answers.figures.labels import spread_labels
from modgap.answers.figures.style import DPI, MARGIN, WIDTH, Ink, drawing_settings, wrap_text

TITLE_SIZE = 15.0
SUBTITLE_SIZE = 11.0
TEXT_SIZE = 10.5
LINES_PER_POINT = 1.25 / 72
"""Height of a line of text in inches, for each point of its size."""
ROW = 0.29
NAME_SPACE = 2.05
SLANTED_SPACE = 0.8
"""Space at the right for the end of the last slanted name."""
AXIS_SPACE = 0.62
"""Space below axes for their numbers and their name."""
PANEL_HEIGHT = 2.1
Parameters = ParamSpec("Parameters")


def drawn(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Make a function draw with modgap's fonts in a larger size."""

    @wraps(draw)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with mpl.rc_context({**drawing_settings(), "font.size": TEXT_SIZE}):
            return draw(*args, **kwargs)

    return wrapper


def _sheet(title: str, subtitle: str, height: float) -> Figure:
    """Return a figure with a bold title and a gray subtitle, and space of a height in inches below them."""
    parts = [(title, TITLE_SIZE, True, Ink.TITLE), (subtitle, SUBTITLE_SIZE, False, Ink.SECONDARY)]
    lines = [
        (line, size, bold, color)
        for text, size, bold, color in parts
        for line in wrap_text(text, WIDTH - 2 * MARGIN, size, bold)
    ]
    total = height + 2 * MARGIN + sum(size for _, size, _, _ in lines) * LINES_PER_POINT
    figure = Figure(figsize=(WIDTH, total), dpi=DPI, facecolor="white")
    y = total - MARGIN
    for line, size, bold, color in lines:
        weight = "bold" if bold else "normal"
        figure.text(MARGIN / WIDTH, y / total, line, size=size, weight=weight, color=color, va="top")
        y -= size * LINES_PER_POINT
    return figure


def _axes(figure: Figure, left: float, bottom: float, right: float, height: float) -> Axes:
    """Return axes between margins in inches."""
    total = figure.get_figheight()
    axes = figure.add_axes((left / WIDTH, bottom / total, (WIDTH - left - right) / WIDTH, height / total))
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _rows_axes(figure: Figure, left: float, n_rows: float) -> Axes:
    """Return axes with rows of estimates and their names at the left."""
    axes = _axes(figure, left, AXIS_SPACE, 0.3, ROW * n_rows + 0.1)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=Ink.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_yticks([])
    axes.set_ylim(n_rows, -0.1)
    return axes


@dataclass(frozen=True)
class MethodEffect:
    """A method of the study beside another one.

    Attributes:
        name: Its name.
        ratio: Ratio of errors.
        interval: Its 95 % interval over targets.
        p_value: P-value of a ratio of 1, corrected by Holm for the number of methods.
        rise: Rise of the source's probe error by training; NaN where there is no source.
        same_rate: True if both methods have the same learning rate.
    """

    name: str
    ratio: float
    interval: tuple[float, float]
    p_value: float
    rise: float = float("nan")
    same_rate: bool = True

    @property
    def is_lower(self) -> bool:
        """True if the ratio is significantly below 1."""
        return self.p_value <= 0.05 and self.ratio < 1

    @property
    def is_higher(self) -> bool:
        """True if the ratio is significantly above 1."""
        return self.p_value <= 0.05 and self.ratio > 1

    @property
    def color(self) -> str:
        """Color of the method."""
        return Ink.SOURCE if self.is_lower else Ink.ERROR if self.is_higher else Ink.CONTROL

    @property
    def filling(self) -> str:
        """Color inside the mark, which is white for methods at another rate."""
        return self.color if self.same_rate else "white"


@dataclass(frozen=True)
class Panel:
    """The methods with one source, beside a reference method.

    Attributes:
        source: What the panel shows, with the name of the source.
        effects: The methods.
        rise: Rise of the probe error with the reference method.
    """

    source: str
    effects: tuple[MethodEffect, ...]
    rise: float = float("nan")


@drawn
def errors_figure(
    sources: Sequence[str], targets: Sequence[str], errors: np.ndarray, one_seed: Sequence[str] = ()
) -> Figure:
    """Draw the test errors as a table: a stronger color is a lower rank on the target, and the best are bold.

    Args:
        sources: Names of the sources S.
        targets: Names of the targets T.
        errors: Test errors in percent, (S, T).
        one_seed: Sources with one seed.
    """
    best = errors == errors.min(axis=0)
    n_best = int(best.any(axis=1).sum())
    title = f"{n_best} of {len(sources)} sources are the best on some of {len(targets)} targets"
    exception = f" ({', '.join(one_seed)}: one)" if one_seed else ""
    subtitle = (
        f"test error in % after fine-tuning all weights, mean of two seeds{exception}; colors are ranks on a target"
    )
    figure = _sheet(title, subtitle, ROW * len(sources) + 1.45)
    axes = _axes(figure, MARGIN + NAME_SPACE, MARGIN, MARGIN + SLANTED_SPACE, ROW * len(sources))
    ranks = (errors[:, None] > errors[None]).sum(axis=1)
    for row, source in enumerate(sources):
        axes.text(-0.1, row + 0.5, source, ha="right", va="center")
        for column in range(len(targets)):
            color = Ink.RANKS[min(int(ranks[row, column]), 3)]
            axes.add_patch(_rectangle(column, row, color))
            weight = "bold" if best[row, column] else "normal"
            axes.text(column + 0.5, row + 0.52, f"{errors[row, column]:.0f}", ha="center", va="center", weight=weight)
    for column, target in enumerate(targets):
        axes.text(column + 0.35, -0.15, target, rotation=50, ha="left", va="bottom", color=Ink.SECONDARY)
    axes.set(xlim=(0, len(targets)), ylim=(len(sources), 0))
    axes.axis("off")
    return figure


def _rectangle(column: int, row: int, color: str) -> Rectangle:
    return Rectangle((column + 0.03, row + 0.05), 0.94, 0.9, facecolor=color, edgecolor="none")


def _draw_row(
    axes: Axes,
    row: float,
    label: str,
    interval: tuple[float, float, float],
    color: str,
    weight: str = "normal",
    marker: str = "o",
    filling: str | None = None,
) -> None:
    """Draw an estimate with its lower and upper bound in a row of its own, and its label left of the axes."""
    middle, low, high = interval
    axes.plot([low, high], [row + 0.5] * 2, color=color, linewidth=2, solid_capstyle="butt")
    axes.plot(middle, row + 0.5, marker, color=color, markersize=6, markerfacecolor=filling or color)
    beside = axes.get_yaxis_transform()
    axes.text(-0.02, row + 0.5, label, transform=beside, ha="right", va="center", weight=weight)


@drawn
def regrets_figure(by_score: Mapping[str, MeanInterval], judgment: Judgment, random: float, n_sources: int) -> Figure:
    """Draw the mean regret of each order with its interval over targets and sources, the lowest at the top.

    Args:
        by_score: Regret of each score, pilot and baseline.
        judgment: What is concluded about them.
        random: Regret of a random choice.
        n_sources: Number of sources.
    """
    names = sorted(by_score, key=lambda name: by_score[name].mean)
    default = judgment.default
    better = [name for name in names if name in judgment.significant or (name == default and judgment.better)]
    title = (
        f"For these {n_sources} sources, better than the constant answer: {', '.join(better)}"
        if better
        else "No way to choose is shown to be better than the constant answer"
    )
    subtitle = "points of error of the chosen source above the best; lines are 95 % intervals over targets and sources"
    figure = _sheet(title, subtitle, ROW * len(names) + AXIS_SPACE + 0.4)
    axes = _rows_axes(figure, MARGIN + NAME_SPACE - 0.1, len(names))
    axes.axvline(random, color=Ink.BASELINE, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(random, -0.2, "random choice", ha="center", va="bottom", color=Ink.BASELINE)
    for row, name in enumerate(names):
        one = by_score[name]
        is_constant = name == CONSTANT
        color = Ink.CONTROL if is_constant else Ink.SOURCE
        label = f"{name} (default)" if name == default else name
        weight = "bold" if name in (CONSTANT, default) else "normal"
        _draw_row(axes, row, label, (one.mean, max(0.0, one.low), one.high), color, weight, "D" if is_constant else "o")
    axes.set_xlim(left=0)
    axes.set_xlabel("regret in points of error")
    return figure


@drawn
def relation_figure(score: str, scores: np.ndarray, errors: np.ndarray, rho: MeanInterval) -> Figure:
    """Draw a score against the error of each source on each target, with the effects of both removed.

    Args:
        score: Name of the score.
        scores: The score, higher is better, (S, T); NaN where it is not defined.
        errors: Test errors in percent, (S, T).
        rho: Spearman's rho of the negative score and the error, with its interval.
    """
    has_score = ~np.isnan(scores)
    if rho.low > 0 or rho.high < 0:
        title = f"A larger {score} goes with a {'larger' if rho.low > 0 else 'smaller'} error after transfer"
    else:
        title = f"{score[:1].upper() + score[1:]} shows no significant relation to the error after transfer"
    subtitle = (
        f"{has_score.sum()} pairs of {has_score.any(axis=1).sum()} sources and {has_score.any(axis=0).sum()} targets, "
        "without the effects of source and of target; "
        f"Spearman's rho {rho.mean:.2f} (95 % CI {rho.low:.2f} to {rho.high:.2f})"
    )
    figure = _sheet(title, subtitle, 3.4 + AXIS_SPACE + 0.15)
    axes = _axes(figure, 0.85, AXIS_SPACE, 0.25, 3.4)
    axes.axhline(0, color=Ink.GRID, linewidth=0.8)
    axes.axvline(0, color=Ink.GRID, linewidth=0.8)
    rests = (without_effects(table)[has_score] for table in (-scores, np.where(has_score, errors, np.nan)))
    axes.plot(*rests, "o", color=Ink.SOURCE, markersize=3.5, alpha=0.6, markeredgewidth=0)
    axes.set_xlabel(f"{score}, minus the means of its source and target")
    axes.set_ylabel("error in points, minus the same means")
    return figure


@drawn
def ratios_figure(panels: Sequence[Panel], method: str, design: str) -> Figure:
    """Draw the ratio of a method's error to that of each other one with each source, with the interval over targets.

    Args:
        panels: The method's error beside that of each other one, for each source.
        method: Its name.
        design: Numbers of targets and seeds in words.
    """
    title = f"At the same learning rate, {_differences(panels, method)}"
    subtitle = (
        f"ratio of test errors over {design} with 95 % intervals over targets; hollow: at another rate; "
        "colors: p-values corrected by Holm for each source"
    )
    n_rows = sum(len(panel.effects) for panel in panels) + 1.4 * len(panels)
    figure = _sheet(title, subtitle, ROW * n_rows + AXIS_SPACE + 0.1)
    axes = _rows_axes(figure, MARGIN + 1.2, n_rows)
    axes.axvline(1, color=Ink.BASELINE, linewidth=1)
    row = 0.0
    for panel in panels:
        axes.text(0.0, row + 0.7, panel.source, transform=axes.get_yaxis_transform(), va="center", weight="bold")
        row += 1.4
        for one in sorted(panel.effects, key=lambda one: one.ratio):
            _draw_row(axes, row, one.name, (one.ratio, *one.interval), one.color, filling=one.filling)
            row += 1
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set_xlabel(f"error of {method} divided by that of the method")
    return figure


def _differences(panels: Sequence[Panel], method: str) -> str:
    """Return from which methods of the same rate a method differs significantly, as the end of a title."""
    parts = []
    for side in ("lower", "higher"):
        names = [
            f"{one.name} ({panel.source})"
            for panel in panels
            for one in panel.effects
            if one.same_rate and (one.is_lower if side == "lower" else one.is_higher)
        ]
        if names:
            parts.append(f"a significantly {side} error than {' and '.join(names)}")
    if not parts:
        return f"{method} does not differ significantly from any method"
    return f"{method} has {', and '.join(parts)}"


def _label_points(axes: Axes, points: Sequence[tuple[float, float, str, str]], height: float) -> None:
    """Write the names of points in a column right of the axes, each with a thin line to its point.

    Args:
        axes: The axes.
        points: Position, name and color of each point.
        height: Height of the axes in inches.
    """
    (_, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    axes.set(xlim=axes.get_xlim(), ylim=(low, high))
    unit = (high - low) / height
    ordered = sorted(points, key=lambda point: point[1])
    lines = [0.2 * unit] * len(ordered)
    places = spread_labels([y for _, y, _, _ in ordered], lines, low, high, 0.0)
    for place, (x, y, name, color) in zip(places, ordered, strict=True):
        axes.plot([x, right], [y, place], color=color, linewidth=0.5, alpha=0.5, clip_on=False, zorder=0)
        axes.annotate(name, (right, place), (4, 0), textcoords="offset points", va="center", color=Ink.TEXT)


@drawn
def distortion_figure(panels: Sequence[Panel], reference: str) -> Figure:
    """Draw what each method loses of the source's knowledge against its error, beside a reference method.

    Args:
        panels: The error of each method from the source beside that of the reference, for each source and way to
            measure what is lost.
        reference: Name of the reference method.
    """
    title = _lower_error_title(panels, reference)
    subtitle = (
        f"ratio of test errors to that of {reference} (95 % interval over targets) by the rise of the source's probe "
        "error; hollow marks are methods at another rate"
    )
    step = PANEL_HEIGHT + AXIS_SPACE
    figure = _sheet(title, subtitle, step * len(panels) + 0.3)
    for number, panel in enumerate(reversed(panels)):
        axes = _axes(figure, 0.8, step * number + AXIS_SPACE, 1.1, PANEL_HEIGHT)
        axes.axhline(1, color=Ink.BASELINE, linewidth=1)
        axes.plot(panel.rise, 1, "D", color=Ink.BASELINE, markersize=6)
        shown = [one for one in panel.effects if np.isfinite(one.rise)]
        for one in shown:
            axes.plot([one.rise] * 2, one.interval, color=one.color, linewidth=1.5, zorder=1)
            axes.plot(one.rise, one.ratio, "o", color=one.color, markersize=6, markerfacecolor=one.filling)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        points = [(panel.rise, 1.0, reference, Ink.BASELINE)]
        _label_points(axes, [*points, *((one.rise, one.ratio, one.name, one.color) for one in shown)], PANEL_HEIGHT)
        axes.set_title(panel.source, loc="left", size=TEXT_SIZE, weight="bold")
        axes.set_ylabel("ratio of errors")
        axes.set_xlabel("rise of the probe error" if number == 0 else "")
    return figure


def _lower_error_title(panels: Sequence[Panel], reference: str) -> str:
    lower = dict.fromkeys(
        f"{one.name} ({panel.source.partition(',')[0]})"
        for panel in panels
        for one in panel.effects
        if one.is_lower and one.same_rate
    )
    if lower:
        return f"Significantly lower error than {reference} at the same rate: {', '.join(lower)}"
    return f"At the same learning rate, no method has a significantly lower error than {reference}"
