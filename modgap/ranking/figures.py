"""Figures of a ranking: which sources are best, which cannot be separated, and how the error depends on the layer."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter, MaxNLocator, ScalarFormatter
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from modgap.answers.figures.files import ResultFigure, result_figure
from modgap.answers.figures.grid import RANKS, draw_grid
from modgap.answers.figures.intervals import interval_columns, tidy_frame
from modgap.answers.figures.labels import beside, label_marks, write_names
from modgap.answers.figures.lines import draw_lines, label_lines, line_panel
from modgap.answers.figures.rows import draw_group_bars, draw_marks, draw_reference, draw_ticks, row_panel
from modgap.answers.figures.style import (
    SERIES,
    Ink,
    Series,
    figure_of,
    fit_names,
    name_in_title,
    size_in_inches,
    styled,
    text_width,
    title_lines,
)
from modgap.answers.formatting import format_p_value, format_value
from modgap.errors import InputError, count
from modgap.ranking.answer import first_ties, format_interval, format_score
from modgap.ranking.check_sentences import join_names, score_label
from modgap.ranking.checks import BASELINE_SCORES, CONTROL_WORSE, compare_baseline, control_index, sources_compared
from modgap.ranking.judgment import judge
from modgap.ranking.layers import JUDGED_BY, layer_finding
from modgap.ranking.recommendation import headline
from modgap.ranking.scores import get_score, shown_score
from modgap.ranking.target_summary import reference_value
from modgap.ranking.types import BASELINE, LayerCurve, Ranking
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL, similar_groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 20
"""Number of sources up to which all sources have a row."""
MOST_ROWS_OF_TIES = 30
"""Number of rows if more sources are not significantly different from the first."""
MOST_SCORES = 10
MOST_CAPTION_VALUES = 20
NAME_SPACE = 1.72
HEAD = 0.42
"""Space above the first row for the names of the marks, in inches."""
REFERENCE_NAMES = {
    "no information": "value of a source that gives no information about the labels",
    "chance level": "chance level",
    "majority class": "error of always predicting the majority class",
}
MOST_LANES = 4
"""Number of bars side by side; further bars are left out."""
ROW, DENSE_ROW = 0.34, 0.205
"""Heights of rows in inches."""
MOST_TALL_ROWS = 12
MOST_WIDE_CELLS = 7
SLANT = 50
NOTE = ("not significantly better", "than random weights")
LARGE_NUMBER = 10_000
OTHER_SERIES = Series(Ink.FAINT_CONTROL, Ink.SECONDARY, "o")
"""The style of all curves of layers after the first four."""


def figure_title(ranking: Ranking) -> str:
    """Return the headline of the ranking, with names as titles show them.

    If it needs more than two lines, as with long names, its first sentence is the title: three lines are too many.
    """
    title = headline(judge(ranking), lambda name: name_in_title(name, "source")).removesuffix(".")
    title = title.replace(" %", "\N{NO-BREAK SPACE}%")
    return title if len(title_lines(title)) < 3 else title.partition(". ")[0]


def ranking_frame(ranking: Ranking) -> pd.DataFrame:
    """Return the marks of the figure of a ranking: each source that has a value, best first, and its control.

    `row` is the number of the row from the top, and `index` is the index of the source in the ranking. `beats_control`
    tells whether the source is significantly better than its control, corrected for the number of sources; it is None
    if it is unknown. `ties_with_first` is true for the first and for sources that do not differ significantly from it.
    Baselines that have a value follow, best first.
    """
    table = ranking.deciding_table
    ties = first_ties(table) or set(np.flatnonzero(table.source_ranks == 1).tolist())
    values = table.standings.values
    indices = [index for index in ranking.order() if table.source_ranks[index] and np.isfinite(values[index])]
    marks = []
    for row, index in enumerate(indices):
        control = control_index(ranking, index)
        if control is not None and not np.isfinite(values[control]):
            control = None
        about = {"name": ranking.rows[index].name, "row": row, "index": index, "ties_with_first": index in ties}
        beats = None
        if control is not None and np.isfinite(table.standings.win_probabilities[index, control]):
            beats = compare_baseline(table, index, control, sources_compared(table)).result == CONTROL_WORSE
        about["beats_control"] = beats
        marks.append({"series": "pretrained", **_value_columns(ranking, index), **about})
        if control is not None:
            marks.append({"series": "random weights", **_value_columns(ranking, control), **about})
    baselines = [i for i in ranking.order() if ranking.rows[i].kind == BASELINE and np.isfinite(values[i])]
    for row, index in enumerate(baselines, start=len(indices)):
        about = {"name": ranking.rows[index].name, "row": row, "index": index, "ties_with_first": False}
        marks.append({"series": BASELINE, **_value_columns(ranking, index), "beats_control": None, **about})
    return tidy_frame(marks)


def _value_columns(ranking: Ranking, index: int) -> dict[str, float]:
    standings = ranking.deciding_table.standings
    return interval_columns(float(standings.values[index]), standings.interval(index))


@styled
def ranking_figure(ranking: Ranking, ax: "Axes | None" = None) -> "Figure":
    """Draw a ranking with one row for each source, best at the top, and its ranks by other scores at the right.

    Sources without a value are left out. With more than 20 sources, the others are marks in one row.

    Args:
        ranking: A ranking in which at least one source has a value.
        ax: Axes to draw on. None for a new figure.
    """
    frame = ranking_frame(ranking)
    sources = frame[frame["series"] == "pretrained"]
    # The sources with a row each; the others are marks in one row.
    last_tie = int(sources.loc[sources["ties_with_first"], "row"].max())
    n_rows = min(len(sources), max(MOST_ROWS, min(MOST_ROWS_OF_TIES, last_tie + 1)))
    baselines = frame[frame["series"] == BASELINE]
    shown = frame[frame["row"] < n_rows].drop(baselines.index, errors="ignore")
    rest = sources[sources["row"] >= n_rows]
    is_tall = n_rows <= MOST_TALL_ROWS
    groups = similar_rows(ranking, sources["index"].tolist()[:n_rows])
    subtitle = figure_subtitle(ranking, n_rows, len(sources), bool(groups))
    score = ranking.deciding_table
    label = f"{score_name(score.name)}; {'higher' if score.higher_is_better else 'lower'} is better"
    first_baseline = n_rows + (1.3 if len(rest) else 0.2)
    rows = first_baseline + len(baselines) - (0 if len(rest) else 0.1)
    scores = other_scores(ranking)
    above = max((0.8 * text_width(name, 8) for name in scores), default=0.0)
    row_height = ROW if is_tall else DENSE_ROW
    axes = row_panel(figure_title(ranking), subtitle, label, rows, row_height, HEAD, ax, max(0.0, above - HEAD / 2))
    _draw_sources(axes, shown, is_tall)
    distance = draw_group_bars(axes, groups, MOST_LANES)
    _draw_names(axes, sources, n_rows, distance)
    if len(rest):
        draw_ticks(axes, rest.assign(y=n_rows + 0.7), "value", 0.4, colors=Ink.SOURCE, linewidth=1)
    if len(baselines):
        baselines = baselines.assign(y=first_baseline + 0.5 + np.arange(len(baselines)), mark="baseline")
        draw_marks(axes, baselines, 7 if is_tall else 5.5, 2.2)
        write_names(
            axes, baselines["y"], fit_names(list(baselines["name"]), "source", NAME_SPACE, 9), -distance, size=9
        )
    if scores:
        _draw_ranks(axes, ranking, scores, sources["index"].tolist()[:n_rows])
    _set_axis(axes, ranking, frame)
    _label_series(axes, ranking, shown)
    if is_tall:
        _write_note(axes, shown)
    return figure_of(axes)


def _draw_sources(axes: "Axes", shown: pd.DataFrame, is_tall: bool) -> None:
    """Draw the sources and, a little lower in the same rows, their controls."""
    is_control = shown["series"] == "random weights"
    has_control = shown["name"].isin(shown.loc[is_control, "name"])
    shift = np.where(is_control, 0.26, -0.09) * (has_control & is_tall)
    is_open = shown["beats_control"].map(lambda beats: beats is False)
    marks = np.where(is_control, "faint control", np.where(is_open, "open source", "source"))
    shown = shown.assign(y=shown["row"] + 0.5 + shift, mark=marks)
    if not is_tall:
        shown.loc[is_control, ["low", "high"]] = np.nan
    draw_marks(axes, shown, 7 if is_tall else 5.5, 2.2)


def _draw_names(axes: "Axes", sources: pd.DataFrame, n_rows: int, points: float) -> None:
    """Write the names of the sources at a distance from the axes, in bold for those that tie with the first."""
    shown = sources[:n_rows].reset_index()
    names = fit_names(list(shown["name"]), "source", NAME_SPACE, 9, bold=True)
    write_names(axes, shown["row"] + 0.5, names, -points, bold=set(shown.index[shown["ties_with_first"]]), size=9)
    if n_rows < len(sources):
        text = count(len(sources) - n_rows, "more source")
        beside(axes, n_rows + 0.7, text, -points, size=9, style="italic", color=Ink.SECONDARY)


def _draw_ranks(axes: "Axes", ranking: Ranking, scores: Sequence[str], indices: Sequence[int]) -> None:
    """Draw the ranks by other scores as cells right of the axes, in the same rows."""
    ranks = pd.DataFrame({name: ranking.tables[name].source_ranks[list(indices)] for name in scores})
    bottom, top = axes.get_ylim()
    inches = figure_of(axes).dpi_scale_trans + ScaledTranslation(1, 0, axes.transAxes)  # type: ignore[arg-type]
    width = (0.2 if len(scores) > MOST_WIDE_CELLS else 0.24) * len(scores)
    low = (bottom - len(indices)) / (bottom - top)
    bounds = (0.3, low, width, len(indices) / (bottom - top))
    strip = axes.inset_axes(bounds, transform=blended_transform_factory(inches, axes.transAxes))
    texts = ranks.map(lambda rank: f"{rank}" if rank else "–")
    draw_grid(strip, ranks.clip(upper=4), RANKS, (-0.5, 4.5), texts, ranks == 1, names_above=SLANT, yticklabels=False)
    # The layout leaves space for texts, but before Matplotlib 3.11.2 not for the width of a label of inset axes.
    title = "rank by other scores" if width > 1.25 else "rank by\nother scores"
    strip.annotate(
        title, (0.5, 0), (0, -4), xycoords="axes fraction", textcoords="offset points", ha="center", va="top", size=8
    )


def _set_axis(axes: "Axes", ranking: Ranking, frame: pd.DataFrame) -> None:
    """Set limits and ticks of the score, and draw the value of a source without information as a line."""
    reference = reference_value(ranking.deciding_table.name, ranking.target)
    columns = frame[["value", "low", "high"]].to_numpy(float)
    values = [*columns[np.isfinite(columns)], *([reference[1]] if reference else [])]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.1 * abs(low) or 1.0
    axes.set_xlim(low - margin, high + margin)
    if reference:
        draw_reference(axes, reference[1])
    width, _ = size_in_inches(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=max(2, int(width / 0.65)), steps=[1, 2, 5, 10]))
    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if abs(high) >= LARGE_NUMBER else formatter)


def _label_series(axes: "Axes", ranking: Ranking, shown: pd.DataFrame) -> None:
    """Write the names of the marks above the first row."""
    first = shown.drop_duplicates("series").set_index("series")["value"]
    labels = [(first["pretrained"], "pretrained", Ink.SOURCE, True)]
    if "random weights" in first:
        labels.append((first["random weights"], "random weights", Ink.SECONDARY, False))
    if reference := reference_value(ranking.deciding_table.name, ranking.target):
        name, value = reference
        labels.append((value, name, Ink.SECONDARY, False))
    _, top = axes.get_ylim()
    label_marks(axes, top * 0.1 / HEAD, labels)


def _write_note(axes: "Axes", shown: pd.DataFrame) -> None:
    """Explain the first open circle beside it, if there is room."""
    low, high = axes.get_xlim()
    unit = (high - low) / size_in_inches(axes)[0]
    space = (max(text_width(line, 8) for line in NOTE) + 0.14) * unit
    for _, marks in shown[shown["beats_control"].map(lambda beats: beats is False)].groupby("row"):
        ends = marks[["value", "low", "high"]].to_numpy()
        left, right = float(np.nanmin(ends)), float(np.nanmax(ends))
        x, side = (left - 0.12 * unit, "right") if left - space > low else (right + 0.12 * unit, "left")
        if side == "right" or right + space < high:
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            style: dict[str, Any] = {"size": 8, "color": Ink.ERROR_TEXT, "linespacing": 1.0, "bbox": box}
            axes.text(x, marks["row"].iloc[0] + 0.5, "\n".join(NOTE), ha=side, va="center", **style)
            return


def similar_rows(ranking: Ranking, indices: Sequence[int]) -> list[list[int]]:
    """Return the rows of each group of two or more sources of which no two differ significantly.

    Args:
        ranking: The ranking.
        indices: Index of the source of each row, best first.
    """
    standings = ranking.deciding_table.among_sources
    is_tied = np.array([np.isin(indices, standings.tied_with(index)) for index in indices])
    groups = similar_groups(~(is_tied | np.eye(len(indices), dtype=bool)))
    return [group for group in groups or () if len(group) > 1]


def other_scores(ranking: Ranking) -> list[str]:
    """Return the names of the other scores whose ranks are shown: those of several sources, at most ten."""
    names = [
        name
        for name, table in ranking.tables.items()
        if name != ranking.deciding_table.name and name not in BASELINE_SCORES and sources_compared(table) > 1
    ]
    if len(names) > MOST_SCORES:
        names = [name for name in names if get_score(name).default]
    return names[:MOST_SCORES]


def figure_subtitle(ranking: Ranking, n_rows: int, n_sources: int, has_groups: bool) -> str:
    """Return what was measured, on what, and with how many samples.

    Args:
        ranking: The ranking.
        n_rows: Number of sources that have a row each.
        n_sources: Number of sources with a value.
        has_groups: True if bars join sources that are not significantly different.
    """
    target = ranking.target
    where = f" on {name_in_title(target.name, 'target')} (N = {_samples(ranking):,})" if target else ""
    has_intervals = bool(np.isfinite(ranking.deciding_table.standings.intervals).any())
    intervals = ", 95 % intervals" if has_intervals else ""
    by = ranking.deciding_table.name
    name = score_name(by)
    measured = f"Score: {name}" if name == by else f"{name[0].upper()}{name[1:]}"
    sentences = [f"{measured}{where}{intervals}."]
    if has_groups:
        sentences.append("Bars join sources that are not significantly different.")
    if n_rows < n_sources:
        is_one = n_rows + 1 == n_sources
        sentences.append(
            f"Source {n_sources:,} has a row without its name."
            if is_one
            else f"Sources {n_rows + 1} to {n_sources:,} share one row."
        )
    check = judge(ranking).check("baseline")
    if check and check.values["score"] != by:
        shown = {name: name_in_title(check.values[name], "source") for name in ("baseline", "best_source")}
        sentences.append(
            f"In cross-validation, the baseline {shown['baseline']} has an error of "
            f"{format_value(check.values['value'])}, and the linear probe of {shown['best_source']} "
            f"{format_value(check.values['best_value'])}."
        )
    return " ".join(sentences)


def _samples(ranking: Ranking) -> int:
    """Return the number of samples that the values of the figure come from."""
    if ranking.pilot is not None and ranking.deciding_table is ranking.pilot.table:
        return ranking.pilot.judged
    return ranking.target.samples if ranking.target else 0


def score_name(name: str) -> str:
    """Return the name of a score on axes and in sentences."""
    return {
        "discrepancy": "held-out error",
        "soft": "soft held-out error",
        "knn": "k-NN error",
        "linear-probe": "linear-probe error",
    }.get(name) or score_label(name)


def ranking_caption(ranking: Ranking) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    frame = ranking_frame(ranking)
    sources, controls = (frame[frame["series"] == name] for name in ("pretrained", "random weights"))
    target = ranking.target
    samples = f" on {target.name} (N = {_samples(ranking):,}, K = {target.classes:,})" if target else ""
    score = shown_score(ranking.deciding_table.name)
    by_sample = ranking.deciding_table.by_sample
    origin = "paired errors of the samples" if by_sample else f"{ranking.request.resamples} subsamples"
    has_intervals = np.isfinite(ranking.deciding_table.standings.intervals).any()
    lines = f" Lines are 95 % intervals from {origin}." if has_intervals else ""
    sentences = [
        f"{len(sources):,} sources ranked by {score_label(score.name)}{samples}: {score.title} ({score.direction}).",
        f"Blue circles are pretrained sources.{lines}",
        "An open circle marks a source that is not significantly better than its random-weights control.",
    ]
    if len(controls):
        sentences.append("Gray diamonds are the same architectures with random weights (one random initialization).")
    sentences += [
        "A black bar joins sources no two of which differ significantly at the 95 % level, corrected for the number of "
        "all pairs (Holm). It is thin beside sources that do not belong to it.",
    ]
    if reference := reference_value(ranking.deciding_table.name, ranking.target):
        name, value = reference
        sentences.append(f"The dashed line is the {REFERENCE_NAMES[name]}, {value:.3f}.")
    if baselines := frame[frame["series"] == BASELINE].to_dict("records"):
        shown = "; ".join(_value_phrase(row, None) for row in baselines)
        sentences.append(f"Squares are baselines of the field, without pretraining: {shown}.")
    if scores := other_scores(ranking):
        sentences.append(f"The table on the right gives the rank among the sources by {', '.join(scores)} (1 is best).")
    by_row = controls.set_index("row")["value"]
    values = [_value_phrase(row, by_row.get(row["row"])) for row in sources[:MOST_CAPTION_VALUES].to_dict("records")]
    sentences.append(f"Values: {'; '.join(values)}.")
    if len(sources) > len(values):
        sentences.append("The complete table is in ranking.csv.")
    return " ".join(sentences)


def _value_phrase(row: dict[str, Any], control: float | None) -> str:
    interval = "" if np.isnan(row["low"]) else f" ({format_interval((row['low'], row['high']))})"
    baseline = "" if control is None else f", random weights {format_score(control)}"
    return f"{row['name']} {format_score(row['value'])}{interval}{baseline}"


def layer_frame(ranking: Ranking) -> pd.DataFrame:
    """Return the points of the figure of layers: one row for each source and layer, with the depth in percent.

    Raises:
        InputError: If no source has the errors of two layers.
    """
    rows = []
    for curve in drawn_curves(ranking):
        intervals = curve.intervals or [None] * len(curve.numbers)
        for number, value, interval in zip(curve.numbers, curve.values[JUDGED_BY], intervals, strict=True):
            about = {"series": curve.source, "layer": number, "depth": 100 * number / curve.n_layers}
            rows.append(about | interval_columns(value, interval))
    return tidy_frame(rows)


@styled
def layer_figure(ranking: Ranking, ax: "Axes | None" = None) -> "Figure":
    """Draw one curve for each source: the error of a linear probe by the depth of the layer.

    The title is what the layers show. The headline of the ranking says which source to choose, by scores that are not
    drawn here, and it is the title of the figure of the ranking.

    Args:
        ranking: A ranking with layers.
        ax: Axes to draw on. None for a new figure.

    Raises:
        InputError: If no source has the errors of two layers.
    """
    import seaborn

    frame = layer_frame(ranking)
    target = ranking.target
    assert target is not None
    subtitle = (
        "Error of a linear probe by the depth of the layer whose features it sees; 100 % is the output of the encoder. "
        "A ring marks the layer with the lowest error."
    )
    title = f"On {name_in_title(target.name, 'target')}, {layer_finding(drawn_curves(ranking))}"
    axes = line_panel(title, subtitle, 2.4, ax, xlabel="depth of the layer", ylabel="error of a linear probe")
    sources = list(dict.fromkeys(frame["series"]))
    styles = {name: SERIES[number] if number < len(SERIES) else OTHER_SERIES for number, name in enumerate(sources)}
    draw_lines(axes, frame, "depth", styles)
    rings = frame.loc[frame.groupby("series", sort=False)["value"].idxmin()]
    colors = [styles[name].color for name in rings["series"]]
    seaborn.scatterplot(
        data=rings, x="depth", y="value", s=120, facecolor="none", edgecolor=colors, linewidth=1.4, zorder=5, ax=axes
    )
    axes.set(xlim=(0, 103), ylim=(0, 1.05 * float(np.nanmax(frame[["value", "high"]]))))
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.yaxis.set_major_locator(MaxNLocator(5))
    label_lines(axes, frame, styles, "source", 1.65)
    return figure_of(axes)


def drawn_curves(ranking: Ranking) -> list[LayerCurve]:
    """Return the curves with the errors of two or more layers.

    Raises:
        InputError: If there is none.
    """
    curves = [curve for curve in ranking.layers if _is_drawable(curve)]
    if not curves:
        raise InputError("No source has the errors of two layers, so there is nothing to draw.")
    return curves


def _is_drawable(curve: LayerCurve) -> bool:
    values = curve.values.get(JUDGED_BY, ())
    return len(values) > 1 and bool(np.isfinite(values).all())


def layer_caption(ranking: Ranking) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    target = ranking.target
    assert target is not None
    curves = drawn_curves(ranking)
    sentences = [
        f"Error of a linear probe (five-fold cross-validation) on the features of the layers of "
        f"{join_names([curve.source for curve in curves])} on {target.name} ({target.samples:,} samples, "
        f"{target.classes:,} classes). Features are means over tokens or positions. Bands are 95 % intervals."
    ]
    for curve in curves:
        if choice := curve.choice:
            p_value = choice.corrected_p_value
            shown = "" if p_value is None else f", p {format_p_value(p_value)}"
            sentences.append(
                f"{curve.source}: layers chosen on one half of the samples have the error {choice.error:.3f} on the "
                f"other half, and the last layer {choice.last_error:.3f} (difference {choice.difference.value:+.3f}"
                f"{shown})."
            )
    sentences.append(
        f"Differences with p <= {SIGNIFICANCE_LEVEL} count as significant; p is corrected for the sources (Holm)."
    )
    return " ".join(sentences)


def planned_figures(ranking: Ranking) -> Iterator[ResultFigure]:
    """Yield the figure of the ranking if any source has a score, and that of the layers if there are any."""
    if (ranking.deciding_table.source_ranks > 0).any():
        yield result_figure("ranking", ranking, ranking_frame, ranking_figure, ranking_caption)
    if any(map(_is_drawable, ranking.layers)):
        yield result_figure("layers", ranking, layer_frame, layer_figure, layer_caption)
