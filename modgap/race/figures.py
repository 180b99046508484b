"""Figures of a race: everything that was tried by its kind, and the errors over the time that was spent."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modgap.answers.figures.files import ResultFigure, result_figure
from modgap.answers.figures.intervals import tidy_frame
from modgap.answers.figures.labels import LABEL_SIZE, Label, label_ends, label_marks, write_names
from modgap.answers.figures.lines import line_panel
from modgap.answers.figures.rows import draw_reference, row_panel
from modgap.answers.figures.style import BASELINE_STYLE, Ink, figure_of, fit_names, name_in_title, styled
from modgap.errors import count
from modgap.race.answer import PRELIMINARY
from modgap.race.labeled_data import LabeledData
from modgap.race.transfer import Race
from modgap.race.verdict import KINDS, REFERENCES, is_preliminary, kind_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, HEAD = 0.62, 0.3
"""Height of a row, and of the space above the first one, in inches."""
LABEL_Y, POINT_Y, REFERENCE_Y = 0.22, 0.6, -0.24
"""Positions of the labels and of the points in a row, and of the label of the dashed line, in heights of a row."""
NAME_WIDTH = 2.4
"""Space for the name of a model in inches."""
END_WIDTH = 1.2
"""Space for a name right of the axes in inches."""
NAMES = {KINDS[0]: "baseline of the field"}
CONSTANT = "constant prediction"
MINUTES_FROM = 600
"""Seconds from which the axis of the time has minutes."""


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
    """Return a row for each step that has an error: its model, kind, validation error, seconds and marks.

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
            "is_chosen": one is race.chosen.winner,
            "is_reference": kind_of(one) in REFERENCES,
            "is_preliminary": is_preliminary(one, race.chosen),
            "row": KINDS.index(kind_of(one)),
        }
        for one, at, error in every
        if np.isfinite(error)
    ]
    return tidy_frame(rows)


def _subtitle(result: DrawnRace, sentence: str) -> str:
    name = name_in_title(Path(result.race.request.target.name).name, "target")
    samples = count(result.race.n_labeled, "labeled sample")
    is_any_preliminary = race_frame(result)["is_preliminary"].any()
    outlines = " Outlines were judged on fewer folds or samples." if is_any_preliminary else ""
    return f"{name}, {samples}. Validation errors of all models that were tried. {sentence}{outlines}"


def _shown(value: float, result: DrawnRace) -> str:
    return result.labeled.shown(value).replace(" %", "\N{NO-BREAK SPACE}%")


def _axis(result: DrawnRace) -> str:
    labeled = result.labeled
    return f"validation {labeled.measure}{f' ({labeled.unit})' if labeled.unit else ''}"


def _headline(result: DrawnRace) -> str:
    return result.headline.removesuffix(".").replace(" %", "\N{NO-BREAK SPACE}%")


def _draw_results(ax: "Axes", frame: pd.DataFrame, x: str, y: str) -> None:
    """Draw a mark for each step: squares for references, outlines for preliminary errors, a blue one for the choice.

    The mark of the chosen model is larger and lies below the others, so that it hides none.
    """
    import seaborn

    for (is_reference, is_open, is_chosen), part in frame.groupby(["is_reference", "is_preliminary", "is_chosen"]):
        color = Ink.SOURCE if is_chosen else Ink.CONTROL
        style = {"marker": "s" if is_reference else "o", "s": 100 if is_chosen else 40, "zorder": 3 - is_chosen}
        look = {"facecolor": "none" if is_open else color, "edgecolor": color, "linewidth": 1.2 if is_open else 0}
        alpha = 1.0 if is_chosen else 0.55
        seaborn.scatterplot(data=part, x=x, y=y, ax=ax, alpha=alpha, clip_on=False, **style, **look)


def _labels(named: pd.DataFrame, between: str, width: float, result: DrawnRace) -> list[Label]:
    """Return a label with the name and the value of each row; the chosen model is blue."""
    names = fit_names(named["name"].tolist(), "model", width, LABEL_SIZE, bold=True)
    return [
        (value, f"{name}{between}{_shown(value, result)}", Ink.SOURCE if is_chosen else Ink.SECONDARY, is_chosen)
        for name, value, is_chosen in zip(names, named["value"], named["is_chosen"], strict=True)
    ]


