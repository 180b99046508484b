"""Figure of few-shot curves: error rate by the number of training samples of each class."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from scipy import stats

from modgap.display.figure_layout import (
    LINE_STYLES,
    MARGIN,
    WIDTH,
    Ink,
    draw_title,
    drawable_names,
    figure_below_title,
    fit_names,
    name_in_title,
    style_lines_axes,
    styled,
    text_width,
)
from modgap.display.label_spacing import label_lines
from modgap.distortion.display_names import display_name
from modgap.distortion.few_shot import FewShotCurve
from modgap.statistics.multiple_comparisons import holm

__all__ = ["few_shot_caption", "few_shot_figure"]

LEFT = 0.55
LABEL_GAP = 0.3
"""Space left and right of the names of the lines in inches."""
WIDEST_LABEL = 2.8
"""Space for the widest name in inches; a longer name is cut."""
HEIGHT = 2.2
FOOTER = 0.52
CONTROL_STYLE = (Ink.CONTROL, Ink.TEXT, "D")
"""Color, color of the label and marker of a source that was not fine-tuned, such as one with random weights."""
LABEL_SIZE = 8.5
MAJORITY_CLASS = "majority class"
FAR = 2.0
"""Multiple of the highest error from which the majority-class baseline is not drawn."""
SIGNIFICANCE_LEVEL = 0.05
FEW_DRAWS = 10
"""Number of draws below which each draw is a dot."""


@styled
def few_shot_figure(
    curves: Mapping[str, FewShotCurve], baseline_error: float, surrogate: str, other_sources: Collection[str] = ()
) -> Figure:
    """Draw one line for each encoder, the mean error over draws, on a log axis; bands span the draws.

    Args:
        curves: Curve of each encoder, by its label; the source before fine-tuning comes first.
        baseline_error: Error rate of always predicting the majority class, drawn as a dashed line.
        surrogate: Name of the surrogate, for the subtitle.
        other_sources: Labels of encoders that were not fine-tuned, which the title does not count.
    """
    first = next(iter(curves.values()))
    title = _title(curves, surrogate, other_sources)
    n_draws = first.errors.shape[1]
    subtitle = (
        f"Error of a {display_name(first.name)} probe on {name_in_title(surrogate, 'surrogate')} with few training "
        f"samples, mean of {n_draws} draws. Bands span all draws."
    )
    figure, top = figure_below_title(title, subtitle, 0.25 + HEIGHT + FOOTER)
    height = figure.get_figheight()
    colored = _colored(curves)
    names = fit_names(drawable_names(colored, "encoder"), WIDEST_LABEL, LABEL_SIZE, bold=True)
    right = LABEL_GAP + max(text_width(name, LABEL_SIZE, bold=True) for name in [*names, MAJORITY_CLASS])
    axes = figure.add_axes((LEFT / WIDTH, FOOTER / height, (WIDTH - LEFT - right) / WIDTH, HEIGHT / height))
    axes.set_xscale("log")
    style_lines_axes(axes)
    highest = max(float(curve.errors.max()) for curve in curves.values())
    labels = []
    if baseline_error < FAR * highest:
        axes.axhline(baseline_error, color=Ink.BASELINE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
        labels.append((baseline_error, MAJORITY_CLASS, Ink.SECONDARY))
        highest = max(highest, baseline_error)
    for number, (label, name) in enumerate(zip(colored, names, strict=True)):
        style = CONTROL_STYLE if label in other_sources else LINE_STYLES[number]
        labels.append(_draw_curve(axes, style, curves[label], name))
    gray = [curve for label, curve in curves.items() if label not in colored]
    for curve in gray:
        axes.plot(curve.shots, curve.mean, color=Ink.AXIS, linewidth=1, zorder=2)
    if gray:
        middle = float(np.median([curve.mean[-1] for curve in gray]))
        labels.append((middle, "1 other" if len(gray) == 1 else f"{len(gray):,} others", Ink.SECONDARY))
    axes.set_xticks(first.shots, [str(count) for count in first.shots], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlim(first.shots[0] / 1.25, first.shots[-1] * 1.12)
    axes.set(ylim=(0, 1.08 * highest), xlabel="training samples per class (log scale)")
    label_lines(axes, first.shots[-1] * 1.2, labels, HEIGHT)
    figure.text(MARGIN / WIDTH, 1 - (top + 0.02) / height, "error", size=8, color=Ink.SECONDARY, va="top")
    draw_title(figure, title, subtitle)
    return figure


def _colored(curves: Mapping[str, FewShotCurve]) -> list[str]:
    """Return the labels of the colored curves: all if they are up to four, or the first, the highest and the lowest."""
    if len(curves) <= len(LINE_STYLES):
        return list(curves)
    first, *others = curves
    ordered = sorted(others, key=lambda label: float(curves[label].mean[-1]))
    return [first, ordered[-1], ordered[0]]


def _draw_curve(axes: Axes, style: tuple[str, str, str], curve: FewShotCurve, name: str) -> tuple[float, str, str]:
    """Draw a colored curve and return its label."""
    color, text_color, marker = style
    axes.fill_between(
        curve.shots, curve.errors.min(axis=1), curve.errors.max(axis=1), color=color, alpha=0.14, linewidth=0, zorder=2
    )
    if curve.errors.shape[1] < FEW_DRAWS:
        for draw in curve.errors.T:
            axes.plot(curve.shots, draw, ".", color=color, markersize=2.5, zorder=3)
    fill = "white" if style == CONTROL_STYLE else color
    axes.plot(
        curve.shots, curve.mean, color=color, marker=marker, markerfacecolor=fill, markersize=6, linewidth=2, zorder=4
    )
    return float(curve.mean[-1]), name, text_color


def _title(curves: Mapping[str, FewShotCurve], surrogate: str, other_sources: Collection[str]) -> str:
    before, *after = (curve for label, curve in curves.items() if label not in other_sources)
    if not after or before.errors.shape[1] < 2:
        return f"Probe error on {name_in_title(surrogate, 'surrogate')} by samples per class"
    n_worse = _count_higher(after, before)
    shots = int(before.shots[-1])
    if not n_worse:
        return f"Fine-tuning raises no error significantly at {shots:,} samples per class"
    count = "the encoder" if len(after) == 1 else f"{n_worse} of {len(after)} encoders"
    return f"Fine-tuning raises the error of {count} at {shots:,} samples per class"


def _count_higher(curves: Sequence[FewShotCurve], before: FewShotCurve) -> int:
    """Count the curves that are significantly higher at the most samples, paired by draw and corrected by Holm."""
    differences = [curve.errors[-1] - before.errors[-1] for curve in curves]
    corrected = holm([_p_value(one) for one in differences])
    return sum(one.mean() > 0 and p <= SIGNIFICANCE_LEVEL for one, p in zip(differences, corrected, strict=True))


def _p_value(differences: np.ndarray) -> float:
    """Return the p-value of Student's t-test for a mean difference of 0."""
    standard_error = differences.std(ddof=1) / np.sqrt(len(differences))
    if standard_error == 0:
        return 0.0 if differences.any() else 1.0
    return float(2 * stats.t.sf(abs(differences.mean()) / standard_error, len(differences) - 1))


