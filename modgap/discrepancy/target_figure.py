"""The figure of several targets: on which of them does pretraining help?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.verdict import ENOUGH_CONTROLS, SIGNIFICANCE_LEVEL
from modgap.display.figure_layout import (
    MARGIN,
    WIDTH,
    Ink,
    drawable_names,
    fit_names,
    name_in_title,
    result_figure,
    styled,
    text_width,
)
from modgap.display.label_spacing import spread_labels
from modgap.errors import InputError, UsageError
from modgap.statistics.paired import paired_difference

__all__ = [
    "NOT_COMPARED",
    "TargetRow",
    "difference_style",
    "differences_title",
    "draw_marks",
    "format_difference",
    "plot_targets",
    "target_rows",
    "targets_caption",
    "values_sentence",
]

LEFT = 1.62
RIGHT = 0.98
AXES_WIDTH = WIDTH - LEFT - RIGHT
NAME_X = -0.14 / AXES_WIDTH
HEADING_X = -(LEFT - MARGIN) / AXES_WIDTH
DIFFERENCE_X = 1 + (RIGHT - MARGIN) / AXES_WIDTH
"""Horizontal position of the text beside the axes, in widths of the axes."""
NAME_SPACE = LEFT - MARGIN - 0.16
SERIES_SPACE = 1.5
ROW = 0.43
HEADING = 0.22
SERIES_LABELS = 0.2
GROUP_GAP = 0.1
MARK_SHIFT = 0.055
"""Vertical distances in inches."""
SIGNIFICANT = "significant difference"
NOT_SIGNIFICANT = "no significant difference"
NOT_COMPARED = "not compared"
MAJORITY_CLASS = "majority class"
GROUPS = (SIGNIFICANT, NOT_SIGNIFICANT, NOT_COMPARED)


@dataclass(frozen=True)
class ControlError:
    """The held-out error of a control on a target, with its interval and the p-value of the paired difference.

    It is the mean over `n` random initializations.
    """

    error: float
    interval: tuple[float, float] | None
    p_value: float | None
    n: int = 1


@dataclass(frozen=True)
class TargetRow:
    """One target: the report of the source and the error of its control, if there is one."""

    report: DiscrepancyReport
    control: ControlError | None

    @property
    def error(self) -> float:
        """Held-out error of the source."""
        return _error(self.report)

    @property
    def difference(self) -> float | None:
        """Difference of the errors as printed, with two decimals, so that a reader who subtracts gets the same."""
        if self.control is None:
            return None
        return round(round(self.error, 2) - round(self.control.error, 2), 2)

    @cached_property
    def group(self) -> str:
        """Heading that the target stands under, by the paired comparison of the two errors at the 5 % level."""
        if self.control is None or self.control.p_value is None:
            return NOT_COMPARED
        return SIGNIFICANT if self.control.p_value <= SIGNIFICANCE_LEVEL else NOT_SIGNIFICANT


def _error(report: DiscrepancyReport) -> float:
    estimate = report.best_estimate
    if estimate is None or estimate.held_out is None:
        raise InputError(f"The discrepancy of {report.target} has no held-out error, so there is nothing to draw.")
    return estimate.held_out


def _interval(report: DiscrepancyReport) -> tuple[float, float] | None:
    return report.best_estimate.held_out_interval if report.best_estimate else None


def _control_error(report: DiscrepancyReport, control: DiscrepancyReport | None) -> ControlError | None:
    """Return the error of the control: of its own report, or else of the comparison that the report holds."""
    if control is not None:
        return ControlError(_error(control), _interval(control), _paired_p_value(report, control))
    measured = report.result.control
    if measured is None or measured.estimator != report.result.best_estimator:
        return None
    return ControlError(measured.held_out, measured.interval, measured.difference.p_value, measured.n)


def _paired_p_value(report: DiscrepancyReport, control: DiscrepancyReport) -> float | None:
    """Return the p-value of the difference, or None if the errors of the samples are not known or not comparable."""
    tested = report.result.tested_samples
    other = control.result.tested_samples
    name = report.result.best_estimator
    if tested is None or other is None or name is None or name != control.result.best_estimator:
        return None
    try:
        return paired_difference(tested.errors[name], other.errors[name]).p_value
    except (InputError, KeyError):
        return None


@styled
def plot_targets(
    reports: Sequence[DiscrepancyReport],
    controls: Sequence[DiscrepancyReport | None] = (),
    labels: tuple[str, str] = ("pretrained", "random weights"),
    cause: str | None = None,
) -> Figure:
    """Draw the held-out error of a source and of its control on several targets, with the differences (paper's Fig. 4).

    Args:
        reports: Report of the source on each target.
        controls: Report of the control on each target. Where it is None, or if there are none at all, the control is
            the one that the report itself holds, if it has one.
        labels: Names of the two series.
        cause: Subject of the title, the thing that the two series differ by. None for pretraining, which the title
            names only if each control is the mean of three or more random initializations.

    Raises:
        InputError: If a report has no held-out value.
        UsageError: If there is no report, or the reports and controls are not of the same targets.
    """
    rows = target_rows(reports, controls)
    first, second = drawable_names(labels, "series")
    groups = [(name, [row for row in rows if row.group == name]) for name in GROUPS]
    groups = [(name, members) for name, members in groups if members]
    height = (HEADING + GROUP_GAP) * len(groups) + SERIES_LABELS + ROW * len(rows)
    figure, axes = result_figure(_title(rows, cause), _subtitle(rows, (first, second)), height, LEFT, RIGHT)
    axes.set(xlim=(0, 1), ylim=(height, 0), xlabel="held-out error (95 % intervals); lower is better")
    names = fit_names(drawable_names([row.report.target for row in rows], "target"), NAME_SPACE, 9, bold=True)
    name_of = {id(row): name for row, name in zip(rows, names, strict=True)}
    y = 0.1
    for number, (name, members) in enumerate(groups):
        _write(axes, HEADING_X, y + 0.05, name, "left", size=8.5, style="italic", color=Ink.SECONDARY)
        y += HEADING
        if number == 0:
            _write(axes, DIFFERENCE_X, 0.15, "difference", "right", size=8.5, weight="bold", color=Ink.TITLE)
            _label_series(axes, members[0], (first, second), y)
            y += SERIES_LABELS
        for row in members:
            _draw_row(axes, row, name_of[id(row)], y + 0.17)
            y += ROW
        y += GROUP_GAP
    return figure


def target_rows(reports: Sequence[DiscrepancyReport], controls: Sequence[DiscrepancyReport | None]) -> list[TargetRow]:
    """Return the targets, sorted by the difference and then by the error."""
    if not reports:
        raise UsageError("There is no report to draw. At least one is needed.")
    paired = list(controls) or [None] * len(reports)
    targets = [report.target for report in reports]
    others = [control.target if control else target for control, target in zip(paired, targets, strict=False)]
    if targets != others:
        raise UsageError(f"The controls are of the targets {others}. Expected the same as the reports: {targets}.")
    rows = [TargetRow(one, _control_error(one, control)) for one, control in zip(reports, paired, strict=True)]
    return sorted(rows, key=lambda row: (row.difference if row.difference is not None else 0.0, row.error))


def _title(rows: Sequence[TargetRow], cause: str | None) -> str:
    compared = [row for row in rows if row.group != NOT_COMPARED]
    if not compared:
        return f"Held-out error on {_count_targets(rows)}"
    if len(compared) == 1:
        return differences_title(compared, cause, f"on {_count_targets(compared)}", "")
    return differences_title(compared, cause, f"on {len(compared)} targets", "targets")


def differences_title(compared: Sequence[TargetRow], cause: str | None, everywhere: str, things: str) -> str:
    """Return a title that counts the significant differences between a source and its control.

    Args:
        compared: Rows whose errors were compared, at least one.
        cause: What the two errors differ by; None for pretraining. With fewer than three random initializations, the
            difference may be due to the one that was drawn, so the title does not name pretraining then.
        everywhere: Words for all rows, such as `on 4 targets`.
        things: Plural noun for the rows; empty for a single one.
    """
    different = [row for row in compared if row.group == SIGNIFICANT]
    n_lower = sum(row.control is not None and row.error < row.control.error for row in different)
    n_higher = len(different) - n_lower
    if cause is None and not all(row.control and row.control.n >= ENOUGH_CONTROLS for row in compared):
        than = f"than {_initializations(compared)}"
        lowers, raises, also = f"Lower error {than}", f"Higher error {than}", " and higher"
        subject = f"the error differs from that of {_initializations(compared)}"
    else:
        subject = f"{cause or 'pretraining'} changes the error"
        cause = cause or "Pretraining"
        lowers, raises, also = f"{cause} lowers the error", f"{cause} raises the error", " and raises it"
    if not different:
        return f"It is not shown that {subject} {everywhere}"
    if not things:
        return f"{lowers if n_lower else raises} {everywhere}"
    preposition = everywhere.partition(" ")[0]
    if not n_lower:
        return f"{raises} {preposition} {n_higher} of {len(compared)} {things}"
    more = f"{also} {preposition} {n_higher}" if n_higher else ""
    return f"{lowers} {preposition} {n_lower} of {len(compared)} {things}{more}"


def _initializations(compared: Sequence[TargetRow]) -> str:
    """Return the number of random initializations of each control in words."""
    numbers = sorted({row.control.n for row in compared if row.control})
    if numbers == [1]:
        return "one random initialization"
    return f"{' to '.join(str(number) for number in dict.fromkeys([numbers[0], numbers[-1]]))} random initializations"


def _count_targets(rows: Sequence[TargetRow]) -> str:
    return name_in_title(rows[0].report.target, "target") if len(rows) == 1 else f"{len(rows)} targets"


def _subtitle(rows: Sequence[TargetRow], labels: tuple[str, str]) -> str:
    source = rows[0].report.source
    name = name_in_title(source, "source") if source else "the source"
    if all(row.control is None for row in rows):
        return f"Held-out error of the best map of {name}."
    if labels[1] == "random weights":
        return f"Held-out error of the best map: {name} and the same architecture with random weights."
    return f"Held-out error of the best map: {name}, {labels[0]} and {labels[1]}."


def _write(axes: Axes, x: float, y: float, text: str, side: str, **style: Any) -> None:
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), ha=side, va="center", **style)


def _label_series(axes: Axes, first: TargetRow, labels: tuple[str, str], y: float) -> None:
    """Write the names of the marks above those of the first row, that of the majority class on a line of its own."""
    short = fit_names(labels, SERIES_SPACE, 8.5, bold=True)
    marks = [(first.error, short[0], Ink.SOURCE, True)]
    if first.control:
        marks.append((first.control.error, short[1], Ink.CONTROL, True))
    reach = text_width(MAJORITY_CLASS, 8.5) / AXES_WIDTH / 2
    prior = min(max(first.report.result.prior, reach), 1 + 0.05 / AXES_WIDTH - reach)
    _write(axes, prior, y - 0.11, MAJORITY_CLASS, "center", size=8.5, color=Ink.SECONDARY)
    marks.sort(key=lambda mark: mark[0])
    widths = [text_width(text, 8.5, bold) / AXES_WIDTH for _, text, _, bold in marks]
    centers = spread_labels([x for x, _, _, _ in marks], widths, 0.0, 1 + 0.3 / AXES_WIDTH, 0.1 / AXES_WIDTH)
    for center, (_, text, color, bold) in zip(centers, marks, strict=True):
        _write(axes, center, y + 0.04, text, "center", size=8.5, color=color, weight="bold" if bold else "normal")


def _draw_row(axes: Axes, row: TargetRow, name: str, y: float) -> None:
    is_significant = row.group == SIGNIFICANT
    result = row.report.result
    weight = "bold" if is_significant else "normal"
    _write(axes, NAME_X, y - 0.08, name, "right", size=9, weight=weight, color=Ink.TITLE)
    sizes = f"K = {result.n_target_classes:,}, N = {result.n_samples:,}"
    _write(axes, NAME_X, y + 0.08, sizes, "right", size=8, color=Ink.SECONDARY)
    draw_marks(axes, row, y)
    style = difference_style(row)
    _write(axes, DIFFERENCE_X, y, format_difference(row.difference), "right", size=9, **style)


def difference_style(row: TargetRow) -> dict[str, Any]:
    """Return weight and color of a printed difference: bold if it is significant, orange if the source is worse."""
    if row.group != SIGNIFICANT:
        return {"weight": "normal", "color": Ink.SECONDARY}
    is_worse = row.difference is not None and row.difference > 0
    return {"weight": "bold", "color": Ink.ERROR_TEXT if is_worse else Ink.SOURCE}


def draw_marks(axes: Axes, row: TargetRow, y: float) -> None:
    """Draw the marks of a target: source, control, their difference if it is significant, and the majority class.

    Args:
        axes: Axes with the error on the horizontal axis and inches on the vertical one.
        row: The target.
        y: Vertical position.
    """
    prior = row.report.result.prior
    axes.plot([prior] * 2, [y - 0.14, y + 0.14], color=Ink.BASELINE, linewidth=1.3, zorder=2)
    if row.group == SIGNIFICANT and row.control:
        low, high = sorted((row.error, row.control.error))
        axes.barh(y, high - low, left=low, height=2 * MARK_SHIFT, color=Ink.SOURCE, alpha=0.14, zorder=1)
    source_y = y + (MARK_SHIFT if row.control else 0)
    _draw_interval(axes, row.error, _interval(row.report), source_y, Ink.SOURCE)
    axes.plot(row.error, source_y, "o", color=Ink.SOURCE, markersize=7, zorder=4, clip_on=False)
    if row.control:
        control_y = y - MARK_SHIFT
        _draw_interval(axes, row.control.error, row.control.interval, control_y, Ink.CONTROL)
        style: dict[str, Any] = {"color": Ink.CONTROL, "markerfacecolor": "white", "markersize": 5.5}
        axes.plot(row.control.error, control_y, "D", zorder=4, clip_on=False, **style)


def _draw_interval(axes: Axes, error: float, interval: tuple[float, float] | None, y: float, color: str) -> None:
    low, high = interval or (error, error)
    if high > low:
        axes.plot([low, high], [y, y], color=color, linewidth=2, solid_capstyle="butt", zorder=3, clip_on=False)


def format_difference(difference: float | None) -> str:
    """Return a difference with its sign and two decimals; a dash stands for none."""
    if difference is None:
        return "–"
    return f"{difference:+.2f}".replace("-", "−") if difference else "0.00"


def targets_caption(
    reports: Sequence[DiscrepancyReport],
    controls: Sequence[DiscrepancyReport | None] = (),
    labels: tuple[str, str] = ("pretrained", "random weights"),
) -> str:
    """Return the caption of the figure, in whole sentences with the exact values.

    Args:
        reports: Report of the source on each target.
        controls: Report of the control on each target, as for `plot_targets`.
        labels: Names of the two series.
    """
    rows = target_rows(reports, controls)
    sentences = [
        f"Held-out error of {rows[0].report.source or 'the source'} on {len(rows)} targets, with 95 % intervals.",
        f"Blue circles: {labels[0]}. Gray diamonds: {labels[1]}. Vertical marks: majority-class baseline.",
        "Maps are fitted on one half of the samples and tested on the other half, over repeated splits.",
        "The shaded bar is the difference where it is significant: the two errors differ in a paired comparison of the "
        "samples at the 5 % level, without correction for the number of targets.",
        *_control_sentences(rows),
        "Targets are sorted by the difference, which is computed from errors with two decimals.",
    ]
    return " ".join([*sentences, *map(values_sentence, rows)])


def _control_sentences(rows: Sequence[TargetRow]) -> list[str]:
    """Return the description of the controls, if there are any."""
    numbers = sorted({row.control.n for row in rows if row.control})
    if not numbers:
        return []
    if numbers == [1]:
        return ["The control is one random initialization, so the differences may be due to its draw."]
    return [f"The control is the mean of {' or '.join(map(str, numbers))} random initializations."]


def values_sentence(row: TargetRow) -> str:
    """Return a sentence with the errors of a target and their intervals."""
    control = f" against {_value(row.control.error, row.control.interval)}" if row.control else ""
    return f"{row.report.target}: {_value(row.error, _interval(row.report))}{control}."


def _value(error: float, interval: tuple[float, float] | None) -> str:
    return f"{error:.3f}" + (f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else "")