@styled
def race_figure(result: DrawnRace, ax: "Axes | None" = None) -> "Figure":
    """Draw the validation error of everything that was tried, one row for each kind of model.

    Args:
        result: The race, its validation errors and its headline.
        ax: Axes to draw on. None for a new figure.
    """
    frame = race_frame(result)
    kinds = [kind for kind in KINDS if (frame["kind"] == kind).any()]
    frame["y"] = frame["kind"].map(kinds.index) + POINT_Y
    label = f"{_axis(result)}; lower is better"
    subtitle = _subtitle(result, "Blue was chosen; its test error is in the title.")
    axes = row_panel(_headline(result), subtitle, label, len(kinds), ROW, HEAD, ax)
    _draw_results(axes, frame, "value", "y")
    axes.set(xlabel=label, ylabel="")
    chance = result.labeled.chance
    axes.set_xlim(0, 1.06 * max(float(frame["value"].max()), chance) or 1.0)
    draw_reference(axes, chance, REFERENCE_Y)
    names = [NAMES.get(kind, kind) for kind in kinds]
    write_names(axes, [number + POINT_Y for number in range(len(kinds))], names, points=-14, size=9)
    # The chosen model is named, and of each kind the one with the lowest error that is not preliminary, if it has one.
    lowest = frame.sort_values(["is_preliminary", "value"], kind="stable").drop_duplicates("kind")
    named = pd.concat([lowest, frame[frame["is_chosen"] & ~frame.index.isin(lowest.index)]])
    for y, part in named.groupby("y"):
        label_marks(axes, float(y) - POINT_Y + LABEL_Y, _labels(part, " ", NAME_WIDTH, result), overhang=0)
    constant = f"{CONSTANT} {_shown(chance, result)}"
    label_marks(axes, REFERENCE_Y, [(chance, constant, Ink.SECONDARY, False)], overhang=0)
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
    frame = race_frame(result).sort_values("elapsed", kind="stable")
    total = result.race.seconds[0]
    unit, seconds = ("minutes", 60) if total >= MINUTES_FROM else ("seconds", 1)
    frame["elapsed"] /= seconds
    complete = frame[~frame["is_preliminary"]]
    lowest, chosen = complete.loc[complete["value"].idxmin()], frame[frame["is_chosen"]].iloc[0]
    spent = f"{total / seconds:,.0f} {'s' if seconds == 1 else 'min'}"
    title = f"After {spent}, the lowest validation {result.labeled.measure} is {_shown(lowest['value'], result)}"
    subtitle = _subtitle(
        result, "The line is the lowest so far. Blue was chosen. Squares are baselines and random weights."
    )
    axes = line_panel(title, subtitle, 2.4, ax, xlabel=unit, ylabel=_axis(result))
    end, chance = 1.03 * float(frame["elapsed"].max()), result.labeled.chance
    axes.plot([0, end], [chance, chance], **BASELINE_STYLE)
    axes.plot([chosen["elapsed"], end], [chosen["value"]] * 2, color=Ink.SOURCE, linestyle=":", linewidth=1.2)
    so_far = np.minimum.accumulate(complete["value"].to_numpy())
    times = [*complete["elapsed"], end]
    axes.step(times, [*so_far, so_far[-1]], where="post", color=Ink.TEXT, linewidth=1.5, zorder=2.5)
    _draw_results(axes, frame, "elapsed", "value")
    top = max(float(frame["value"].max()), chance) or 1.0
    # The line is seen at 0, too.
    axes.set(xlabel=unit, ylabel=_axis(result), xlim=(0, end), ylim=(-0.04 * top, 1.06 * top))
    named = pd.DataFrame([chosen, lowest] if lowest["value"] < chosen["value"] else [chosen])
    constant = f"{CONSTANT}\n{_shown(chance, result)}"
    label_ends(axes, [*_labels(named, "\n", END_WIDTH, result), (chance, constant, Ink.SECONDARY, False)])
    return figure_of(axes)


def race_caption(result: DrawnRace) -> str:
    """Return the caption of the figure of everything that was tried, in whole sentences with the exact values."""
    return _caption(result, "")


def time_caption(result: DrawnRace) -> str:
    """Return the caption of the figure of the time, in whole sentences with the exact values."""
    lines = "The line is the lowest value so far, without outlines. A dotted line goes on from the chosen model. "
    return _caption(result, lines)


def _caption(result: DrawnRace, sentence: str) -> str:
    race, labeled = result.race, result.labeled
    frame = race_frame(result)
    values = "; ".join(
        f"{row.model} {_shown(row.value, result)}{' (outline)' if row.is_preliminary else ''}"
        for row in frame.nsmallest(20, "value").itertuples()
    )
    tested = "; ".join(f"{one.title} {one.shown}" for one in race.tested)
    outlines = f"Outlines {PRELIMINARY}. " if frame["is_preliminary"].any() else ""
    return (
        f"Validation {labeled.measure} of {count(len(race.outcomes), 'step')} on {race.request.target.name} "
        f"({count(race.n_labeled, 'labeled sample')}), on folds that were left out. {sentence}The dashed line is a "
        f"constant prediction for the same samples, {_shown(labeled.chance, result)}. The large blue mark is the "
        f"chosen model. Squares are baselines and networks with random weights. {outlines}Models were compared on the "
        f"{count(len(race.chosen.judged), 'labeled sample')} on which all finalists were judged, where "
        f"{race.chosen.lowest.step.title} has the lowest error. Lowest: {values}. Test {labeled.of_test} of the final "
        f"models: {tested}."
    )


def planned_figures(result: DrawnRace) -> Iterator[ResultFigure]:
    """Yield the figure of everything that was tried, and that of the time."""
    yield result_figure("transfer", result, race_frame, race_figure, race_caption)
    yield result_figure("transfer-time", result, race_frame, time_figure, time_caption)
