"""The figure of a ranking by a history and pilots: the expected error of each source before and after the pilots."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from modgap.answers.figures.intervals import interval_columns, tidy_frame
from modgap.answers.figures.labels import beside, label_marks, write_names
from modgap.answers.figures.rows import draw_marks, draw_ticks, row_panel
from modgap.answers.figures.style import Ink, figure_of, fit_names, name_in_title, styled, title_lines
from modgap.ranking.answer import format_interval, format_score, pilots_in_order
from modgap.ranking.check_sentences import format_chance, uncounted_pilots
from modgap.ranking.history.choice import LEVEL
from modgap.ranking.judgment import judge
from modgap.ranking.recommendation import headline
from modgap.ranking.types import Pilot, Ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 20
"""Number of sources up to which all sources have a row."""
MOST_CAPTION_VALUES = 20
NAME_SPACE = 1.72
HEAD = 0.42
"""Space above the first row for the names of the marks, in inches."""
ROW = 0.43
"""Height of a row in inches."""
ALONE, WITH_PILOTS = "earlier targets alone", "with pilots"
"""Series of the figure of a ranking by a history."""
PILOT_COLORS = (Ink.ERROR_TEXT, Ink.SECOND_TEXT)
"""Colors of the errors of pilots, those of the fewest epochs first."""


def figure_title(ranking: Ranking) -> str:
    """Return the headline of the ranking, with names as titles show them.

    If it needs more than two lines, as with long names, its first sentence is the title: three lines are too many.
    """
    title = headline(judge(ranking), lambda name: name_in_title(name, "source")).removesuffix(".")
    title = title.replace(" %", "\N{NO-BREAK SPACE}%")
    return title if len(title_lines(title)) < 3 else title.partition(". ")[0]


def forecast_frame(ranking: Ranking) -> pd.DataFrame:
    """Return the marks of the figure of a ranking by a history and pilots.

    Each source has its expected error by earlier targets alone and with pilots, with their intervals, and the errors of
    its pilots. `row` is the number of the row from the top, and `chance` the probability of being the best.
    """
    choice = ranking.choice
    assert choice is not None
    told = choice.told
    pilots = {_pilot_name(one): one for one in pilots_in_order(ranking)}
    marks = []
    for row, number in enumerate(told.order):
        index = choice.rows[number]
        about = {"name": ranking.rows[index].name, "row": row, "chance": float(told.after.best[number])}
        for series, one in ((ALONE, told.before), (WITH_PILOTS, told.after)):
            low, high = one.interval(LEVEL)[number].tolist()
            marks.append({"series": series, **interval_columns(float(one.error[number]), (low, high)), **about})
        for series, pilot in pilots.items():
            value = float(pilot.table.standings.values[index])
            if np.isfinite(value):
                marks.append({"series": series, **interval_columns(value, None), **about})
    return tidy_frame(marks)


def _pilot_name(pilot: Pilot) -> str:
    return f"pilot, {pilot.epochs} epochs" + (" at three rates" if pilot.rates > 1 else "")


@styled
def forecast_figure(ranking: Ranking, ax: "Axes | None" = None) -> "Figure":
    """Draw the expected error of each source with its interval, by earlier targets alone and with pilots.

    Args:
        ranking: A ranking by a history and pilots.
        ax: Axes to draw on. None for a new figure.
    """
    frame = forecast_frame(ranking)
    frame = frame[frame["row"] < MOST_ROWS]
    n_rows = int(frame["row"].max()) + 1
    choice, target = ranking.choice, ranking.target
    assert choice is not None
    assert target is not None
    subtitle = (
        f"Expected error after fine-tuning on {choice.labeled:,} labeled samples of "
        f"{name_in_title(target.name, 'target')}, {100 * LEVEL:.0f} % intervals."
    )
    axes = row_panel(figure_title(ranking), subtitle, "expected error; lower is better", n_rows, ROW, HEAD, ax)
    alone, told = (frame[frame["series"] == name] for name in (ALONE, WITH_PILOTS))
    history = judge(ranking).check("history")
    if history is not None and not history.values["pilots"]:
        # Without pilots that count, both are the same.
        alone = alone.iloc[:0]
    draw_marks(axes, alone.assign(y=alone["row"] + 0.32, mark="history"), 5, 7)
    points = alone.assign(y=alone["row"] + 0.32, mark="control", low=np.nan, high=np.nan)
    draw_marks(axes, points, 5)
    draw_marks(axes, told.assign(y=told["row"] + 0.62, mark="source"), 7, 4)
    pilots = frame[~frame["series"].isin([ALONE, WITH_PILOTS])]
    colors = dict(zip(pilots["series"].unique(), PILOT_COLORS, strict=False))
    for series, color in colors.items():
        part = pilots[pilots["series"] == series]
        draw_ticks(axes, part.assign(y=part["row"] + 0.5), "value", 0.32, colors=color, linewidth=2, zorder=4)
    names = fit_names(list(told["name"]), "source", NAME_SPACE, 9, bold=True)
    write_names(axes, told["row"] + 0.5, names, bold={0}, size=9)
    chances = [format_chance(chance) for chance in told["chance"]]
    write_names(axes, told["row"] + 0.5, chances, 10, bold={0}, right=True, size=9, color=Ink.SOURCE)
    axes.set_xlim(0, min(1.0, 1.04 * float(np.nanmax(frame[["value", "high"]]))))
    _, top = axes.get_ylim()
    labels = [(told["value"].iloc[0], WITH_PILOTS if len(alone) else ALONE, Ink.SOURCE, True)]
    labels += [(value, ALONE, Ink.SECONDARY, False) for value in alone["value"].iloc[:1]]
    of_first = pilots[pilots["row"] == 0]
    labels += [(row.value, row.series, colors[row.series], False) for row in of_first.itertuples()]
    label_marks(axes, top * 0.1 / HEAD, labels, overhang=0)
    beside(axes, top * 0.1 / HEAD, "best?", 10, right=True, size=8, color=Ink.SECONDARY)
    return figure_of(axes)


def forecast_caption(ranking: Ranking) -> str:
    """Return the caption of the figure, in whole sentences with the exact values."""
    frame, choice, target = forecast_frame(ranking), ranking.choice, ranking.target
    assert choice is not None
    assert target is not None
    told = frame[frame["series"] == WITH_PILOTS].to_dict("records")
    values = [
        f"{row['name']} {format_score(row['value'])} ({format_interval((row['low'], row['high']))}), best with "
        f"{format_chance(row['chance'])}"
        for row in told[:MOST_CAPTION_VALUES]
    ]
    uncounted = uncounted_pilots(choice.told.uncounted)
    return (
        f"Expected error of {len(told):,} sources on {target.name} after fine-tuning on {choice.labeled:,} labeled "
        f"samples. Gray: by the errors of the same sources on {choice.told.n_targets} earlier targets alone. Blue: "
        f"with the errors of pilots on this target, which are the ticks. {uncounted}{' ' * bool(uncounted)}Lines are "
        f"{100 * LEVEL:.0f} % intervals. Values with pilots: {'; '.join(values)}."
    )
