"""Figures of one discrepancy: the answer with its baselines, and the classes."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modgap.answers.figures.files import ResultFigure, result_figure
from modgap.answers.figures.intervals import interval_columns, interval_text, tidy_frame
from modgap.answers.figures.labels import beside, label_marks, write_names
from modgap.answers.figures.rows import draw_marks, draw_ticks, row_panel
from modgap.answers.figures.style import (
    BASELINE_STYLE,
    Ink,
    figure_of,
    fit_names,
    name_in_title,
    styled,
    text_width,
)
from modgap.answers.formatting import format_difference
from modgap.discrepancy.class_errors import ClassError
from modgap.discrepancy.report import DiscrepancyReport, class_name
from modgap.discrepancy.result import Estimate
from modgap.discrepancy.verdict import (
    ENOUGH_CONTROLS,
    answer,
    classes_title,
    control_finding,
    error_name,
    evidence_of_record,
    verdict,
)
from modgap.errors import CONTROL_PREFIX, InputError, count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME_SPACE = 1.68
ANSWER_MARKS = {"random weights": "control", "one initialization": "faint control", "source": "source"}
"""Styles of the series in the figure of the answer."""
ROWS_WITH_STEPS = 1.75
"""Distance of the rows if arrows stand between them, in rows."""
SHORTEST_ARROW = 0.02
MARK_REACH = 0.012
"""Half the width of a mark, in units of the error axis."""
ROOM_FOR_LABEL = 0.3
"""Width that the label of an arrow needs, in errors."""
MANY_CLASSES = 100
"""Number of classes from which the chance level is shown with three decimals."""
MOST_ROWS = 24
"""Number of classes up to which all classes have a row."""
ROWS_AT_EACH_END = 12
"""Number of the best classes, and of the worst classes, that have a row if there are more classes."""
GAP_ROWS = 2.4
"""Height of the histogram of the other classes, in rows."""
CLASS_SPACE = 1.1
"""Space for the longest name of a class in inches."""
FEW_SAMPLES = 5
"""Number of samples of a class below which its results are unreliable."""


def answer_frame(report: DiscrepancyReport) -> pd.DataFrame:
    """Return the marks of the figure of a discrepancy: permuted labels, random weights and source.

    The ends of permuted labels are two standard deviations from their mean, and those of the others are the 95 %
    intervals. The values of several random initializations are rows of their own.

    Raises:
        InputError: If the report has no held-out value.
    """
    estimate = tested_estimate(report)
    control = report.result.control
    rows = []
    result = report.result
    permuted = None
    # Mean and ends of the error with permuted labels are on the scale of the figure.
    if result.permutations_for == result.best_estimator and result.null:
        reach = max(2 * result.null.sd, 0.002)
        permuted = interval_columns(result.null.mean, (result.null.mean - reach, result.null.mean + reach))
    elif result.permuted_error is not None:
        permuted = interval_columns(result.permuted_error, None)
    if permuted is not None:
        rows.append({"series": "permuted labels", "name": "permuted labels", "note": "no knowledge", **permuted})
    if control:
        names = {"series": "random weights", "name": "random weights"}
        note = "one random initialization" if control.n == 1 else f"{control.n} initializations"
        rows.append({**names, "note": note, **interval_columns(control.held_out, control.interval)})
        if control.n > 1:
            rows += [{**names, "series": "one initialization", "value": value} for value in control.values]
    note = "random weights" if (report.source or "").startswith(CONTROL_PREFIX) else "source"
    ends = interval_columns(float(estimate.held_out or 0), estimate.held_out_interval)
    rows.append({"series": "source", "name": report.source or "The source", "note": note, **ends})
    return tidy_frame(rows, columns=["series", "name", "note", "value", "low", "high"])


@styled
def plot_discrepancy(report: DiscrepancyReport, ax: "Axes | None" = None) -> "Figure":
    """Draw the held-out error on an axis from 0 to 1, with permuted labels, the control and the chance level.

    Args:
        report: A discrepancy with a held-out value.
        ax: Axes to draw on. None for a new figure.

    Raises:
        InputError: If the report has no held-out value.
    """
    frame = answer_frame(report)
    distance = ROWS_WITH_STEPS if report.result.control else 1.0
    is_row = frame["series"] != "one initialization"
    frame["y"] = 0.5 + distance * (is_row.cumsum() - 1)
    frame["mark"] = frame["series"].map(ANSWER_MARKS)
    interval = " (95 % interval)" if tested_estimate(report).held_out_interval else ""
    result = report.result
    name = error_name(result.best_estimator)
    label = f"{name}{interval}; lower is better"
    subtitle = (
        f"{name[0].upper()}{name[1:]} of the best map from {result.n_target_classes:,} target classes to "
        f"{result.n_source_classes:,} source classes; {result.n_samples:,} samples."
    )
    axes = row_panel(_title(report), subtitle, label, frame["y"].iloc[-1] + 0.9, 0.43, 0.1, ax)
    axes.set_xlim(0, 1)
    chance = chance_line(report)
    if chance is not None:
        axes.axvline(chance, **BASELINE_STYLE)
        side, shift = ("right", -0.012) if chance > 0.8 else ("left", 0.012)
        text = f"chance level {chance:.{3 if result.n_target_classes >= MANY_CLASSES else 2}f}"
        axes.text(chance + shift, axes.get_ylim()[0] - 0.06, text, ha=side, va="bottom", size=8, color=Ink.BASELINE)
    permuted = frame[frame["series"] == "permuted labels"]
    axes.barh(permuted["y"], permuted["high"] - permuted["low"], 0.34, permuted["low"], color=Ink.NULL_BAND, zorder=2)
    draw_ticks(axes, permuted, "value", 0.17, colors=Ink.CONTROL, linewidth=2, zorder=3)
    draw_marks(axes, frame, 8, 3)
    rows = frame[is_row].to_dict("records")
    for row in rows:
        _label_row(axes, row, -1.0 if chance is None else chance)
    if report.result.control:
        _draw_steps(axes, report, rows)
    return figure_of(axes)


def chance_line(report: DiscrepancyReport) -> float | None:
    """Return the chance level; None for a soft error, which is no share of wrong samples."""
    return None if (report.result.best_estimator or "").startswith("soft") else report.result.chance


def tested_estimate(report: DiscrepancyReport) -> Estimate:
    """Return the estimate to report, or raise if it has no held-out error."""
    estimate = report.best_estimate
    if estimate is None or estimate.held_out is None:
        raise _nothing_to_draw(report, "held-out error")
    return estimate


def _nothing_to_draw(report: DiscrepancyReport, missing: str) -> InputError:
    return InputError(f"The discrepancy of {report.target} has no {missing}, so there is nothing to draw.")


def _title(report: DiscrepancyReport) -> str:
    target = name_in_title(report.target, "target")
    source = name_in_title(report.source, "source") if report.source else ""
    return verdict(evidence_of_record(report.to_dict()).named(source, target)).title


def _label_row(axes: "Axes", row: dict[str, Any], chance: float) -> None:
    """Write name and note of a row, and its value right of the mark, or left of it where there is no room."""
    is_source = row["series"] == "source"
    color = Ink.SOURCE if is_source else Ink.SECONDARY
    name = fit_names([row["name"]], "source", NAME_SPACE, 9.5, bold=True)[0] if is_source else row["name"]
    beside(axes, row["y"] - 0.16, name, -10, weight="bold", color=color, size=9.5)
    beside(axes, row["y"] + 0.2, row["note"], -10, color=Ink.SECONDARY, size=8)
    value = row["value"]
    reach = np.nanmax([MARK_REACH, abs(row["low"] - value), abs(row["high"] - value)])
    start, end = value + reach, value + reach + 0.12
    side, x = ("left", start + 0.02) if end < 1 and not start < chance < end else ("right", value - reach - 0.02)
    size = 11.5 if is_source else 9.5
    axes.text(x, row["y"], f"{value:.2f}", ha=side, va="center", color=color, size=size, weight="bold")


def _draw_steps(axes: "Axes", report: DiscrepancyReport, rows: Sequence[dict[str, Any]]) -> None:
    """Draw arrows for the steps from no knowledge to the control, and from the control to the source."""
    control = report.result.control
    assert control is not None
    shown = control_finding(evidence_of_record(report.to_dict())).status
    color = Ink.SOURCE if shown == "yes" else Ink.SECONDARY
    steps = {"random weights": ("architecture", Ink.SECONDARY)}
    steps["source"] = ("pretraining" if control.n >= ENOUGH_CONTROLS else "difference", color)
    for above, below in pairwise(rows):
        name, color = steps[below["series"]]
        start, end = above["value"], below["value"]
        level = above["y"] + ROWS_WITH_STEPS / 2
        axes.vlines(start, above["y"] + 0.25, level, color=color, linewidth=1.3, zorder=3)
        if abs(end - start) > SHORTEST_ARROW:
            arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (end, level), (start, level), arrowprops=arrow, zorder=3)
        # The difference is that of the printed errors.
        text = f"{name} {format_difference(round(round(end, 2) - round(start, 2), 2))}"
        low, high = sorted((start, end))
        x, side, shift = (low + high) / 2, "center", -0.24
        if low > ROOM_FOR_LABEL:
            x, side, shift = low - 0.015, "right", 0.0
        elif high < 1 - ROOM_FOR_LABEL:
            x, side, shift = high + 0.015, "left", 0.0
        axes.text(x, level + shift, text, ha=side, va="center", size=8.5, color=color)


def discrepancy_caption(report: DiscrepancyReport) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    tested_estimate(report)
    result = report.result
    fitted_on = f"{result.per_class} samples per class" if result.per_class else "one half of the samples"
    sentences = [
        f"Held-out error of {report.source or 'the source'} on {report.target} (K = {result.n_target_classes:,} of "
        f"C = {result.n_source_classes:,} classes, N = {result.n_samples:,}, estimator: {result.best_estimator}).",
        f"Maps are fitted on {fitted_on} and tested on other samples, over {count(result.splits, 'split')}.",
        answer(evidence_of_record(report.to_dict())),
    ]
    if result.control is None:
        sentences.append("No random-weights control was run.")
    elif result.control.interval is None:
        sentences.append("The control's interval is unknown.")
    else:
        low, high = result.control.interval
        weights = "and the choice" if result.control.between_sd is not None else "but not the choice"
        interval = f"The control's 95 % interval, {low:.3f}-{high:.3f},"
        sentences.append(f"{interval} covers samples and splits, {weights} of the random weights.")
    if result.null:
        sentences.append(f"Up to {result.null.requested} permutations, {result.null.repeats} drawn.")
    if (chance := chance_line(report)) is not None:
        sentences.append(f"Chance level {chance:.3f} (dashed line).")
    return " ".join(sentences)


def classes_frame(report: DiscrepancyReport) -> pd.DataFrame:
    """Return the marks of the figure of the classes: one row for each class, lowest error first.

    Raises:
        InputError: If the report has no held-out value.
    """
    names = report.target_classes
    rows = [
        {
            **vars(one),
            **interval_columns(one.error, one.interval),
            "beats_baseline": one.beats_baseline,
            "confused_with": "" if one.confused_with is None else class_name(names, one.confused_with),
        }
        for one in _tested_classes(report)
    ]
    return tidy_frame(rows).drop(columns=["error", "interval"])


@styled
def plot_classes(report: DiscrepancyReport, ax: "Axes | None" = None) -> "Figure":
    """Draw the held-out error of each class with its interval, its baseline and its most frequent error.

    With more than 24 classes, the 12 best and the 12 worst have a row each, and a histogram shows the others.

    Args:
        report: A discrepancy with a held-out value.
        ax: Axes to draw on. None for a new figure.

    Raises:
        InputError: If the report has no held-out value.
    """
    errors = classes_frame(report)
    rows, others = errors, errors.iloc[:0]
    if len(errors) > MOST_ROWS:
        rows = pd.concat([errors.iloc[:ROWS_AT_EACH_END], errors.iloc[-ROWS_AT_EACH_END:]])
        others = errors.iloc[ROWS_AT_EACH_END:-ROWS_AT_EACH_END]
    rows = rows.assign(
        y=[0.5 + row + GAP_ROWS * (len(others) > 0 and row >= ROWS_AT_EACH_END) for row in range(len(rows))]
    )
    rows["mark"] = rows["beats_baseline"].map({True: "source", False: "open error"})
    row_height = 0.205 if len(rows) > ROWS_AT_EACH_END else 0.25
    label = "held-out error of the class (95 % interval)"
    source = name_in_title(report.source, "source") if report.source else "the source"
    subtitle = f"Held-out error by class, {source}. Each target class has its own source class."
    if errors["n_samples"].min() < FEW_SAMPLES:
        subtitle += f" Classes with fewer than {FEW_SAMPLES} samples: results are unreliable."
    axes = row_panel(_classes_title(report), subtitle, label, rows["y"].iloc[-1] + 0.6, row_height, 0.25, ax)
    axes.set_xlim(0, 1)
    _write_classes(axes, rows)
    draw_ticks(axes, rows, "baseline", 0.34)
    draw_marks(axes, rows, 6)
    if len(others):
        _draw_histogram(axes, others)
    label_marks(axes, -0.5, [(rows["baseline"].iloc[0], "baseline of the class", Ink.SECONDARY, False)], 0.0)
    return figure_of(axes)


def _tested_classes(report: DiscrepancyReport) -> list[ClassError]:
    if report.result.held_out_confusion is None:
        raise _nothing_to_draw(report, "held-out error")
    return report.class_errors()


def _classes_title(report: DiscrepancyReport) -> str:
    errors = report.class_errors()
    target = name_in_title(report.target, "target")
    if report.result.floor > 0 or not all(one.interval for one in errors):
        return f"Held-out errors of {len(errors):,} classes of {target}"
    n_better = sum(one.beats_baseline for one in errors)
    return classes_title(n_better, len(errors), report.result.n_target_classes, target)


def _write_classes(axes: "Axes", rows: pd.DataFrame) -> None:
    """Write target class, source class and most frequent error beside each row, in three columns with headings."""
    targets = fit_names(list(rows["name"]), "class", CLASS_SPACE, 8.5, bold=True)
    sources = fit_names(list(rows["source_class"]), "class", CLASS_SPACE, 8.5)
    confused = fit_names(list(rows["confused_with"]), "class", CLASS_SPACE, 8)
    numbers = [f" n = {n:g}" if n < FEW_SAMPLES else "" for n in rows["n_samples"]]
    shares = [f"{100 * share:.0f} %" for share in rows["confused_share"]]
    errors = [
        f"{name} ({share})" if was_confused else ""
        for name, share, was_confused in zip(confused, shares, rows["confused_with"] != "", strict=True)
    ]
    column = 72 * max(text_width(name, 8.5) for name in [*sources, "source class"])
    gray: dict[str, Any] = {"color": Ink.SECONDARY, "size": 8}
    left: dict[str, Any] = {"points": -column - 10, "ha": "left"}
    beside(axes, -0.5, "target class", -column - 26, **gray)
    beside(axes, -0.5, "source class", **left, **gray)
    beside(axes, -0.5, "most frequent error", 10, right=True, **gray)
    named = [name + number for name, number in zip(targets, numbers, strict=True)]
    write_names(axes, rows["y"], named, -column - 26, bold=range(len(rows)))
    write_names(axes, rows["y"], ["→"] * len(rows), -column - 13, **gray)
    write_names(axes, rows["y"], sources, **left, color=Ink.TEXT)
    write_names(axes, rows["y"], errors, 10, right=True, **gray)


def _draw_histogram(axes: "Axes", others: pd.DataFrame) -> None:
    """Draw a histogram of the errors of the classes that have no row, in the gap between the best and the worst."""
    import seaborn

    bottom, top = axes.get_ylim()
    low, high = ROWS_AT_EACH_END + GAP_ROWS - 0.4, ROWS_AT_EACH_END + 0.5
    inset = axes.inset_axes((0, (low - bottom) / (top - bottom), 1, (high - low) / (top - bottom)), zorder=2)
    seaborn.histplot(data=others, x="value", bins=40, binrange=(0, 1), color=Ink.SOURCE, shrink=0.85, ax=inset)
    inset.set(xlim=axes.get_xlim(), xticks=[], yticks=[], xlabel="", ylabel="")
    inset.set_axis_off()
    text = f"{len(others):,} classes between"
    beside(axes, (low + high) / 2, text, -10, style="italic", color=Ink.SECONDARY)


def classes_caption(report: DiscrepancyReport) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    errors = _tested_classes(report)
    result = report.result
    return " ".join(
        [
            f"Held-out error by class for {report.source or 'the source'} on {report.target}, sorted (K = "
            f"{result.n_target_classes:,} of C = {result.n_source_classes:,} classes, N = {result.n_samples:,}, "
            f"estimator: {result.best_estimator}).",
            "Each target class is followed by the source class that stands for it in the map of all samples; the "
            "errors are those of maps that are fitted on a part of the samples and tested on the others.",
            "Intervals are 95 %, over samples or groups, and leave out the choice of the maps.",
            "Blue, filled: the interval lies below the baseline of the class. Orange, open: it does not.",
            "Gray marks are the baseline of the class: its error if the predictions kept their frequencies but did not "
            "depend on the label. There is no correction for the number of classes.",
            "On the right: the class that is predicted most often in error, with its share.",
            *_limits(report, errors),
        ]
    )


def _limits(report: DiscrepancyReport, errors: Sequence[ClassError]) -> list[str]:
    """Return the limits of the figure of classes, and the values of few classes."""
    sentences = []
    if not all(one.interval for one in errors):
        sentences.append("Classes with fewer than 8 samples or groups have no interval.")
    if report.result.floor > 0:
        sentences.append("A multi-label sample is shared among its labels, so the intervals are approximate.")
    untested = len(report.best_map()) - len(errors)
    if untested:
        classes = "1 class has" if untested == 1 else f"{untested:,} classes have"
        sentences.append(f"{classes} only one sample or group and no held-out error.")
    if len(errors) > MOST_ROWS:
        return [*sentences, "The values of all classes are in classes.csv."]
    values = [f"{one.name} {interval_text(**interval_columns(one.error, one.interval))}" for one in errors]
    return [*sentences, f"Errors with intervals: {', '.join(values)}."]


def planned_figures(report: DiscrepancyReport) -> Iterator[ResultFigure]:
    """Yield each figure that the report has the numbers for."""
    if report.best_estimate and report.best_estimate.held_out is not None:
        yield result_figure("discrepancy", report, answer_frame, plot_discrepancy, discrepancy_caption)
    if report.result.held_out_confusion is not None:
        yield result_figure("classes", report, classes_frame, plot_classes, classes_caption)
