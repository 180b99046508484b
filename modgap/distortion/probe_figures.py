"""Figures of probes: the error before and after fine-tuning by target, epochs and method, and with few samples."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from modgap.answers.figures.files import ResultFigure, result_figure
from modgap.answers.figures.intervals import interval_columns, tidy_frame
from modgap.answers.figures.labels import beside, write_names
from modgap.answers.figures.lines import draw_lines, label_lines, line_panel, log_axis
from modgap.answers.figures.rows import draw_marks, draw_reference, row_panel
from modgap.answers.figures.style import (
    BASELINE_STYLE,
    SERIES,
    Ink,
    Series,
    figure_of,
    fit_names,
    name_in_title,
    panel,
    panels,
    style_axes,
    styled,
)
from modgap.answers.formatting import format_difference
from modgap.distortion.grid import GridCell, display_name, grid_cells, starts_from_source
from modgap.distortion.measurement import EncoderResult, SurrogateResult
from modgap.distortion.probe_cross_validation import FewShotCurve
from modgap.errors import UsageError
from modgap.statistics.intervals import degrees_of_freedom
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL, holm
from modgap.statistics.paired import paired_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
PANEL_HEIGHT = 2.45
"""Height of a panel with its title and its horizontal axis, in inches."""
NAME_SPACE = 1.9
ROW = 0.27
HEADING = 1.25
"""Height of the heading of a target, in rows."""
SMALL = 0.01
"""Difference of errors below which all are printed with three decimals."""
COUNTED = "whose error is significantly higher than that of the source, corrected for their number by Holm"
GRAY = Series(Ink.AXIS, Ink.SECONDARY, "", 1.0)
TITLE_SERIES = Series(Ink.ERROR, Ink.ERROR_TEXT, "o", 2.4)
COLORED = (Series(Ink.TITLE, Ink.TITLE, "s", 1.5), Series(Ink.SOURCE, Ink.SOURCE, "^", 1.5))
"""Styles of the methods beside the one of the title."""
CONTROL_SERIES = Series(Ink.CONTROL, Ink.TEXT, "D", is_open=True)
"""The style of a source that was not fine-tuned, such as one with random weights."""
WIDEST_LABEL = 2.8
"""Space for the widest name in inches; a longer name is cut."""
FAR = 2.0
"""Multiple of the highest error from which the majority-class baseline is not drawn."""
SHIFT = 0.09
"""Distance of two marks of the same epoch, where the distance of two epochs is 1."""


def probe_frame(result: SurrogateResult) -> pd.DataFrame:
    """Return the marks of the figure of probes: one row for each target, method (`series`) and number of epochs.

    Epoch 0 is the source before fine-tuning. Targets are sorted by the largest error after the last epoch, and the
    methods of each target by this error. `is_worse` tells whether the error is significantly higher than before.

    Raises:
        UsageError: When no encoder was trained by a run.
    """
    cells = _drawn_cells(result)
    if not cells:
        raise UsageError("There is no run to draw. Pass at least one with `runs`.")
    rows = []
    for cell in cells:
        about = {"target": cell.target, "series": cell.method, "is_worse": _raises_error(result, cell)}
        rows.append({**about, "epoch": cell.epoch, **interval_columns(cell.mean, cell.interval)})
    ends = interval_columns(_error_before(result), None)
    before = [{**row, "is_worse": False, "epoch": 0, **ends} for row in rows]
    last = _last_means(tidy_frame(rows))
    largest = last.groupby("target").max()
    order = {pair: (-largest[pair[0]], -last[pair]) for pair in last.index}
    rows = sorted([*before, *rows], key=lambda row: (*order[row["target"], row["series"]], row["epoch"]))
    return tidy_frame(rows).drop_duplicates(["target", "series", "epoch"], ignore_index=True)


@styled
def probe_figure(result: SurrogateResult, ax: "Axes | None" = None) -> "Figure":
    """Draw the error of the first probe before and after fine-tuning, with one panel for each target.

    Lines are means over seeds with 95 % intervals. The dashed line is the source before fine-tuning. If each method has
    one epoch on each target, it has a row instead of a line.

    Args:
        result: Results of the encoders on one surrogate.
        ax: Axes to draw on, if there is one target, or one epoch for each method. None for a new figure.

    Raises:
        UsageError: When no encoder was trained by a run, or several panels are to be drawn on one pair of axes.
    """
    frame = probe_frame(result)
    targets = list(dict.fromkeys(frame["target"]))
    worst = _method_with_largest_loss(result, frame)
    title = _title(result, worst, targets)
    epochs = sorted(set(frame["epoch"]) - {0})
    subtitle = _subtitle(result, epochs)
    if _has_one_epoch(frame):
        return _draw_dumbbells(title, subtitle, frame, worst, ax)
    if ax is not None and len(targets) > 1:
        raise UsageError(f"{len(targets)} targets have a panel each, so they cannot be drawn on one pair of axes.")
    columns = min(COLUMNS, len(targets))
    height = PANEL_HEIGHT * -(-len(targets) // columns)
    one_panel = None if ax is None else [panel(title, subtitle, height, ax)]
    axes = one_panel or panels(title, subtitle, height, len(targets), columns, sharey=True)
    styles = _styles(frame, worst)
    low, high = _limits(frame)
    names = fit_names(targets, "target", 6.0 / columns - 0.4, 9.5, bold=True)
    for number, (one, target, name) in enumerate(zip(axes, targets, names, strict=True)):
        style_axes(one, "y")
        part = frame[frame["target"] == target]
        part = part.assign(position=part["epoch"].map([0, *epochs].index) + _shifts(part, styles))
        _draw_panel(one, part, styles)
        one.set(xlim=(-0.3, len(epochs) + 0.25), ylim=(low - 0.2 * (high - low), high + 0.16 * (high - low)), xlabel="")
        one.set_xticks(range(len(epochs) + 1), ["0", *map(str, epochs)])
        one.set_ylabel("error" if number % columns == 0 else "")
        if ax is None:
            one.set_title(name, loc="left", fontsize=9.5, fontweight="bold", color=Ink.TITLE, pad=5)
    axes[0].yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    before = _error_before(result)
    axes[0].text(-0.2, before - 0.08 * (high - low), f"before: {before:.3f}", va="center", size=8, color=Ink.SECONDARY)
    (figure_of(axes[0]).supxlabel if ax is None else ax.set_xlabel)("epochs of fine-tuning", size=8.5)
    # A method without a run on the last target of the first row is labeled as on another target.
    target = targets[columns - 1]
    label_lines(axes[columns - 1], pd.concat([frame, frame[frame["target"] == target]]), styles, "method", 0.95)
    return figure_of(axes[0])


def _shifts(part: pd.DataFrame, styles: Mapping[str, Series]) -> "pd.Series[float]":
    """Return how far marks with intervals are moved along the axis of epochs, so that they do not hide each other."""
    named = [name for name, style in styles.items() if style.marker]
    shifts = {name: SHIFT * (number - (len(named) - 1) / 2) for number, name in enumerate(named)}
    return part["series"].map(shifts).fillna(0.0) * (part["epoch"] > 0)


def _draw_panel(axes: "Axes", part: pd.DataFrame, styles: Mapping[str, Series]) -> None:
    """Draw the lines of one target, and the last value of the method of the title."""
    axes.axhline(part.loc[part["epoch"] == 0, "value"].iloc[0], **BASELINE_STYLE)
    draw_lines(axes, part, "position", styles, band=False)
    for _, line in part.groupby("series"):
        last = line.iloc[-1]
        if styles[last["series"]] is TITLE_SERIES:
            top = (last["position"], np.nanmax([last["value"], last["high"]]))
            style: dict[str, Any] = {"size": 9, "weight": "bold", "color": Ink.ERROR_TEXT, "ha": "right"}
            axes.annotate(f"{last['value']:.2f}", top, (5, 4), textcoords="offset points", **style)


def _draw_dumbbells(title: str, subtitle: str, frame: pd.DataFrame, worst: str | None, ax: "Axes | None") -> "Figure":
    """Draw one row for each method and target, with a line from the error before to the error after fine-tuning."""
    before = float(frame.loc[frame["epoch"] == 0, "value"].iloc[0])
    rows = frame[frame["epoch"] > 0].reset_index(drop=True)
    number = (rows["target"] != rows["target"].shift()).cumsum()
    rows["y"] = np.arange(len(rows)) + 0.5 + HEADING * number
    is_error = (rows["series"] == worst) | ((worst is None) & rows["is_worse"])
    kinds = np.where(is_error, "error", "source")
    rows["mark"] = np.where(rows["is_worse"], kinds, np.char.add("open ", kinds.astype(str)))
    label = "probe error (95 % intervals); lower is better"
    axes = row_panel(title, subtitle, label, rows["y"].iloc[-1] + 0.7, ROW, 0.2, ax)
    low, high = _limits(frame)
    axes.set_xlim(max(0.0, low - 0.08 * (high - low)), high + 0.08 * (high - low))
    draw_reference(axes, before)
    colors = [Ink.ERROR if one else Ink.SOURCE for one in is_error]
    axes.hlines(rows["y"], before, rows["value"], colors=colors, linewidth=5, alpha=0.2, zorder=2)
    draw_marks(axes, rows, 6, 1.8)
    decimals = 2 if (rows["value"] - before).abs().max() >= SMALL else 3
    side = "left" if before < sum(axes.get_xlim()) / 2 else "right"
    text = f" before fine-tuning {before:.{decimals}f} "
    axes.text(before, -0.35, text, ha=side, va="center", size=8, color=Ink.SECONDARY)
    _write_dumbbells(axes, rows, before, decimals)
    return figure_of(axes)


def _write_dumbbells(axes: "Axes", rows: pd.DataFrame, before: float, decimals: int) -> None:
    """Write the targets as headings, the methods at the left, and the differences at the right."""
    targets = rows.drop_duplicates("target")
    headings = fit_names(list(targets["target"]), "target", NAME_SPACE, 9.5, bold=True)
    write_names(axes, targets["y"] - 1, headings, bold=range(len(targets)), size=9.5)
    write_names(axes, rows["y"], fit_names(list(rows["series"]), "method", NAME_SPACE, 8.5, bold=True))
    right: dict[str, Any] = {"points": 58, "right": True, "ha": "right"}
    beside(axes, -0.35, "difference", **right, weight="bold")
    for row in rows.itertuples():
        color = Ink.ERROR_TEXT if "error" in row.mark else Ink.SOURCE if row.is_worse else Ink.SECONDARY
        difference = round(round(row.value, decimals) - round(before, decimals), decimals)
        text = format_difference(difference, decimals)
        beside(axes, row.y, text, **right, color=color, weight="bold" if row.is_worse else "normal")


def _limits(frame: pd.DataFrame) -> tuple[float, float]:
    """Return the lowest and the highest end of all marks."""
    ends = frame[["value", "low", "high"]].to_numpy(float)
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    return low, high if high > low else low + 0.1


def _error_before(result: SurrogateResult) -> float:
    return result.encoders[0].first_probe.value


def _drawn_cells(result: SurrogateResult) -> list[GridCell]:
    """Return the cells without those of training from scratch, unless there are no others."""
    cells = grid_cells(result.encoders)
    return [cell for cell in cells if starts_from_source(cell.method)] or cells


def _has_one_epoch(frame: pd.DataFrame) -> bool:
    """Return True if no method has several epochs on a target, so that there is no line to draw."""
    return not frame[frame["epoch"] > 0].duplicated(["target", "series"]).any()


def _raises_error(result: SurrogateResult, cell: GridCell) -> bool:
    """Return True if the error after fine-tuning is significantly higher than before, by `_is_higher`."""
    about = (cell.target, cell.method, cell.epoch)
    runs = [
        one
        for one in result.encoders
        if one.encoder.run is not None
        and (str(one.encoder.target), one.encoder.method, one.encoder.trained_epochs) == about
    ]
    return _is_higher(runs, result.encoders[:1])


def _is_higher(first: Sequence[EncoderResult], second: Sequence[EncoderResult]) -> bool:
    """Return True if the mean error of some seeds is significantly higher than that of others, at the 5 % level.

    Errors are paired sample by sample. The spread between seeds counts too: they share the samples, so that it alone
    would be too small.
    """
    means, spreads = [], []
    for members in (first, second):
        errors = [one.first_probe.errors for one in members]
        parts = {
            name: np.mean([getattr(one, name) for one in errors], axis=0)
            for name in ("errors", "averages", *(["without"] if errors[0].without is not None else []))
        }
        means.append(replace(errors[0], **parts))
        values = [one.first_probe.value for one in members]
        spreads.append((float(np.var(values, ddof=1)) / len(values), len(values) - 1) if values[1:] else (0.0, np.inf))
    spread = sum(variance for variance, _ in spreads)
    interval = paired_difference(means[0], means[1], spread, degrees_of_freedom(spreads)).interval
    return interval is not None and interval[0] > 0


def _last_means(frame: pd.DataFrame) -> pd.Series:
    """Return the mean error after the last epoch by target and method."""
    return frame.sort_values("epoch", kind="stable").groupby(["target", "series"], sort=False)["value"].last()


def _sort_methods(frame: pd.DataFrame) -> list[str]:
    """Return the methods, largest mean error after the last epoch first."""
    means = _last_means(frame).groupby("series", sort=False).mean()
    return [str(name) for name in means.sort_values(ascending=False, kind="stable").index]


def _method_with_largest_loss(result: SurrogateResult, frame: pd.DataFrame) -> str | None:
    """Return the method with a significantly higher error than the source and each other method on every target.

    None if there is none, or a method has one seed.
    """
    worst, *others = _sort_methods(frame)
    for target in set(frame["target"]):
        highest, *lower = (_last_runs(result, target, name) for name in (worst, *others))
        if any(len(runs) < 2 for runs in (highest, *lower)):
            return None
        if not all(_is_higher(highest, runs) for runs in (result.encoders[:1], *lower)):
            return None
    return worst if others else None


def _last_runs(result: SurrogateResult, target: str, method: str) -> list[EncoderResult]:
    """Return the encoder after the last epoch of each seed."""
    runs = [
        encoder
        for encoder in result.encoders
        if encoder.encoder.run is not None and encoder.encoder.target == target and encoder.encoder.method == method
    ]
    runs.sort(key=lambda run: run.encoder.trained_epochs or 0)
    return list({run.encoder.seed: run for run in runs}.values())


def _title(result: SurrogateResult, worst: str | None, targets: Sequence[str]) -> str:
    if not any(starts_from_source(cell.method) for cell in _drawn_cells(result)):
        return "Encoders that were trained from scratch have no source knowledge to lose"
    if worst:
        where = name_in_title(targets[0], "target") if len(targets) == 1 else f"all {len(targets)} targets"
        return f"{name_in_title(worst, 'method')} loses the most source knowledge on {where}"
    tuned = [
        one.difference
        for one in result.encoders
        if one.encoder.run is not None and one.difference is not None and starts_from_source(one.encoder.method)
    ]
    p_values = holm([math.nan if one.p_value is None else one.p_value for one in tuned])
    n_worse = sum(p <= SIGNIFICANCE_LEVEL and one.value > 0 for p, one in zip(p_values, tuned, strict=True))
    if not n_worse:
        return "Fine-tuning does not significantly raise the probe error"
    return f"Fine-tuning raises the probe error of {n_worse} of {len(tuned)} encoders"


def _subtitle(result: SurrogateResult, epochs: Sequence[int]) -> str:
    probe = display_name(next(iter(result.encoders[0].probes)))
    numbers = " and ".join([*([", ".join(map(str, epochs[:-1]))] if epochs[1:] else []), str(epochs[-1])])
    after = f"{numbers} {'epoch' if epochs == [1] else 'epochs'}"
    surrogate = name_in_title(result.name, "surrogate")
    return f"Error of a {probe} probe on {surrogate}, before fine-tuning and after {after}."


def _styles(frame: pd.DataFrame, worst: str | None) -> dict[str, Series]:
    """Return the style of each method: that of the title, the next largest and the smallest loss, and the others."""
    others = [method for method in _sort_methods(frame) if method != worst]
    styles = dict.fromkeys(others, GRAY)
    styles |= zip(dict.fromkeys([*others[:1], *others[-1:]]), COLORED, strict=False)
    return {**styles, worst: TITLE_SERIES} if worst else styles


def probe_caption(result: SurrogateResult) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    drawn = _drawn_cells(result)
    frame = probe_frame(result)
    worst = _method_with_largest_loss(result, frame)
    probe = display_name(next(iter(result.encoders[0].probes)))
    seeds = sorted({cell.seeds for cell in drawn})
    over = "samples" if seeds == [1] else "seeds (over samples where there is one seed)" if 1 in seeds else "seeds"
    sentences = [
        f"Error of a {probe} probe on {result.name} ({result.training_samples:,} training and {result.test_samples:,} "
        f"test samples) before fine-tuning (dashed, {_error_before(result):.3f}) and after it.",
        f"Lines are means over seeds; bars are 95 % intervals over {over}.",
        "Targets are sorted by the largest error after the last epoch.",
    ]
    if _has_one_epoch(frame):
        sentences[1] = (
            f"Circles are means over seeds; lines are 95 % intervals over {over}. A filled circle is significantly "
            "worse than the source (paired by sample, with the spread between seeds)."
        )
    if worst:
        sentences.append(
            f"On every target the error of {worst} after the last epoch is significantly higher than before and than "
            "that of each other method (paired by sample, with the spread between seeds; not corrected for the number "
            "of comparisons)."
        )
    else:
        sentences.append(f"The title counts encoders {COUNTED}.")
    gray = [] if _has_one_epoch(frame) else [m for m, style in _styles(frame, worst).items() if not style.marker]
    if gray:
        sentences.append(f"Thin gray lines are {', '.join(gray)}.")
    outside = [cell.mean for cell in grid_cells(result.encoders) if cell not in drawn]
    if outside:
        sentences.append(f"Training from scratch is outside the figure: {min(outside):.3f} to {max(outside):.3f}.")
    last = {
        (cell.target, cell.method): cell.mean for cell in sorted(grid_cells(result.encoders), key=lambda one: one.epoch)
    }
    values = [f"{method} on {target} {mean:.3f}" for (target, method), mean in last.items()]
    return " ".join([*sentences, f"Errors after the last epoch: {', '.join(values)}."])


def few_shot_frame(curves: Mapping[str, FewShotCurve]) -> pd.DataFrame:
    """Return the points of few-shot curves: each mean over draws with the ends of all draws, and each draw.

    Args:
        curves: Curve of each encoder, by its label.
    """
    rows = []
    for label, curve in curves.items():
        for shots, mean, errors in zip(curve.shots.tolist(), curve.mean.tolist(), curve.errors.tolist(), strict=True):
            point = {"series": label, "shots": shots}
            rows.append({**point, "kind": "mean", **interval_columns(mean, (min(errors), max(errors)))})
            rows += [{**point, "kind": "draw", "value": error} for error in errors]
    return tidy_frame(rows)


@styled
def few_shot_figure(
    curves: Mapping[str, FewShotCurve],
    baseline_error: float,
    surrogate: str,
    other_sources: Collection[str] = (),
    ax: "Axes | None" = None,
) -> "Figure":
    """Draw one line for each encoder, the mean error over draws, on a log axis; bands span the draws.

    Args:
        curves: Curve of each encoder, by its label; the source before fine-tuning comes first.
        baseline_error: Error rate of always predicting the majority class, drawn as a dashed line.
        surrogate: Name of the surrogate, for the subtitle.
        other_sources: Labels of encoders that were not fine-tuned, or from scratch.
        ax: Axes to draw on. None for a new figure.
    """
    import seaborn

    first = next(iter(curves.values()))
    subtitle = (
        f"Error of a {display_name(first.name)} probe on {name_in_title(surrogate, 'surrogate')} with few training "
        f"samples, mean of {first.errors.shape[1]} draws. Bands span all draws."
    )
    title = f"Probe error on {name_in_title(surrogate, 'surrogate')} by samples per class"
    x = "training samples per class (log scale)"
    axes = line_panel(title, subtitle, 2.2, ax, xlabel=x, ylabel="error")
    frame = few_shot_frame(curves)
    means = frame[frame["kind"] == "mean"]
    colored = _colored(curves)
    styles = dict.fromkeys(curves, GRAY) | dict(zip(colored, SERIES, strict=False))
    styles |= {label: CONTROL_SERIES for label in colored if label in other_sources}
    draw_lines(axes, means, "shots", styles)
    draws = frame[(frame["kind"] == "draw") & frame["series"].isin(colored)]
    colors = {label: style.color for label, style in styles.items()}
    seaborn.scatterplot(
        data=draws, x="shots", y="value", hue="series", palette=colors, s=4, linewidth=0, legend=False, ax=axes
    )
    log_axis(axes, first.shots.tolist())
    highest = float(frame["value"].max())
    majority = [(baseline_error, "majority class", Ink.SECONDARY, False)] if baseline_error < FAR * highest else []
    if majority:
        axes.axhline(baseline_error, **BASELINE_STYLE)
    axes.set_ylim(0, 1.08 * max([highest, *(error for error, *_ in majority)]))
    label_lines(axes, means, styles, "encoder", WIDEST_LABEL, majority)
    return figure_of(axes)


def _colored(curves: Mapping[str, FewShotCurve]) -> list[str]:
    """Return the labels of the colored curves: all if they are up to four, or the first, the highest and the lowest."""
    if len(curves) <= len(SERIES):
        return list(curves)
    first, *others = curves
    ordered = sorted(others, key=lambda label: float(curves[label].mean[-1]))
    return [first, ordered[-1], ordered[0]]


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
        "are no intervals. The draws are the same for all encoders and share samples, so they vary too little to tell "
        "whether encoders differ.",
        f"Majority-class baseline (dashed if it is in the range of the figure): {baseline_error:.3f}.",
        f"Errors at {int(first.shots[-1]):,} samples per class: {', '.join(values)}.",
    ]
    gray = [label for label in curves if label not in _colored(curves)]
    return " ".join([*sentences, *([f"Thin gray lines are {', '.join(gray)}."] if gray else [])])


def probe_figures(results: Sequence[SurrogateResult]) -> Iterator[ResultFigure]:
    """Yield the figure of probes of each surrogate on which runs were measured."""
    with_runs = [result for result in results if grid_cells(result.encoders)]
    for result in with_runs:
        name = "probes" if len(with_runs) == 1 else f"probes-{PurePath(result.name).stem}"
        yield result_figure(name, result, probe_frame, probe_figure, probe_caption)


def few_shot_figures(result: SurrogateResult) -> Iterator[ResultFigure]:
    """Yield the figure of the few-shot curves if there are any."""
    curves = {encoder.label: encoder.few_shot for encoder in result.encoders if encoder.few_shot}
    if curves:
        few_shot = (curves, result.baseline_error, result.name)
        others = {
            one.label
            for one in result.encoders[1:]
            if not one.encoder.run or not starts_from_source(one.encoder.method)
        }
        drawing = (partial(few_shot_figure, *few_shot, others), partial(few_shot_caption, *few_shot))
        yield ResultFigure(f"few-shot-{PurePath(result.name).stem}", partial(few_shot_frame, curves), *drawing)
