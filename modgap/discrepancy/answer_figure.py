"""The figure of one discrepancy: does the source know something, and is it the pretraining?"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.result import Estimate
from modgap.discrepancy.verdict import ENOUGH_CONTROLS, answer, control_finding, evidence_of_record, verdict
from modgap.display.figure_layout import Ink, fit_names, name_in_title, result_figure, styled
from modgap.errors import InputError
from modgap.formatting import count

__all__ = ["discrepancy_caption", "plot_discrepancy"]

ROW_HEIGHT = 0.43
LABEL_SPACE = 1.98
ROWS_WITH_STEPS = 1.75
"""Distance of the rows if arrows stand between them, in rows."""
SHORTEST_ARROW = 0.02
MARK_REACH = 0.012
"""Half the width of a mark, in units of the error axis."""
ROOM_FOR_LABEL = 0.3
"""Width that the label of an arrow needs, in errors."""
MANY_CLASSES = 100
"""Number of classes from which the chance level is shown with three decimals."""


@styled
def plot_discrepancy(report: DiscrepancyReport) -> Figure:
    """Draw the held-out error on an axis from 0 to 1, with permuted labels, the control and the chance level.

    Args:
        report: A discrepancy with a held-out value.

    Raises:
        InputError: If the report has no held-out value.
    """
    estimate = _tested_estimate(report)
    draw_row = [_draw_source]
    if report.result.control:
        draw_row.insert(0, _draw_control)
    if _permuted_level(report) is not None:
        draw_row.insert(0, _draw_permuted)
    distance = ROWS_WITH_STEPS if report.result.control else 1.0
    last = distance * (len(draw_row) - 1)
    figure, axes = result_figure(_title(report), _subtitle(report), ROW_HEIGHT * (last + 1.8), LABEL_SPACE)
    axes.set(xlim=(0, 1), ylim=(last + 0.8, -0.8), xlabel=_axis_label(estimate))
    _draw_chance(axes, report)
    for number, draw in enumerate(draw_row):
        draw(axes, report, number * distance)
    if report.result.control:
        _draw_steps(axes, report, last)
    return figure


def _draw_steps(axes: Axes, report: DiscrepancyReport, last: float) -> None:
    """Draw arrows for the steps from no knowledge to the control, and from the control to the source.

    Args:
        axes: The axes.
        report: A discrepancy with a control.
        last: Vertical position of the source, whose row is the last.
    """
    control = report.result.control
    assert control is not None
    value = float(_tested_estimate(report).held_out or 0)
    permuted = _permuted_level(report)
    shown = control_finding(evidence_of_record(report.to_dict())).status
    color = Ink.SOURCE if shown == "yes" else Ink.SECONDARY
    name = "pretraining" if control.n >= ENOUGH_CONTROLS else "difference"
    if permuted is not None:
        _draw_step(axes, "architecture", permuted, control.held_out, last - 2 * ROWS_WITH_STEPS, Ink.SECONDARY)
    _draw_step(axes, name, control.held_out, value, last - ROWS_WITH_STEPS, color)


def _draw_step(axes: Axes, name: str, start: float, end: float, y: float, color: str) -> None:
    """Draw an arrow from one error down and across to the next, with the difference of the printed errors."""
    level = y + ROWS_WITH_STEPS / 2
    axes.plot([start, start], [y + 0.25, level], color=color, linewidth=1.3, zorder=3)
    if abs(end - start) > SHORTEST_ARROW:
        arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (end, level), (start, level), arrowprops=arrow, zorder=3)
    difference = round(round(end, 2) - round(start, 2), 2)
    text = f"{name} {difference:+.2f}".replace("-", "−") if difference else f"{name} 0.00"
    low, high = sorted((start, end))
    x, side, shift = (low + high) / 2, "center", -0.24
    if low > ROOM_FOR_LABEL:
        x, side, shift = low - 0.015, "right", 0.0
    elif high < 1 - ROOM_FOR_LABEL:
        x, side, shift = high + 0.015, "left", 0.0
    axes.text(x, level + shift, text, ha=side, va="center", size=8.5, color=color)


def _permuted_level(report: DiscrepancyReport) -> float | None:
    """Return the mean error with permuted labels on the scale of the figure; None if it is not known."""
    result = report.result
    if result.permutations_for == result.best_estimator and result.null:
        return result.null.mean
    return result.permuted_error


def _tested_estimate(report: DiscrepancyReport) -> Estimate:
    estimate = report.best_estimate
    if estimate is None or estimate.held_out is None:
        raise InputError(f"The discrepancy of {report.target} has no held-out error, so there is nothing to draw.")
    return estimate


def _title(report: DiscrepancyReport) -> str:
    target = name_in_title(report.target, "target")
    source = name_in_title(report.source, "source") if report.source else ""
    return verdict(evidence_of_record(report.to_dict()).named(source, target)).title


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
    return f"held-out error{interval}; lower is better"


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


def _draw_permuted(axes: Axes, report: DiscrepancyReport, row: float) -> None:
    mean = float(_permuted_level(report) or 0)
    null = report.result.null
    half_width = 0.002
    if null and report.result.permutations_for == report.result.best_estimator:
        half_width = max(2 * null.sd, half_width)
        axes.barh(row, 2 * half_width, left=mean - half_width, height=0.34, color=Ink.NULL_BAND, zorder=2)
    axes.plot([mean, mean], [row - 0.17, row + 0.17], color=Ink.CONTROL, linewidth=2, zorder=3)
    _label_row(axes, row, "permuted labels", "no knowledge", Ink.SECONDARY)
    _label_value(axes, mean, half_width, row, Ink.SECONDARY, 9.5, report.result.chance)


def _draw_control(axes: Axes, report: DiscrepancyReport, row: float) -> None:
    control = report.result.control
    assert control is not None
    low, high = control.interval or (control.held_out, control.held_out)
    if control.n > 1:
        axes.plot(control.values, [row] * control.n, "D", color=Ink.FAINT_CONTROL, markerfacecolor="none", markersize=4)
    if high > low:
        axes.plot([low, high], [row, row], color=Ink.CONTROL, linewidth=3, solid_capstyle="butt", zorder=3)
    axes.plot(
        control.held_out,
        row,
        "D",
        color=Ink.CONTROL,
        markerfacecolor="white",
        markersize=7,
        markeredgewidth=1.5,
        zorder=4,
    )
    name = "one random initialization" if control.n == 1 else f"{control.n} initializations"
    _label_row(axes, row, "random weights", name, Ink.SECONDARY)
    reach = max(high - control.held_out, MARK_REACH)
    _label_value(axes, control.held_out, reach, row, Ink.SECONDARY, 9.5, report.result.chance)


def _draw_source(axes: Axes, report: DiscrepancyReport, row: float) -> None:
    estimate = _tested_estimate(report)
    value = float(estimate.held_out or 0)
    low, high = estimate.held_out_interval or (value, value)
    if high > low:
        axes.plot([low, high], [row, row], color=Ink.SOURCE, linewidth=3, solid_capstyle="butt", zorder=3)
    axes.plot(value, row, "o", color=Ink.SOURCE, markersize=8, zorder=4)
    name = fit_names([_source_name(report)], LABEL_SPACE - 0.3, 9.5, bold=True)[0]
    kind = "random weights" if (report.source or "").startswith("random:") else "source"
    _label_row(axes, row, name, kind, Ink.SOURCE)
    reach = max(high - value, value - low, MARK_REACH)
    _label_value(axes, value, reach, row, Ink.SOURCE, 11.5, report.result.chance)


def _label_row(axes: Axes, row: float, name: str, kind: str, color: str) -> None:
    transform = axes.get_yaxis_transform()
    axes.text(
        -0.03, row - 0.16, name, transform=transform, ha="right", va="center", weight="bold", color=color, size=9.5
    )
    axes.text(-0.03, row + 0.2, kind, transform=transform, ha="right", va="center", color=Ink.SECONDARY, size=8)


def _label_value(axes: Axes, value: float, reach: float, row: float, color: str, size: float, chance: float) -> None:
    """Write a value right of its mark, or left of it where the axis ends or the line of the chance level is."""
    start, end = value + reach, value + reach + 0.12
    right = end < 1 and not start < chance < end
    shift = reach + 0.02 if right else -reach - 0.02
    axes.text(
        value + shift, row, f"{value:.2f}", ha="left" if right else "right", va="center", color=color, size=size,
        weight="bold",
    )  # fmt: skip


def _fitted_on(report: DiscrepancyReport) -> str:
    per_class = report.result.per_class
    return f"{per_class} samples per class" if per_class else "one half of the samples"


def _control_interval_sentence(report: DiscrepancyReport) -> str:
    control = report.result.control
    if control is None or control.interval is None:
        return "The control's interval is unknown."
    low, high = control.interval
    weights = "and the choice" if control.between_sd is not None else "but not the choice"
    interval = f"The control's 95 % interval, {low:.3f}-{high:.3f},"
    return f"{interval} covers samples and splits, {weights} of the random weights."


def discrepancy_caption(report: DiscrepancyReport) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    _tested_estimate(report)
    result = report.result
    sentences = [
        f"Held-out error of {report.source or 'the source'} on {report.target} (K = {result.n_target_classes:,} of "
        f"C = {result.n_source_classes:,} classes, N = {result.n_samples:,}, estimator: {result.best_estimator}).",
        f"Maps are fitted on {_fitted_on(report)} and tested on other samples, over {count(result.splits, 'split')}.",
        answer(evidence_of_record(report.to_dict())),
        _control_interval_sentence(report) if result.control else "No random-weights control was run.",
    ]
    if result.null:
        sentences.append(f"Up to {result.null.requested} permutations, {result.null.repeats} drawn.")
    return " ".join([*sentences, f"Chance level {result.chance:.3f} (dashed line)."])
