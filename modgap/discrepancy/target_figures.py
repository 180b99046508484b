"""Figures of several targets and sources: on which of them does pretraining help?"""

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modgap.answers.figures.grid import DIFFERENCES, draw_grid
from modgap.answers.figures.intervals import interval_columns, tidy_frame
from modgap.answers.figures.labels import beside, label_marks, write_names
from modgap.answers.figures.rows import draw_marks, draw_ticks, row_panel
from modgap.answers.figures.style import Ink, figure_of, fit_names, name_in_title, panel, panels, style_axes, styled
from modgap.answers.formatting import format_difference
from modgap.discrepancy.figures import tested_estimate
from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.verdict import ENOUGH_CONTROLS
from modgap.errors import InputError, UsageError
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.statistics.paired import paired_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SourceReports = Mapping[str, tuple[Sequence[DiscrepancyReport], Sequence[DiscrepancyReport | None]]]
"""Reports of each source on the targets, and those of its control or none, by the name of the source."""
NAME_SPACE = 1.4
SERIES_SPACE = 1.5
ROW = 0.43
HEADING = 0.55
"""Height of the heading of a group of targets, in rows."""
SIGNIFICANT = "significant difference"
NOT_SIGNIFICANT = "no significant difference"
NOT_COMPARED = "not compared"
GROUPS = (SIGNIFICANT, NOT_SIGNIFICANT, NOT_COMPARED)
PANELS = 3
"""Largest number of sources that get a panel of their own."""
SHIFT = 0.128
"""Distance of the two marks of a target from the middle of its row, in rows."""
AXIS_LABEL = "held-out error (95 % intervals); lower is better"


def targets_frame(
    reports: Sequence[DiscrepancyReport], controls: Sequence[DiscrepancyReport | None] = ()
) -> pd.DataFrame:
    """Return the marks of the figure of several targets, sorted by the difference and then by the error.

    Each target has a row of the series `pretrained`, and one of the series `random weights` if there is a control,
    which is the mean of `initializations` random initializations. `difference` is that of the errors with two decimals,
    so that a reader who subtracts gets the same. `group` is the result of the paired comparison at the 5 % level.

    Args:
        reports: Report of the source on each target.
        controls: Report of the control on each target, as for `plot_targets`.

    Raises:
        InputError: If a report has no held-out value.
        UsageError: If there is no report, or the reports and controls are not of the same targets.
    """
    if not reports:
        raise UsageError("There is no report to draw. At least one is needed.")
    paired = list(controls) or [None] * len(reports)
    targets = [report.target for report in reports]
    others = [control.target if control else target for control, target in zip(paired, targets, strict=False)]
    if targets != others:
        raise UsageError(f"The controls are of the targets {others}. Expected the same as the reports: {targets}.")
    pairs = [_marks(report, control) for report, control in zip(reports, paired, strict=True)]
    pairs.sort(key=lambda marks: (np.nan_to_num(marks[0]["difference"]), marks[0]["value"]))
    return tidy_frame([{"row": row, **mark} for row, marks in enumerate(pairs) for mark in marks])


def _marks(report: DiscrepancyReport, control: DiscrepancyReport | None) -> list[dict[str, Any]]:
    """Return the mark of the source on a target, and that of its control if there is one."""
    result = report.result
    about = {"source": report.source or "the source", "target": report.target, "classes": result.n_target_classes}
    about |= {"samples": result.n_samples, "majority_class": result.prior, "difference": np.nan, "group": NOT_COMPARED}
    marks = [{"series": "pretrained", **_error(report)}]
    p_value = None
    if control is not None:
        marks.append({"series": "random weights", **_error(control), "initializations": 1})
        p_value = _paired_p_value(report, control)
    elif result.control and result.control.estimator == result.best_estimator:
        ends = interval_columns(result.control.held_out, result.control.interval)
        marks.append({"series": "random weights", **ends, "initializations": result.control.n})
        p_value = result.control.difference.p_value
    if len(marks) > 1:
        about["difference"] = round(round(marks[0]["value"], 2) - round(marks[1]["value"], 2), 2)
    if p_value is not None:
        about["group"] = SIGNIFICANT if p_value <= SIGNIFICANCE_LEVEL else NOT_SIGNIFICANT
    return [{**mark, **about} for mark in marks]


