"""The figure of several sources on several targets: small multiples for up to three sources, a table for more."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.target_figure import (
    NOT_COMPARED,
    TargetRow,
    difference_style,
    differences_title,
    draw_marks,
    format_difference,
    target_rows,
    values_sentence,
)
from modgap.display.figure_layout import (
    MARGIN,
    WIDTH,
    Ink,
    draw_title,
    drawable_names,
    figure_below_title,
    fit_names,
    styled,
)
from modgap.errors import UsageError

__all__ = ["SourceReports", "plot_sources_on_targets", "sources_caption"]

SourceReports = Mapping[str, tuple[Sequence[DiscrepancyReport], Sequence[DiscrepancyReport | None]]]
"""Reports of each source on the targets, and those of its control or none, by the name of the source."""
PANELS = 3
"""Largest number of sources that get a panel of their own."""
LEFT = 1.5
GAP = 0.62
"""Space between two panels, which holds the differences, in inches."""
ROW = 0.43
NAMES = 0.3
FOOTER = 0.52
CELL = 0.26
"""Height of a row of the table in inches."""
COLUMN_LABELS = 0.62


@styled
def plot_sources_on_targets(sources: SourceReports, cause: str | None = None) -> Figure:
    """Draw the held-out errors of several sources and of their controls on the same targets.

    Up to three sources are panels with one order of the targets. More are a table of the differences between source
    and control.

    Args:
        sources: Reports of each source and of its control, on the same targets.
        cause: Subject of the title, the thing that a source and its control differ by, as for `plot_targets`.

    Raises:
        UsageError: If there is no source, or the sources are not of the same targets.
    """
    rows = _rows(sources)
    return _panels(rows, cause) if len(rows) <= PANELS else _table(rows, cause)


def _rows(sources: SourceReports) -> dict[str, list[TargetRow]]:
    """Return the targets of each source in one order: by the mean difference, and then by the mean error."""
    if not sources:
        raise UsageError("There is no source to draw. At least one is needed.")
    by_source = {name: target_rows(*reports) for name, reports in sources.items()}
    by_target = {name: {row.report.target: row for row in rows} for name, rows in by_source.items()}
    targets = [set(rows) for rows in by_target.values()]
    if any(one != targets[0] for one in targets):
        raise UsageError("The sources are not of the same targets. Expected one report for each source and target.")
    order = sorted(targets[0], key=lambda target: _mean_values([rows[target] for rows in by_target.values()]))
    return {name: [rows[target] for target in order] for name, rows in by_target.items()}


def _mean_values(rows: Sequence[TargetRow]) -> tuple[float, float]:
    return float(np.mean([row.difference or 0.0 for row in rows])), float(np.mean([row.error for row in rows]))


def _title(rows: Mapping[str, Sequence[TargetRow]], cause: str | None) -> str:
    compared = [row for part in rows.values() for row in part if row.group != NOT_COMPARED]
    if not compared:
        return f"Held-out errors of {len(rows)} sources"
    return differences_title(compared, cause, "for any source and target", "pairs of source and target")


def _panels(rows: Mapping[str, Sequence[TargetRow]], cause: str | None) -> Figure:
    n_targets = len(next(iter(rows.values())))
    subtitle = (
        "Held-out error of the best map. Filled circles: source. Open diamonds: its control. Vertical marks: majority "
        "class. The difference is on the right, in bold if it is significant."
    )
    title = _title(rows, cause)
    height = ROW * n_targets
    figure, _ = figure_below_title(title, subtitle, NAMES + height + FOOTER)
    draw_title(figure, title, subtitle)
    total = figure.get_figheight()
    width = (WIDTH - LEFT) / len(rows) - GAP
    names = fit_names(drawable_names(list(rows), "source"), width + GAP - 0.1, 9.5, bold=True)
    for number, (name, part) in enumerate(zip(names, rows.values(), strict=True)):
        x = LEFT + number * (width + GAP)
        axes = figure.add_axes((x / WIDTH, FOOTER / total, width / WIDTH, height / total))
        _style_panel(axes, height)
        figure.text(x / WIDTH, (FOOTER + height + 0.1) / total, name, size=9.5, weight="bold", color=Ink.TITLE)
        for index, row in enumerate(part):
            _draw_row(axes, row, ROW * (index + 0.5), 1 + (GAP - 0.1) / width)
    _label_targets(figure, next(iter(rows.values())), total, height)
    figure.text(
        (LEFT + (WIDTH - LEFT - GAP) / 2) / WIDTH, 0.1 / total, "held-out error (95 % intervals); lower is better",
        ha="center", size=8.5,
    )  # fmt: skip
    return figure


def _style_panel(axes: Axes, height: float) -> None:
    axes.set(xlim=(0, 1), ylim=(height, 0), yticks=[], xticks=[0, 0.5, 1])
    axes.set_xticklabels(["0", "0.5", "1"], fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color=Ink.GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _draw_row(axes: Axes, row: TargetRow, y: float, x: float) -> None:
    draw_marks(axes, row, y)
    axes.text(
        x, y, format_difference(row.difference), transform=axes.get_yaxis_transform(), ha="right", va="center",
        size=8.5, **difference_style(row),
    )  # fmt: skip


def _label_targets(figure: Figure, rows: Sequence[TargetRow], total: float, height: float) -> None:
    """Write the names of the targets, with K and N, left of the first panel."""
    names = fit_names(drawable_names([row.report.target for row in rows], "target"), LEFT - MARGIN - 0.12, 9)
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        y = FOOTER + height - ROW * (index + 0.5)
        result = row.report.result
        sizes = f"K = {result.n_target_classes:,}, N = {result.n_samples:,}"
        x = (LEFT - 0.12) / WIDTH
        figure.text(x, (y + 0.08) / total, name, ha="right", va="center", size=9, color=Ink.TITLE)
        figure.text(x, (y - 0.08) / total, sizes, ha="right", va="center", size=8, color=Ink.SECONDARY)


def _table(rows: Mapping[str, Sequence[TargetRow]], cause: str | None) -> Figure:
    """Draw a row for each source and a column for each target, so that the names of sources stand side by side."""
    targets = [row.report.target for row in next(iter(rows.values()))]
    title = _title(rows, cause)
    subtitle = "Held-out error minus that of the control, negative where the source is better. Bold: significant."
    body = COLUMN_LABELS + CELL * len(rows) + 2 * MARGIN
    figure, top = figure_below_title(title, subtitle, body)
    draw_title(figure, title, subtitle)
    total = figure.get_figheight()
    width = (WIDTH - LEFT - 2 * MARGIN) / len(targets)
    names = fit_names(drawable_names(targets, "target"), 1.1, 8)
    first = total - top - COLUMN_LABELS
    for index, name in enumerate(names):
        x = LEFT + MARGIN + width * (index + 0.5)
        turned = {"rotation": 30, "ha": "left"} if width < 1.2 else {"ha": "center"}
        figure.text(x / WIDTH, (first + 0.12) / total, name, size=8, color=Ink.TEXT, va="bottom", **turned)
    labels = fit_names(drawable_names(list(rows), "source"), LEFT - MARGIN, 9, bold=True)
    for number, (label, part) in enumerate(zip(labels, rows.values(), strict=True)):
        y = (first - CELL * (number + 0.5)) / total
        figure.text(LEFT / WIDTH, y, label, ha="right", va="center", size=9, weight="bold", color=Ink.TITLE)
        for index, row in enumerate(part):
            x = (LEFT + MARGIN + width * (index + 0.5)) / WIDTH
            figure.text(
                x, y, format_difference(row.difference), ha="center", va="center", size=8.5, **difference_style(row)
            )
    return figure


def sources_caption(sources: SourceReports) -> str:
    """Return the caption of the figure, in whole sentences with the exact values.

    Args:
        sources: Reports of each source and of its control, on the same targets.
    """
    rows = _rows(sources)
    sentences = [
        f"Held-out errors of {len(rows)} sources and of their controls on the same targets, with 95 % intervals.",
        "A difference is significant if the two errors differ in a paired comparison of the samples at the 5 % level, "
        "without correction for the number of sources and targets.",
        "Targets are sorted by the mean difference, which is computed from errors with two decimals.",
    ]
    values = [f"{name}: {' '.join(map(values_sentence, part))}" for name, part in rows.items()]
    return " ".join([*sentences, *values])
