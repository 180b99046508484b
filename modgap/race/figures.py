"""Figures of a race: everything that was tried by its kind, and the errors over the time that was spent."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modgap.answers.figures.files import ResultFigure, result_figure
from modgap.answers.figures.intervals import tidy_frame
from modgap.answers.figures.labels import label_marks, write_names
from modgap.answers.figures.lines import line_panel
from modgap.answers.figures.rows import draw_reference, row_panel
from modgap.answers.figures.style import Ink, figure_of, fit_names, name_in_title, styled
from modgap.errors import count
from modgap.race.labeled_data import LabeledData
from modgap.race.transfer import Race
from modgap.race.verdict import KINDS, kind_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, HEAD = 0.62, 0.3
"""Height of a row, and of the space above the first one, in inches."""
LABEL_Y, POINT_Y = 0.22, 0.6
"""Position of the label and of the points in a row, as shares of its height."""
NAME_WIDTH = 2.4
"""Space for the name of a model in inches."""
NAMES = {KINDS[0]: "baseline of the field"}
CONSTANT = "constant prediction"
MINUTES_FROM = 600
"""Seconds from which the axis of the time has minutes."""
OTHERS: dict[str, Any] = {"color": Ink.CONTROL, "alpha": 0.5, "linewidth": 0, "clip_on": False}
CHOSEN: dict[str, Any] = {"color": Ink.SOURCE, "s": 150, "linewidth": 0, "zorder": 5, "clip_on": False}
"""Styles of the points of the chosen model and of the others."""


@dataclass(frozen=True)
class DrawnRace:
    """The content of the figures of a race.

    Attributes:
        race: The race.
        labeled: Its validation errors.
        headline: Headline of its answer.
    """

    race: Race
    labeled: LabeledData
    headline: str


def race_frame(result: DrawnRace) -> pd.DataFrame:
    """Return a row for each step that has an error: its model, kind, validation error and seconds, and if it won.

    Errors are in percent, but for values and for labels.
    """
    race = result.race
    every = zip(race.outcomes, race.elapsed, result.labeled.errors, strict=True)
    rows: list[dict[str, Any]] = [
        {
            "model": one.step.title,
            "name": one.step.name,
            "kind": kind_of(one),
            "value": error,
            "elapsed": at,
            "seconds": one.seconds,
            "is_chosen": one.step.model == race.chosen.winner.step.model,
            "row": KINDS.index(kind_of(one)),
        }
        for one, at, error in every
        if np.isfinite(error)
    ]
    return tidy_frame(rows)


def _subtitle(result: DrawnRace, sentence: str) -> str:
    name = name_in_title(Path(result.race.request.target.name).name, "target")
    samples = count(result.race.n_labeled, "labeled sample")
    return f"{name}, {samples}. Validation errors of all models that were tried. {sentence}"


def _shown(value: float, result: DrawnRace) -> str:
    return result.labeled.shown(value).replace(" %", "\N{NO-BREAK SPACE}%")


def _axis(result: DrawnRace) -> str:
    labeled = result.labeled
    return f"validation {labeled.measure}{f' ({labeled.unit})' if labeled.unit else ''}"


def _headline(result: DrawnRace) -> str:
    return result.headline.removesuffix(".").replace(" %", "\N{NO-BREAK SPACE}%")


@styled
def race_figure(result: DrawnRace, ax: "Axes | None" = None) -> "Figure":
    """Draw the validation error of everything that was tried, one row for each kind of model.

    Args:
        result: The race, its validation errors and its headline.
        ax: Axes to draw on. None for a new figure.
    """
    import seaborn

    frame = race_frame(result)
    kinds = [kind for kind in KINDS if (frame["kind"] == kind).any()]
    frame["y"] = frame["kind"].map(kinds.index) + POINT_Y
    label = f"{_axis(result)}; lower is better"
    subtitle = _subtitle(result, "Blue was chosen; its test error is in the title.")
    axes = row_panel(_headline(result), subtitle, label, len(kinds), ROW, HEAD, ax)
    # The last result of the chosen model is on the most samples.
    chosen = frame[frame["is_chosen"]].tail(1)
    seaborn.scatterplot(data=frame.drop(chosen.index), x="value", y="y", s=45, ax=axes, **OTHERS)
    seaborn.scatterplot(data=chosen, x="value", y="y", ax=axes, **CHOSEN)
    axes.set(xlabel=label, ylabel="")
    chance = result.labeled.chance
    axes.set_xlim(0, 1.06 * max(float(frame["value"].max()), chance) or 1.0)
    draw_reference(axes, chance)
    names = [NAMES.get(kind, kind) for kind in kinds]
    write_names(axes, [number + POINT_Y for number in range(len(kinds))], names, points=-14, size=9)
    # The chosen model is named, and of each other kind the one with the lowest error.
    named = pd.concat([chosen, frame[frame["kind"] != chosen["kind"].iloc[0]].sort_values("value")])
    best = [named[named["kind"] == kind].iloc[0] for kind in kinds]
    shown = fit_names([one["name"] for one in best], "model", NAME_WIDTH, 8.5, bold=True)
    for number, (one, name) in enumerate(zip(best, shown, strict=True)):
        style = (Ink.SOURCE, True) if one["is_chosen"] else (Ink.SECONDARY, False)
        labels = [(float(one["value"]), f"{name} {_shown(one['value'], result)}", *style)]
        label_marks(axes, number + LABEL_Y, labels, overhang=0)
    label_marks(
        axes, LABEL_Y - 0.3, [(chance, f"{CONSTANT} {_shown(chance, result)}", Ink.SECONDARY, False)], overhang=0
    )
    for text in axes.texts:
        # The dashed line does not run through a label.
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    return figure_of(axes)


@styled
def time_figure(result: DrawnRace, ax: "Axes | None" = None) -> "Figure":
    """Draw the validation error of each step over the seconds after which it was there, and the lowest so far.

    Args:
        result: The race, its validation errors and its headline.
        ax: Axes to draw on. None for a new figure.
    """
    import seaborn

    frame = race_frame(result).sort_values("elapsed", kind="stable")
    total = result.race.seconds[0]
    unit, seconds = ("minutes", 60) if total >= MINUTES_FROM else ("seconds", 1)
    frame["elapsed"] /= seconds
    lowest = frame.assign(value=np.minimum.accumulate(frame["value"]))
    spent = f"{total / seconds:,.0f} {'s' if seconds == 1 else 'min'}"
    title = f"After {spent}, the lowest validation {result.labeled.measure} is {_shown(frame['value'].min(), result)}"
    subtitle = _subtitle(result, "The line is the lowest so far; blue was chosen.")
    axes = line_panel(title, subtitle, 2.4, ax, xlabel=unit, ylabel=_axis(result))
    axes.step(lowest["elapsed"], lowest["value"], where="post", color=Ink.SOURCE, linewidth=2, zorder=2, clip_on=False)
    chosen = frame[frame["is_chosen"]].tail(1)
    points = {"x": "elapsed", "y": "value", "ax": axes}
    seaborn.scatterplot(data=frame.drop(chosen.index), s=40, **points, **OTHERS, zorder=3)
    seaborn.scatterplot(data=chosen, **points, **CHOSEN)
    axes.set(xlabel=unit, ylabel=_axis(result), xlim=(0, 1.03 * float(frame["elapsed"].max())))
    axes.set_ylim(0, 1.06 * float(frame["value"].max()) or 1.0)
    return figure_of(axes)


def race_caption(result: DrawnRace) -> str:
    """Return the caption of the figure of everything that was tried, in whole sentences with the exact values."""
    return _caption(result, f"The dashed line is a constant prediction, {_shown(result.labeled.chance, result)}.")


def time_caption(result: DrawnRace) -> str:
    """Return the caption of the figure of the time, in whole sentences with the exact values."""
    return _caption(result, "The line is the lowest value so far.")


def _caption(result: DrawnRace, sentence: str) -> str:
    race, labeled = result.race, result.labeled
    frame = race_frame(result).nsmallest(20, "value")
    values = "; ".join(f"{row.model} {_shown(row.value, result)}" for row in frame.itertuples())
    tested = "; ".join(f"{one.title} {one.shown}" for one in race.tested)
    return (
        f"Validation {labeled.measure} of {count(len(race.outcomes), 'step')} on {race.request.target.name} "
        f"({count(race.n_labeled, 'labeled sample')}), on folds that were left out. {sentence} The large blue point is "
        f"the chosen model. Lowest: {values}. Test {labeled.of_test} of the final models: {tested}."
    )


def planned_figures(result: DrawnRace) -> Iterator[ResultFigure]:
    """Yield the figure of everything that was tried, and that of the time."""
    yield result_figure("transfer", result, race_frame, race_figure, race_caption)
    yield result_figure("transfer-time", result, race_frame, time_figure, time_caption)