def _error(report: DiscrepancyReport) -> dict[str, Any]:
    estimate = tested_estimate(report)
    return interval_columns(float(estimate.held_out or 0), estimate.held_out_interval)


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
    ax: "Axes | None" = None,
) -> "Figure":
    """Draw the held-out error of a source and of its control on several targets, with the differences (paper's Fig. 4).

    Args:
        reports: Report of the source on each target.
        controls: Report of the control on each target. Where it is None, or if there are none at all, the control is
            the one that the report itself holds, if it has one.
        labels: Names of the two series.
        cause: Subject of the title, the thing that the two series differ by. None for pretraining, which the title
            names only if each control is the mean of three or more random initializations.
        ax: Axes to draw on. None for a new figure.

    Raises:
        InputError: If a report has no held-out value.
        UsageError: If there is no report, or the reports and controls are not of the same targets.
    """
    frame, headings = _grouped(targets_frame(reports, controls))
    first, second = fit_names(labels, "series", SERIES_SPACE, 8.5, bold=True)
    title, subtitle = _title(frame, cause), _subtitle(frame, (first, second))
    axes = row_panel(title, subtitle, AXIS_LABEL, frame["y"].max() + 0.5, ROW, 0.5, ax)
    axes.set_xlim(0, 1)
    write_names(axes, headings.values(), headings, style="italic", color=Ink.SECONDARY)
    _draw_targets(axes, frame, 58)
    _write_targets(axes, frame, {SIGNIFICANT})
    beside(axes, 0.0, "difference", 58, right=True, ha="right", weight="bold")
    names = {"pretrained": (first, Ink.SOURCE, True), "random weights": (second, Ink.CONTROL, True)}
    top = frame[frame["y"] == frame["y"].min()]
    series = [(value, *names[name]) for name, value in zip(top["series"], top["value"], strict=True)]
    label_marks(axes, -0.2, [*series, (top["majority_class"].iloc[0], "majority class", Ink.SECONDARY, False)], 0.04)
    return figure_of(axes)