def few_shot_caption(curves: Mapping[str, FewShotCurve], baseline_error: float, surrogate: str) -> str:
    """Return the caption of the figure, in whole sentences with the exact values.

    Args:
        curves: Curve of each encoder, by its label; the source before fine-tuning comes first.
        baseline_error: Error rate of always predicting the majority class.
        surrogate: Name of the surrogate.
    """
    first = next(iter(curves.values()))
    values = [f"{label} {curve.mean[-1]:.3f}" for label, curve in curves.items()]
    sentences = [
        f"Error of a {display_name(first.name)} probe on {surrogate} by the number of training samples of each class.",
        f"Lines are means over {first.errors.shape[1]} draws of the training samples, and bands span all draws; they "
        "are no intervals. The encoders are compared on the same draws, which share samples, so the largest sizes vary "
        "too little.",
        "The title counts fine-tuned encoders whose error at the most samples is significantly higher than that of the "
        "first one (t-test paired by draw at the 5 % level, corrected for the number of encoders by Holm).",
        f"Majority-class baseline (dashed if it is in the range of the figure): {baseline_error:.3f}.",
        f"Errors at {int(first.shots[-1]):,} samples per class: {', '.join(values)}.",
    ]
    gray = [label for label in curves if label not in _colored(curves)]
    return " ".join([*sentences, *([f"Thin gray lines are {', '.join(gray)}."] if gray else [])])
