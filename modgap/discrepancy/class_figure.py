"""The figure of the classes: on which target classes does the map work?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.discrepancy.class_errors import ClassError
from modgap.discrepancy.report import DiscrepancyReport, class_name
from modgap.discrepancy.verdict import classes_title
from modgap.display.figure_layout import WIDTH, Ink, drawable_names, fit_names, name_in_title, result_figure, styled
from modgap.errors import InputError

__all__ = ["classes_caption", "plot_classes"]

ROW_HEIGHT = 0.25
DENSE_ROW_HEIGHT = 0.205
MOST_ROWS = 24
"""Number of classes up to which all classes have a row."""
ROWS_AT_EACH_END = 12
"""Number of the best classes, and of the worst classes, that have a row if there are more classes."""
GAP_ROWS = 2.4
"""Height of the histogram of the other classes, in rows."""
LEFT = 2.42
RIGHT = 1.62
AXES_WIDTH = WIDTH - LEFT - RIGHT
TARGET_SPACE = 1.0
SOURCE_SPACE = 1.04
CONFUSED_SPACE = 0.96
TARGET_X = -(LEFT - 0.14 - TARGET_SPACE) / AXES_WIDTH
ARROW_X = -(SOURCE_SPACE + 0.17) / AXES_WIDTH
SOURCE_X = -(SOURCE_SPACE + 0.1) / AXES_WIDTH
CONFUSED_X = 1 + 0.1 / AXES_WIDTH
"""Horizontal position of the text beside the axes, in widths of the axes."""
FEW_SAMPLES = 5
"""Number of samples of a class below which its results are unreliable."""


@styled
def plot_classes(report: DiscrepancyReport) -> Figure:
    """Draw the held-out error of each class with its interval, its baseline and its most frequent error.

    With more than 24 classes, the 12 best and the 12 worst have a row each, and a histogram shows the others.

    Args:
        report: A discrepancy with a held-out value.

    Raises:
        InputError: If the report has no held-out value.
    """
    errors = _tested_classes(report)
    rows, others = _split_rows(errors)
    positions = _positions(len(rows), bool(others))
    height = (positions[-1] + 1.9) * (DENSE_ROW_HEIGHT if len(rows) > ROWS_AT_EACH_END else ROW_HEIGHT)
    figure, axes = result_figure(_title(report, errors), _subtitle(report, errors), height, LEFT, RIGHT)
    axes.set(xlim=(0, 1), ylim=(positions[-1] + 0.6, -1.3), xlabel="held-out error of the class (95 % interval)")
    _draw_headings(axes, rows[0])
    _draw_names(axes, report, rows, positions)
    for one, y in zip(rows, positions, strict=True):
        _draw_error(axes, one, y)
    if others:
        _draw_histogram(axes, others, ROWS_AT_EACH_END - 0.5 + GAP_ROWS / 2)
    return figure


def _tested_classes(report: DiscrepancyReport) -> list[ClassError]:
    if report.result.held_out_confusion is None:
        raise InputError(f"The discrepancy of {report.target} has no held-out error, so there is nothing to draw.")
    return report.class_errors()


def _split_rows(errors: Sequence[ClassError]) -> tuple[list[ClassError], list[ClassError]]:
    """Return the classes that have a row each, and the others."""
    if len(errors) <= MOST_ROWS:
        return list(errors), []
    end = len(errors) - ROWS_AT_EACH_END
    return [*errors[:ROWS_AT_EACH_END], *errors[end:]], list(errors[ROWS_AT_EACH_END:end])


def _positions(n_rows: int, has_gap: bool) -> list[float]:
    """Return the vertical position of each row, in rows from the top."""
    return [row + (GAP_ROWS if has_gap and row >= ROWS_AT_EACH_END else 0.0) for row in range(n_rows)]


def _title(report: DiscrepancyReport, errors: Sequence[ClassError]) -> str:
    target = name_in_title(report.target, "target")
    if not _have_intervals(report, errors):
        return f"Held-out errors of {len(errors):,} classes of {target}"
    n_better = sum(one.beats_baseline for one in errors)
    return classes_title(n_better, len(errors), report.result.n_target_classes, target)


def _have_intervals(report: DiscrepancyReport, errors: Sequence[ClassError]) -> bool:
    """Return True if every class has an interval, and samples have one label each."""
    return report.result.floor == 0 and all(one.interval for one in errors)


def _subtitle(report: DiscrepancyReport, errors: Sequence[ClassError]) -> str:
    source = name_in_title(report.source, "source") if report.source else "the source"
    subtitle = f"Held-out error by class, {source}. Each target class has its own source class."
    if min(one.n_samples for one in errors) < FEW_SAMPLES:
        subtitle += f" Classes with fewer than {FEW_SAMPLES} samples: results are unreliable."
    return subtitle


def _draw_headings(axes: Axes, first: ClassError) -> None:
    for x, text, side in (
        (TARGET_X, "target class", "right"),
        (SOURCE_X, "source class", "left"),
        (CONFUSED_X, "most frequent error", "left"),
    ):
        _write_beside(axes, x, -0.95, text, side, size=8, color=Ink.SECONDARY)
    side = "center" if 0.25 < first.baseline < 0.75 else "right" if first.baseline >= 0.75 else "left"
    x = {"center": first.baseline, "right": 1.0, "left": 0.0}[side]
    axes.text(x, -0.95, "baseline of the class", ha=side, va="center", size=8, color=Ink.SECONDARY)


def _write_beside(axes: Axes, x: float, y: float, text: str, side: str, **style: Any) -> None:
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), ha=side, va="center", **style)


def _draw_names(axes: Axes, report: DiscrepancyReport, rows: Sequence[ClassError], positions: Sequence[float]) -> None:
    targets = _target_labels(rows)
    sources = fit_names(drawable_names([one.source_class for one in rows]), SOURCE_SPACE, 8.5)
    confused = _confused_labels(report, rows)
    for y, target, source, other in zip(positions, targets, sources, confused, strict=True):
        _write_beside(axes, TARGET_X, y, target, "right", size=8.5, weight="bold", color=Ink.TITLE)
        _write_beside(axes, ARROW_X, y, "→", "center", size=8, color=Ink.SECONDARY)
        _write_beside(axes, SOURCE_X, y, source, "left", size=8.5)
        _write_beside(axes, CONFUSED_X, y, other, "left", size=8, color=Ink.SECONDARY)


def _target_labels(rows: Sequence[ClassError]) -> list[str]:
    """Return the names of the target classes, with the number of samples where there are few."""
    notes = [f" n = {one.n_samples:g}" if one.n_samples < FEW_SAMPLES else "" for one in rows]
    space = TARGET_SPACE - (0.42 if any(notes) else 0)
    names = fit_names(drawable_names([one.name for one in rows]), space, 8.5, bold=True)
    return [name + note for name, note in zip(names, notes, strict=True)]


def _confused_labels(report: DiscrepancyReport, rows: Sequence[ClassError]) -> list[str]:
    numbers = sorted({one.confused_with for one in rows if one.confused_with is not None})
    names = drawable_names([class_name(report.target_classes, number) for number in numbers])
    by_number = dict(zip(numbers, fit_names(names, CONFUSED_SPACE, 8), strict=True))
    return [
        "" if one.confused_with is None else f"{by_number[one.confused_with]} ({100 * one.confused_share:.0f} %)"
        for one in rows
    ]


def _draw_error(axes: Axes, one: ClassError, y: float) -> None:
    color = Ink.SOURCE if one.beats_baseline else Ink.ERROR
    fill = color if one.beats_baseline else "white"
    axes.plot([one.baseline, one.baseline], [y - 0.34, y + 0.34], color=Ink.BASELINE, linewidth=1.3, zorder=2)
    if one.interval:
        axes.plot(one.interval, [y, y], color=color, linewidth=2, solid_capstyle="butt", zorder=3, clip_on=False)
    axes.plot(
        one.error, y, "o", color=color, markerfacecolor=fill, markersize=6, markeredgewidth=1.4, zorder=4, clip_on=False
    )


def _draw_histogram(axes: Axes, others: Sequence[ClassError], y: float) -> None:
    counts, edges = np.histogram([one.error for one in others], bins=40, range=(0, 1))
    heights = 1.3 * counts / counts.max()
    base = y + 0.65
    axes.bar(edges[:-1], -heights, np.diff(edges) * 0.85, bottom=base, align="edge", color=Ink.SOURCE, alpha=0.55)
    text = f"{len(others):,} classes between"
    _write_beside(axes, -0.12 / AXES_WIDTH, y, text, "right", size=8.5, style="italic", color=Ink.SECONDARY)


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
            *_values(errors),
        ]
    )


def _limits(report: DiscrepancyReport, errors: Sequence[ClassError]) -> list[str]:
    sentences = []
    if not all(one.interval for one in errors):
        sentences.append("Classes with fewer than 8 samples or groups have no interval.")
    if report.result.floor > 0:
        sentences.append("A multi-label sample is shared among its labels, so the intervals are approximate.")
    untested = len(report.best_map()) - len(errors)
    if untested:
        classes = "1 class has" if untested == 1 else f"{untested:,} classes have"
        sentences.append(f"{classes} only one sample or group and no held-out error.")
    return sentences


def _values(errors: Sequence[ClassError]) -> list[str]:
    if len(errors) > MOST_ROWS:
        return ["The values of all classes are in classes.csv."]
    values = [f"{one.name} {one.error:.3f}{_interval_text(one)}" for one in errors]
    return [f"Errors with intervals: {', '.join(values)}."]


def _interval_text(one: ClassError) -> str:
    return f" ({one.interval[0]:.3f}-{one.interval[1]:.3f})" if one.interval else ""
