"""Figures of a race: everything that was tried by its kind, and the errors over the time that was spent."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modgap.answers.figures.files import ResultFigure, result_figure
from modgap.answers.figures.intervals import tidy_frame
from modgap.answers.figures.labels import label_marks, write_names
from modgap.answers.figures.lines import line_panel
from modgap.answers.figures.rows import draw_reference, row_panel
from modgap.answers.figures.style import Ink, figure_of, name_in_title, styled
from modgap.errors import count, format_duration
from modgap.race.transfer import Race
from modgap.race.verdict import KINDS, kind_of, shown_loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, HEAD = 0.62, 0.2
NAMES = {KINDS[0]: "baseline of the field"}


def race_frame(race: Race) -> pd.DataFrame:
    """Return a row for each step that has an error: its model, kind, validation error and seconds, and if it won.

    Errors are in percent, but for values.
    """
    scale = 1 if race.task == "regression" else 100
    rows: list[dict[str, Any]] = [
        {
            "model": one.step.title,
            "name": one.step.name,
            "kind": kind_of(one),
            "value": one.error * scale,
            "elapsed": at,
            "seconds": one.seconds,
            "is_chosen": one.step.model == race.chosen.winner.step.model,
            "row": KINDS.index(kind_of(one)),
        }
        for one, at in race.tried()
    ]
    return tidy_frame(rows)


def _title(race: Race) -> str:
    winner = race.tested[0]
    return f"Use {winner.spoken}: its test error is {winner.shown}".replace(" %", "\N{NO-BREAK SPACE}%")


def _subtitle(race: Race, sentence: str) -> str:
    name = name_in_title(Path(race.request.target.name).name, "target")
    return f"{name}, {count(race.n_labeled, 'labeled sample')}. One point for each model that was tried; {sentence}."


def _shown(value: float, race: Race) -> str:
    loss = value if race.task == "regression" else value / 100
    return shown_loss(loss, race.task).replace(" %", "\N{NO-BREAK SPACE}%")


def _axis(race: Race) -> str:
    return f"validation error{'' if race.task == 'regression' else ' (%)'}"


@styled
def race_figure(race: Race, ax: "Axes | None" = None) -> "Figure":
    """Draw the validation error of everything that was tried, one row for each kind of model.

    Args:
        race: A race.
        ax: Axes to draw on. None for a new figure.
    """
    import seaborn

    frame = race_frame(race)
    kinds = [kind for kind in KINDS if (frame["kind"] == kind).any()]
    frame["y"] = frame["kind"].map(kinds.index) + 0.6
    label = f"{_axis(race)}; lower is better"
    axes = row_panel(_title(race), _subtitle(race, "blue was chosen"), label, len(kinds), ROW, HEAD, ax)
    others, chosen = frame[~frame["is_chosen"]], frame[frame["is_chosen"]].tail(1)
    seaborn.scatterplot(data=others, x="value", y="y", s=45, color=Ink.CONTROL, alpha=0.5, linewidth=0, ax=axes)
    seaborn.scatterplot(data=chosen, x="value", y="y", s=150, color=Ink.SOURCE, zorder=5, ax=axes)
    axes.set(xlabel=label, ylabel="")
    chance = race.chance.loss * (1 if race.task == "regression" else 100)
    axes.set_xlim(0, 1.06 * max(float(frame["value"].max()), chance))
    draw_reference(axes, chance)
    write_names(axes, [number + 0.6 for number in range(len(kinds))], [NAMES.get(kind, kind) for kind in kinds], size=9)
    for number, kind in enumerate(kinds):
        best = frame[frame["kind"] == kind].nsmallest(1, "value").iloc[0]
        is_chosen = bool(best["is_chosen"])
        text = f"{best['name']} {_shown(best['value'], race)}"
        style = (Ink.SOURCE, True) if is_chosen else (Ink.SECONDARY, False)
        label_marks(axes, number + 0.22, [(float(best["value"]), text, *style)])
    return figure_of(axes)


@styled
def time_figure(race: Race, ax: "Axes | None" = None) -> "Figure":
    """Draw the validation error of each step over the seconds after which it was there, and the lowest so far.

    Args:
        race: A race.
        ax: Axes to draw on. None for a new figure.
    """
    import seaborn

    frame = race_frame(race).sort_values("elapsed")
    lowest = frame.assign(value=np.minimum.accumulate(frame["value"]))
    lowest_error = _shown(frame["value"].min(), race)
    title = f"After {format_duration(race.seconds[0])}, the lowest validation error is {lowest_error}"
    axes = line_panel(
        title, _subtitle(race, "the line is the lowest error so far"), 2.4, ax, xlabel="seconds", ylabel=_axis(race)
    )
    seaborn.scatterplot(data=frame, x="elapsed", y="value", s=40, color=Ink.CONTROL, alpha=0.5, linewidth=0, ax=axes)
    axes.step(lowest["elapsed"], lowest["value"], where="post", color=Ink.SOURCE, linewidth=2)
    axes.set(xlabel="seconds", ylabel=_axis(race), xlim=(0, None), ylim=(0, None))
    return figure_of(axes)


def race_caption(race: Race) -> str:
    """Return the caption of the figures, in whole sentences with the exact values."""
    frame = race_frame(race).nsmallest(20, "value")
    values = "; ".join(f"{row.model} {_shown(row.value, race)}" for row in frame.itertuples())
    tested = "; ".join(f"{one.title} {one.shown}" for one in race.tested)
    return (
        f"Validation errors of {count(len(race.outcomes), 'step')} on {race.request.target.name} "
        f"({count(race.n_labeled, 'labeled sample')}): means of the losses on folds that were left out. The dashed "
        f"line is the error of the same prediction for all samples. Lowest: {values}. Test errors of the final models: "
        f"{tested}."
    )


def planned_figures(race: Race) -> Iterator[ResultFigure]:
    """Yield the figure of everything that was tried, and that of the time."""
    yield result_figure("transfer", race, race_frame, race_figure, race_caption)
    yield result_figure("transfer-time", race, race_frame, time_figure, race_caption)
