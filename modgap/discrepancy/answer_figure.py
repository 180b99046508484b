"""The figure of one discrepancy: does the source know something, and is it the pretraining?"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.result import Estimate
from modgap.discrepancy.summary import is_significant
from modgap.display.figure_layout import Ink, fit_names, name_in_title, result_figure, styled
from modgap.errors import InputError

__all__ = ["discrepancy_caption", "plot_discrepancy"]

ROW_HEIGHT = 0.43
LABEL_SPACE = 1.98
MANY_CLASSES = 100
"""Number of classes from which the chance level is shown with three decimals."""


@styled
def plot_discrepancy(report: DiscrepancyReport) -> Figure:
    """Draw the held-out error on an axis from 0 to 1, with permuted labels above it and the chance level.

    Args:
        report: A discrepancy with a held-out value.

    Raises:
        InputError: If the report has no held-out value.
    """
    estimate = _tested_estimate(report)
    rows = 2 if estimate.held_out_null else 1
    figure, axes = result_figure(_title(report, estimate), _subtitle(report), ROW_HEIGHT * rows + 0.35, LABEL_SPACE)
    axes.set(xlim=(0, 1), ylim=(rows - 0.2, -0.8), xlabel=_axis_label(estimate))
    _draw_chance(axes, report)
    if estimate.held_out_null:
        _draw_null(axes, estimate)
    _draw_source(axes, report, estimate, rows - 1)
    return figure


def _tested_estimate(report: DiscrepancyReport) -> Estimate:
    estimate = report.best_estimate
    if estimate is None or estimate.held_out is None:
        raise InputError(f"The discrepancy of {report.target} has no held-out error, so there is nothing to draw.")
    return estimate


def _title(report: DiscrepancyReport, estimate: Estimate) -> str:
    source = _source_name(report)
    target = name_in_title(report.target, "target")
    if estimate.held_out_null and not is_significant(estimate.held_out_null):
        return f"On {target}, {source} is not significantly better than with permuted labels"
    held_out = 100 * float(estimate.held_out or 0)
    chance = 100 * report.result.chance
    return f"{source} misclassifies {held_out:.0f} % of {target}; chance level {chance:.0f} %"


def _source_name(report: DiscrepancyReport) -> str:
    return name_in_title(report.source, "source") if report.source else "The source"


def _subtitle(report: DiscrepancyReport) -> str:
    result = report.result
    return (
        f"Held-out error of the best map from {result.n_target_classes:,} target classes to "
        f"{result.n_source_classes:,} source classes; {result.n_samples:,} samples."
    )


def _axis_label(estimate: Estimate) -> str:
    interval = " (95 % interval)" if estimate.held_out_interval else ""
    return f"held-out error{interval}; lower means that the source knows more"


def _draw_chance(axes: Axes, report: DiscrepancyReport) -> None:
    chance = report.result.chance
    decimals = 3 if report.result.n_target_classes >= MANY_CLASSES else 2
    axes.axvline(chance, color=Ink.BASELINE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
    side = "right" if chance > 0.8 else "left"
    shift = -0.012 if side == "right" else 0.012
    bottom = axes.get_ylim()[0]
    axes.text(
        chance + shift,
        bottom - 0.06,
        f"chance level {chance:.{decimals}f}",
        ha=side,
        va="bottom",
        size=8,
        color=Ink.BASELINE,
    )


def _draw_null(axes: Axes, estimate: Estimate) -> None:
    null = estimate.held_out_null
    assert null is not None
    half_width = max(2 * null.sd, 0.002)
    axes.barh(0, 2 * half_width, left=null.mean - half_width, height=0.34, color=Ink.NULL_BAND, zorder=2)
    axes.plot([null.mean, null.mean], [-0.17, 0.17], color=Ink.CONTROL, linewidth=2, zorder=3)
    _label_row(axes, 0, "permuted labels", "no knowledge", Ink.SECONDARY)
    _label_value(axes, null.mean, half_width, 0, Ink.SECONDARY, 9.5)


def _draw_source(axes: Axes, report: DiscrepancyReport, estimate: Estimate, row: int) -> None:
    value = float(estimate.held_out or 0)
    low, high = estimate.held_out_interval or (value, value)
    if high > low:
        axes.plot([low, high], [row, row], color=Ink.SOURCE, linewidth=3, solid_capstyle="butt", zorder=3)
    axes.plot(value, row, "o", color=Ink.SOURCE, markersize=8, zorder=4)
    name = fit_names([_source_name(report)], LABEL_SPACE - 0.3, 9.5, bold=True)[0]
    kind = "random weights" if (report.source or "").startswith("random:") else "source"
    _label_row(axes, row, name, kind, Ink.SOURCE)
    _label_value(axes, value, max(high - value, value - low), row, Ink.SOURCE, 11.5)


def _label_row(axes: Axes, row: int, name: str, kind: str, color: str) -> None:
    transform = axes.get_yaxis_transform()
    axes.text(
        -0.03, row - 0.16, name, transform=transform, ha="right", va="center", weight="bold", color=color, size=9.5
    )
    axes.text(-0.03, row + 0.2, kind, transform=transform, ha="right", va="center", color=Ink.SECONDARY, size=8)


def _label_value(axes: Axes, value: float, reach: float, row: int, color: str, size: float) -> None:
    """Write a value right of its mark, or left of it where the axis ends."""
    right = value + reach + 0.12 < 1
    shift = reach + 0.02 if right else -reach - 0.02
    axes.text(
        value + shift, row, f"{value:.2f}", ha="left" if right else "right", va="center", color=color, size=size,
        weight="bold",
    )  # fmt: skip


def discrepancy_caption(report: DiscrepancyReport) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    estimate = _tested_estimate(report)
    result = report.result
    interval = estimate.held_out_interval
    shown = f" (95 % CI {interval[0]:.3f}-{interval[1]:.3f})" if interval else ""
    sentences = [
        f"Held-out error of {report.source or 'the source'} on {report.target} (K = {result.n_target_classes:,} of "
        f"C = {result.n_source_classes:,} classes, N = {result.n_samples:,}, estimator: {result.best_estimator}).",
        "A map is chosen on one half of the samples and tested on the other half, in both directions.",
        f"The source has a held-out error of {estimate.held_out:.3f}{shown}.",
        "No random-weights control was run.",
    ]
    null = estimate.held_out_null
    if null:
        sentences.append(
            f"With permuted labels the error is {null.mean:.3f} (gray band: mean and 2 standard deviations of "
            f"{null.repeats} permutations; p = {null.p_value:.3g})."
        )
    return " ".join([*sentences, f"Chance level {result.chance:.3f} (dashed line)."])
