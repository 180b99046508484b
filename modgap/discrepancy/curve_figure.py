"""The learning curve: how the held-out error depends on the number of samples that maps are fitted on."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from modgap.discrepancy.learning_curve import LearningCurvePoint
from modgap.discrepancy.report import DiscrepancyReport
from modgap.display.figure_layout import (
    Ink,
    drawable_names,
    fit_names,
    name_in_title,
    result_figure,
    style_lines_axes,
    styled,
)
from modgap.errors import InputError
from modgap.formatting import count

__all__ = ["learning_curve_caption", "plot_learning_curve"]

HEIGHT = 2.2
LEFT = 0.62
RIGHT = 1.5
LABEL_SIZE = 8.5
CLOSE = 0.1
"""Distance of two levels below which their labels are moved apart."""
FLAT = 0.02
"""Largest change of the error from half of the samples to all of them for which a curve is called flat."""


@styled
def plot_learning_curve(report: DiscrepancyReport) -> Figure:
    """Draw the soft held-out error, with 95 % intervals, by the number of samples a class that maps are fitted on.

    Args:
        report: A discrepancy with a learning curve.

    Raises:
        InputError: If the report has no learning curve.
    """
    points = _points(report)
    subtitle = (
        "Soft held-out error by the number of samples of each class that maps are fitted on. "
        "Compare targets at the same number."
    )
    figure, axes = result_figure(_title(report, points), subtitle, HEIGHT, LEFT, RIGHT)
    axes.set_xscale("log")
    style_lines_axes(axes)
    _draw_levels(axes, report)
    sizes = [point.per_class for point in points]
    intervals = [point.held_out_interval for point in points]
    if all(intervals):
        low, high = zip(*(interval for interval in intervals if interval), strict=True)
        axes.fill_between(sizes, low, high, color=Ink.SOURCE, alpha=0.15, linewidth=0, zorder=2)
    axes.plot(sizes, [point.held_out for point in points], "o-", color=Ink.SOURCE, linewidth=2, markersize=5, zorder=3)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="samples of each class (log scale)", ylabel="soft held-out error", ylim=(0, 1.02))
    _label_source(axes, report, points[-1].held_out)
    return figure


def _points(report: DiscrepancyReport) -> tuple[LearningCurvePoint, ...]:
    points = report.result.learning_curve
    if not points:
        raise InputError(f"The discrepancy of {report.target} has no learning curve, so there is nothing to draw.")
    return points


def _title(report: DiscrepancyReport, points: tuple[LearningCurvePoint, ...]) -> str:
    target = name_in_title(report.target, "target")
    if len(points) == 1:
        return f"Soft error on {target} with {points[0].per_class} samples of each class: {points[0].held_out:.2f}"
    change = points[-2].held_out - points[-1].held_out
    if abs(change) <= FLAT:
        return f"On {target}, more than {points[-2].per_class} samples of each class hardly change the error"
    direction = "lowers" if change > 0 else "raises"
    return (
        f"On {target}, fitting on {points[-1].per_class} instead of {points[-2].per_class} samples of each class "
        f"{direction} the error by {abs(change):.2f}"
    )


def _draw_levels(axes: Axes, report: DiscrepancyReport) -> None:
    null = report.result.null
    if null is None or report.result.permutations_for != "soft":
        return
    axes.axhline(null.mean, color=Ink.BASELINE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
    side = "bottom" if null.mean >= report.result.learning_curve[-1].held_out else "top"
    _label(axes, null.mean, f"permuted\nlabels {null.mean:.2f}", Ink.SECONDARY, side)


def _label_source(axes: Axes, report: DiscrepancyReport, value: float) -> None:
    """Write the name of the source and its last value beside the curve, away from the level of permuted labels."""
    name = fit_names(drawable_names([report.source or "source"], "source"), RIGHT - 0.2, LABEL_SIZE, bold=True)[0]
    null = report.result.null
    side = "center"
    if null and abs(null.mean - value) < CLOSE:
        side = "top" if null.mean >= value else "bottom"
    _label(axes, value, f"{name}\n{value:.2f}", Ink.SOURCE, side)


def _label(axes: Axes, value: float, text: str, color: str, side: str = "center") -> None:
    axes.text(
        1.02, value, text, transform=axes.get_yaxis_transform(), va=side, color=color, size=LABEL_SIZE, weight="bold"
    )


def learning_curve_caption(report: DiscrepancyReport) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    result = report.result
    values = ", ".join(
        f"{point.held_out:.3f}{_interval_text(point)} with {point.per_class}" for point in _points(report)
    )
    return (
        f"Soft held-out error of {report.source or 'the source'} on {report.target} (K = {result.n_target_classes:,}, "
        f"N = {result.n_samples:,}) by the number of samples of each class that maps are fitted on, mean over "
        f"{count(result.splits, 'split')}: {values}. The band is the 95 % interval over samples or groups and splits. "
        "The dashed line is the mean with permuted labels, with maps fitted on halves of the samples."
    )


def _interval_text(point: LearningCurvePoint) -> str:
    interval = point.held_out_interval
    return f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else ""
