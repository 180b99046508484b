"""The five figures of docs/evidence.md. Their titles say what the numbers say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

from evidence.agreement import CONSTANT, Judgment
from evidence.relation import without_effects
from evidence.two_way import MeanInterval
from modgap.display.figure_layout import MARGIN, WIDTH, Ink, draw_title, figure_below_title, result_figure, styled
from modgap.display.label_spacing import spread_labels

__all__ = ["MethodEffect", "distortion_figure", "errors_figure", "ratios_figure", "regrets_figure", "relation_figure"]

ROW = 0.25
DISTORTION_HEIGHT = 3.2
NAME_SPACE = 1.75
SLANTED_SPACE = 0.65
"""Space at the right for the end of the last slanted name."""


@dataclass(frozen=True)
class MethodEffect:
    """A method of the study beside another one.

    Attributes:
        name: Its name.
        ratio: Ratio of errors.
        interval: Its 95 % interval over targets.
        p_value: P-value of a ratio of 1, corrected by Holm for the number of methods.
        rise: Rise of the source's probe error by training; NaN where there is no source.
    """

    name: str
    ratio: float
    interval: tuple[float, float]
    p_value: float
    rise: float = float("nan")

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


@styled
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
    height = ROW * len(sources) + 0.95
    figure, _ = figure_below_title(title, subtitle, height)
    draw_title(figure, title, subtitle)
    total = figure.get_figheight()
    width = WIDTH - NAME_SPACE - MARGIN - SLANTED_SPACE
    axes = figure.add_axes((
        (MARGIN + NAME_SPACE) / WIDTH, (height - 0.9 - ROW * len(sources)) / total, width / WIDTH,
        ROW * len(sources) / total,
    ))  # fmt: skip
    ranks = (errors[:, None] > errors[None]).sum(axis=1)
    for row, source in enumerate(sources):
        axes.text(-0.1, row + 0.5, source, ha="right", va="center", size=8.5)
        for column in range(len(targets)):
            color = Ink.RANKS[min(int(ranks[row, column]), 3)]
            axes.add_patch(_rectangle(column, row, color))
            weight = "bold" if best[row, column] else "normal"
            axes.text(
                column + 0.5, row + 0.5, f"{errors[row, column]:.0f}", ha="center", va="center", size=8, weight=weight
            )
    for column, target in enumerate(targets):
        axes.text(column + 0.35, -0.15, target, rotation=50, ha="left", va="bottom", size=8, color=Ink.SECONDARY)
    axes.set(xlim=(0, len(targets)), ylim=(len(sources), 0))
    axes.axis("off")
    return figure


def _rectangle(column: int, row: int, color: str) -> Rectangle:
    return Rectangle((column + 0.03, row + 0.05), 0.94, 0.9, facecolor=color, edgecolor="none")


def _draw_row(
    axes: Axes,
    row: int,
    label: str,
    interval: tuple[float, float, float],
    color: str,
    weight: str = "normal",
    marker: str = "o",
) -> None:
    """Draw an estimate with its lower and upper bound in a row of its own, and its label left of the axes."""
    middle, low, high = interval
    axes.plot([low, high], [row + 0.5] * 2, color=color, linewidth=2, solid_capstyle="butt")
    axes.plot(middle, row + 0.5, marker, color=color, markersize=5)
    beside = axes.get_yaxis_transform()
    axes.text(-0.02, row + 0.5, label, transform=beside, ha="right", va="center", size=8.5, weight=weight)


def _plane(title: str, subtitle: str, height: float, right: float) -> tuple[Figure, Axes]:
    """Return a figure with its title and axes of two numbers, with space right of them in inches."""
    figure, _ = figure_below_title(title, subtitle, height + 0.6)
    draw_title(figure, title, subtitle)
    total = figure.get_figheight()
    axes = figure.add_axes((0.75 / WIDTH, 0.55 / total, (WIDTH - 0.75 - right) / WIDTH, height / total))
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


@styled
def regrets_figure(found: Mapping[str, MeanInterval], judgment: Judgment, random: float, n_sources: int) -> Figure:
    """Draw the mean regret of each order with its interval over targets and sources, the lowest at the top.

    Args:
        found: Regret of each score, pilot and baseline.
        judgment: What is concluded about them.
        random: Regret of a random choice.
        n_sources: Number of sources.
    """
    names = sorted(found, key=lambda name: found[name].mean)
    default = judgment.default
    better = [name for name in names if name in judgment.significant or (name == default and judgment.better)]
    title = (
        f"For these {n_sources} sources, better than the constant answer: {', '.join(better)}"
        if better
        else "No way to choose is shown to be better than the constant answer"
    )
    subtitle = "points of error of the chosen source above the best; lines are 95 % intervals over targets and sources"
    figure, axes = result_figure(title, subtitle, ROW * len(names) + 0.1, MARGIN + NAME_SPACE, head=0.2)
    axes.set_ylim(len(names), -0.1)
    axes.axvline(random, color=Ink.BASELINE, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(random, -0.2, "random choice", ha="center", va="bottom", size=8, color=Ink.BASELINE)
    for row, name in enumerate(names):
        one = found[name]
        is_constant = name == CONSTANT
        color = Ink.CONTROL if is_constant else Ink.SOURCE
        label = f"{name} (default)" if name == default else name
        weight = "bold" if name in (CONSTANT, default) else "normal"
        _draw_row(axes, row, label, (one.mean, max(0.0, one.low), one.high), color, weight, "D" if is_constant else "o")
    axes.set_xlim(left=0)
    axes.set_xlabel("regret in points of error")
    return figure


@styled
def relation_figure(score: str, scores: np.ndarray, errors: np.ndarray, rho: MeanInterval) -> Figure:
    """Draw a score against the error of each source on each target, with the effects of both removed.

    Args:
        score: Name of the score.
        scores: The score, higher is better, (S, T); NaN where it is not defined.
        errors: Test errors in percent, (S, T).
        rho: Spearman's rho of the negative score and the error, with its interval.
    """
    known = ~np.isnan(scores)
    if rho.low > 0 or rho.high < 0:
        title = f"A larger {score} goes with a {'larger' if rho.low > 0 else 'smaller'} error after transfer"
    else:
        title = f"{score[:1].upper() + score[1:]} shows no significant relation to the error after transfer"
    subtitle = (
        f"{known.sum()} pairs of {known.any(axis=1).sum()} sources and {known.any(axis=0).sum()} targets, without the "
        f"effects of source and of target; Spearman's rho {rho.mean:.2f} (95 % CI {rho.low:.2f} to {rho.high:.2f})"
    )
    figure, axes = _plane(title, subtitle, 3.4, 0.25)
    axes.axhline(0, color=Ink.GRID, linewidth=0.8)
    axes.axvline(0, color=Ink.GRID, linewidth=0.8)
    rests = (without_effects(table)[known] for table in (-scores, np.where(known, errors, np.nan)))
    axes.plot(*rests, "o", color=Ink.SOURCE, markersize=3.5, alpha=0.6, markeredgewidth=0)
    axes.set_xlabel(f"{score}, minus the means of its source and target")
    axes.set_ylabel("error in points, minus the same means")
    return figure


@styled
def ratios_figure(effects: Sequence[MethodEffect], method: str, design: str) -> Figure:
    """Draw the ratio of a method's error to that of each other one, with the interval over targets.

    Args:
        effects: The method's error beside that of each other one.
        method: Its name.
        design: Numbers of targets, sources and seeds in words.
    """
    better = [one for one in effects if one.is_lower]
    worse = [one for one in effects if one.is_higher]
    title = f"{method} has a significantly lower error than {len(better)} of {len(effects)} methods"
    title += f", and a higher one than {len(worse)}" if worse else ""
    subtitle = (
        f"ratio of test errors over {design}; lines are 95 % intervals over targets, "
        f"colors are p-values corrected by Holm"
    )
    ordered = sorted(effects, key=lambda one: one.ratio)
    figure, axes = result_figure(title, subtitle, ROW * len(ordered) + 0.1, MARGIN + 1.1)
    axes.set_ylim(len(ordered), -0.1)
    axes.axvline(1, color=Ink.BASELINE, linewidth=1)
    for row, one in enumerate(ordered):
        _draw_row(axes, row, one.name, (one.ratio, *one.interval), one.color)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set_xlabel(f"error of {method} divided by that of the method")
    return figure


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
    lines = [0.16 * unit] * len(ordered)
    places = spread_labels([y for _, y, _, _ in ordered], lines, low, high, 0.0)
    for place, (x, y, name, color) in zip(places, ordered, strict=True):
        axes.plot([x, right], [y, place], color=color, linewidth=0.5, alpha=0.5, clip_on=False, zorder=0)
        axes.annotate(name, (right, place), (4, 0), textcoords="offset points", va="center", size=8, color=Ink.TEXT)


@styled
def distortion_figure(effects: Sequence[MethodEffect], reference: str, rise: float) -> Figure:
    """Draw what each method loses of the source's knowledge against its error, beside a reference method.

    Args:
        effects: The error of each method from the source beside that of the reference.
        reference: Name of the reference method.
        rise: Rise of the probe error with it.
    """
    known = [one for one in effects if np.isfinite(one.rise)]
    lower = [one.name for one in known if one.is_lower]
    title = f"No method that uses the source has a significantly lower error than {reference}"
    if lower:
        title = f"Significantly lower error than {reference}: {', '.join(lower)}"
    subtitle = "each method's ratio of test errors (95 % interval over targets) by the rise of the source's probe error"
    figure, axes = _plane(title, subtitle, DISTORTION_HEIGHT, 0.95)
    axes.axhline(1, color=Ink.BASELINE, linewidth=1)
    axes.plot(rise, 1, "D", color=Ink.BASELINE, markersize=5)
    for one in known:
        axes.plot([one.rise] * 2, one.interval, color=one.color, linewidth=1.5)
        axes.plot(one.rise, one.ratio, "o", color=one.color, markersize=5)
    points = [(rise, 1.0, reference, Ink.BASELINE), *((one.rise, one.ratio, one.name, one.color) for one in known)]
    _label_points(axes, points, DISTORTION_HEIGHT)
    axes.set_xlabel("rise of the probe error on the source's own data")
    axes.set_ylabel(f"error divided by that of {reference}")
    return figure