def _grouped(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return the marks with their vertical positions, one group below the other, and the position of each heading."""
    positions: dict[int, float] = {}
    headings: dict[str, float] = {}
    y = 0.0
    for group in GROUPS:
        for row in frame.loc[frame["group"] == group, "row"].drop_duplicates():
            if group not in headings:
                y += HEADING if headings else 0.35
                headings[group] = y - HEADING / 2 - 0.05
            positions[row] = y + 0.5
            y += 1
    return frame.assign(y=frame["row"].map(positions)).sort_values("y", kind="stable"), headings


def _draw_targets(axes: "Axes", frame: pd.DataFrame, points: float) -> None:
    """Draw the marks of each target, and the difference at a distance in points from the right edge.

    The marks are source, control, a bar for a significant difference, and the majority class.
    """
    targets = frame.drop_duplicates("row")
    draw_ticks(axes, targets, "majority_class", 0.32)
    for _, pair in frame[frame["group"] == SIGNIFICANT].groupby("row"):
        low, high = pair["value"].min(), pair["value"].max()
        axes.barh(pair["y"].iloc[0], high - low, 2 * SHIFT, low, color=Ink.SOURCE, alpha=0.14, zorder=1)
    shift = SHIFT * frame["series"].map({"pretrained": 1, "random weights": -1}) * frame["difference"].notna()
    kinds = frame["series"].map({"pretrained": "source", "random weights": "control"})
    draw_marks(axes, frame.assign(y=frame["y"] + shift, mark=kinds))
    for row in targets.itertuples():
        color = Ink.ERROR_TEXT if row.difference > 0 else Ink.SOURCE
        style = {"weight": "bold", "color": color} if row.group == SIGNIFICANT else {"color": Ink.SECONDARY}
        beside(axes, row.y, format_difference(row.difference), points, right=True, ha="right", size=9, **style)


def _write_targets(axes: "Axes", frame: pd.DataFrame, bold: Set[str] = frozenset()) -> None:
    """Write the name of each target left of its row, with the number of classes and of samples; some groups in bold."""
    rows = frame.drop_duplicates("row").reset_index()
    names = fit_names(list(rows["target"]), "target", NAME_SPACE, 9, bold=True)
    write_names(axes, rows["y"] - 0.19, names, bold=set(rows.index[rows["group"].isin(bold)]), size=9)
    sizes = [f"K = {row.classes:,}, N = {row.samples:,}" for row in rows.itertuples()]
    write_names(axes, rows["y"] + 0.19, sizes, size=8, color=Ink.SECONDARY)


def _title(frame: pd.DataFrame, cause: str | None) -> str:
    n_compared = int((frame.drop_duplicates("row")["group"] != NOT_COMPARED).sum())
    if n_compared == 0:
        return f"Held-out error on {_count_targets(frame)}"
    compared = frame[frame["group"] != NOT_COMPARED]
    if n_compared == 1:
        return _differences_title(compared, cause, f"on {_count_targets(compared)}", "")
    return _differences_title(compared, cause, f"on {n_compared} targets", "targets")


def _differences_title(compared: pd.DataFrame, cause: str | None, everywhere: str, things: str) -> str:
    """Return a title that counts the significant differences between a source and its control.

    Args:
        compared: Marks whose errors were compared, of at least one source and target.
        cause: What the two errors differ by; None for pretraining. With fewer than three random initializations, the
            difference may be due to the one that was drawn, so the title does not name pretraining then.
        everywhere: Words for all rows, such as `on 4 targets`.
        things: Plural noun for the rows; empty for a single one.
    """
    sources, controls = (compared[compared["series"] == name] for name in ("pretrained", "random weights"))
    is_different = (sources["group"] == SIGNIFICANT).to_numpy()
    n_lower = int((is_different & (sources["value"].to_numpy() < controls["value"].to_numpy())).sum())
    n_higher = int(is_different.sum()) - n_lower
    if cause is None and (controls["initializations"] < ENOUGH_CONTROLS).any():
        than = f"than {_initializations(controls)}"
        lowers, raises, also = f"Lower error {than}", f"Higher error {than}", " and higher"
        subject = f"the error differs from that of {_initializations(controls)}"
    else:
        subject = f"{cause or 'pretraining'} changes the error"
        cause = cause or "Pretraining"
        lowers, raises, also = f"{cause} lowers the error", f"{cause} raises the error", " and raises it"
    if not n_lower + n_higher:
        return f"It is not shown that {subject} {everywhere}"
    if not things:
        return f"{lowers if n_lower else raises} {everywhere}"
    preposition = everywhere.partition(" ")[0]
    if not n_lower:
        return f"{raises} {preposition} {n_higher} of {len(sources)} {things}"
    more = f"{also} {preposition} {n_higher}" if n_higher else ""
    return f"{lowers} {preposition} {n_lower} of {len(sources)} {things}{more}"


def _initializations(controls: pd.DataFrame) -> str:
    """Return the number of random initializations of each control in words."""
    numbers = sorted({int(number) for number in controls["initializations"]})
    if numbers == [1]:
        return "one random initialization"
    return f"{' to '.join(str(number) for number in dict.fromkeys([numbers[0], numbers[-1]]))} random initializations"


def _count_targets(frame: pd.DataFrame) -> str:
    targets = frame.drop_duplicates("row")["target"]
    return name_in_title(targets.iloc[0], "target") if len(targets) == 1 else f"{len(targets)} targets"


def _subtitle(frame: pd.DataFrame, labels: tuple[str, str]) -> str:
    name = name_in_title(frame["source"].iloc[0], "source")
    if frame["difference"].isna().all():
        return f"Held-out error of the best map of {name}."
    if labels[1] == "random weights":
        return f"Held-out error of the best map: {name} and the same architecture with random weights."
    return f"Held-out error of the best map: {name}, {labels[0]} and {labels[1]}."


@styled
def plot_sources_on_targets(sources: SourceReports, ax: "Axes | None" = None) -> "Figure":
    """Draw the held-out errors of several sources and of their controls on the same targets.

    Up to three sources are panels with one order of the targets. More are a table of the differences between source
    and control.

    Args:
        sources: Reports of each source and of its control, on the same targets.
        ax: Axes to draw the table of four or more sources on. None for a new figure.

    Raises:
        UsageError: If there is no source, the sources are not of the same targets, or two or three sources are to be
            drawn on one pair of axes.
    """
    frame = _sources_frame(sources)
    compared = frame[frame["group"] != NOT_COMPARED]
    title = f"Held-out errors of {len(sources)} sources"
    if len(compared):
        title = _differences_title(compared, None, "for any source and target", "pairs of source and target")
    if len(sources) > PANELS:
        return _draw_table(title, frame, ax)
    if ax is not None:
        raise UsageError(f"{len(sources)} sources have a panel each, so they cannot be drawn on one pair of axes.")
    return _draw_panels(title, frame)


def _sources_frame(sources: SourceReports) -> pd.DataFrame:
    """Return the marks of all sources, with the targets in one order: by mean difference, and then by mean error."""
    if not sources:
        raise UsageError("There is no source to draw. At least one is needed.")
    parts = [targets_frame(*reports).assign(source=name) for name, reports in sources.items()]
    if any(set(part["target"]) != set(parts[0]["target"]) for part in parts):
        raise UsageError("The sources are not of the same targets. Expected one report for each source and target.")
    frame = pd.concat(parts, ignore_index=True)
    means = (
        frame[frame["series"] == "pretrained"]
        .fillna({"difference": 0.0})
        .groupby("target")[["difference", "value"]]
        .mean()
    )
    order = {target: row for row, target in enumerate(means.sort_values(["difference", "value"]).index)}
    frame["row"] = frame["target"].map(order)
    return pd.concat([part.sort_values("row", kind="stable") for _, part in frame.groupby("source", sort=False)])


def _draw_panels(title: str, frame: pd.DataFrame) -> "Figure":
    n_targets = frame["row"].nunique()
    subtitle = (
        "Held-out error of the best map. Filled circles: source. Open diamonds: its control. Vertical marks: majority "
        "class. The difference is on the right, in bold if it is significant."
    )
    sources = list(dict.fromkeys(frame["source"]))
    axes = panels(title, subtitle, 0.9 + ROW * n_targets, len(sources), len(sources))
    names = fit_names(sources, "source", 5.3 / len(sources), 9.5, bold=True)
    for one, name, source in zip(axes, names, sources, strict=True):
        part = frame[frame["source"] == source]
        part = part.assign(y=0.5 + part["row"])
        style_axes(one, "x")
        one.set(xlim=(0, 1), ylim=(n_targets, 0), yticks=[])
        one.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        one.set_title(name, loc="left", size=9.5, weight="bold", color=Ink.TITLE)
        _draw_targets(one, part, 40)
        if one is axes[0]:
            _write_targets(one, part)
    figure = figure_of(axes[0])
    figure.supxlabel(AXIS_LABEL, size=8.5)
    return figure


def _draw_table(title: str, frame: pd.DataFrame, ax: "Axes | None") -> "Figure":
    """Draw a grid with a row for each source and a column for each target, colored by the difference."""
    subtitle = "Held-out error minus that of the control, negative where the source is better. Bold: significant."
    marks = frame.drop_duplicates(["source", "target"])
    sources, targets = (list(dict.fromkeys(marks[name])) for name in ("source", "target"))
    values, groups = (
        marks.pivot(index="source", columns="target", values=name).loc[sources, targets]
        for name in ("difference", "group")
    )
    axes = panel(title, subtitle, 0.8 + 0.27 * len(sources), ax)
    values.index = fit_names(sources, "source", NAME_SPACE + 0.3, 9)
    values.columns = fit_names(targets, "target", 1.1, 8)
    texts = values.map(format_difference)
    draw_grid(axes, values, DIFFERENCES, (-1, 1), texts, groups == SIGNIFICANT, names_above=30)
    return figure_of(axes)
