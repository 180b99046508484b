"""Content of the ranking figure: rows, groups of sources that do not differ, title, subtitle and caption."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modgap.display.figure_layout import name_in_title
from modgap.ranking import verdict as v
from modgap.ranking.baseline_checks import BASELINE_SCORES, CONTROL_WORSE, compare_baseline, sources_compared
from modgap.ranking.check_sentences import score_label
from modgap.ranking.judgment import judge
from modgap.ranking.reference_value import reference_value
from modgap.ranking.score_texts import format_interval, format_score
from modgap.ranking.scores import PILOT, get_score, shown_score
from modgap.ranking.tables import first_ties
from modgap.ranking.types import CONTROL, RAW_VALUES, Ranking
from modgap.ranking.verdict import Check
from modgap.statistics.multiple_comparisons import similar_groups

__all__ = [
    "FigureRow",
    "figure_rows",
    "figure_subtitle",
    "figure_title",
    "other_scores",
    "ranking_caption",
    "shown_rows",
    "similar_rows",
]

MOST_ROWS = 20
"""Number of sources up to which all sources have a row."""
MOST_ROWS_OF_TIES = 30
"""Number of rows if more sources are not significantly different from the first."""
MOST_SCORES = 10
MOST_CAPTION_VALUES = 20
REFERENCE_NAMES = {
    "no information": "value of a source that gives no information about the labels",
    "chance level": "chance level",
    "majority class": "error of always predicting the majority class",
}
NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class FigureRow:
    """A source in the figure.

    Attributes:
        index: Index of the source in the ranking.
        name: Name of the source.
        value: Score of the source.
        interval: 95 % interval of the score; None if it is unknown.
        control: Score of the random-weights control; None if there is none.
        control_interval: 95 % interval of the control's score; None if it is unknown.
        beats_control: True if the source is significantly better than its control, corrected for the number of
            sources; None if it is unknown.
        ties_with_first: True if the source is the first, or not significantly different from the first.
    """

    index: int
    name: str
    value: float
    interval: tuple[float, float] | None
    control: float | None
    control_interval: tuple[float, float] | None
    beats_control: bool | None
    ties_with_first: bool


def figure_rows(ranking: Ranking) -> list[FigureRow]:
    """Return the sources that have a value, best first."""
    table = ranking.deciding_table
    ties = first_ties(table) or set(np.flatnonzero(table.source_ranks == 1).tolist())
    indices = [index for index in ranking.order() if table.source_ranks[index] and np.isfinite(_value(ranking, index))]
    return [_figure_row(ranking, index, index in ties) for index in indices]


def _figure_row(ranking: Ranking, index: int, ties_with_first: bool) -> FigureRow:
    table = ranking.deciding_table
    standings = table.standings
    control = _control_of(ranking, index)
    is_known = control is not None and np.isfinite(standings.win_probabilities[index, control])
    beats = None
    if is_known and control is not None:
        beats = compare_baseline(table, index, control, sources_compared(table)) == CONTROL_WORSE
    return FigureRow(
        index=index,
        name=ranking.rows[index].name,
        value=_value(ranking, index),
        interval=_interval(ranking, index),
        control=None if control is None else _value(ranking, control),
        control_interval=None if control is None else _interval(ranking, control),
        beats_control=beats,
        ties_with_first=ties_with_first,
    )


def _value(ranking: Ranking, index: int) -> float:
    return float(ranking.deciding_table.standings.values[index])


def _interval(ranking: Ranking, index: int) -> tuple[float, float] | None:
    low, high = ranking.deciding_table.standings.intervals[index].tolist()
    return (low, high) if np.isfinite([low, high]).all() else None


def _control_of(ranking: Ranking, index: int) -> int | None:
    """Return the index of the source's control that has a value. None if there is none."""
    name = f"random:{ranking.rows[index].name}"
    for number, row in enumerate(ranking.rows):
        if row.kind == CONTROL and row.name == name and np.isfinite(_value(ranking, number)):
            return number
    return None


def shown_rows(rows: Sequence[FigureRow]) -> int:
    """Return the number of sources that have a row each; the others are marks in one row."""
    ties = [number for number, row in enumerate(rows) if row.ties_with_first]
    return min(len(rows), max(MOST_ROWS, min(MOST_ROWS_OF_TIES, max(ties, default=0) + 1)))


def similar_rows(ranking: Ranking, rows: Sequence[FigureRow]) -> list[list[int]]:
    """Return the rows of each group of two or more sources of which no two differ significantly.

    Args:
        ranking: The ranking.
        rows: Rows of the figure, best first.
    """
    standings = ranking.deciding_table.among_sources
    indices = [row.index for row in rows]
    is_tied = np.array([np.isin(indices, standings.tied_with(index)) for index in indices])
    groups = similar_groups(~(is_tied | np.eye(len(rows), dtype=bool)))
    return [group for group in groups or () if len(group) > 1]


def other_scores(ranking: Ranking) -> list[str]:
    """Return the names of the other scores whose ranks are shown: those of several sources, at most ten."""
    names = [
        name
        for name, table in ranking.tables.items()
        if name != ranking.deciding_table.name and name not in BASELINE_SCORES and (table.source_ranks > 0).sum() > 1
    ]
    if len(names) > MOST_SCORES:
        names = [name for name in names if get_score(name).default]
    return names[:MOST_SCORES]


def figure_title(ranking: Ranking) -> str:
    """Return the finding in one sentence. It compares sources only by pairwise tests."""
    verdict = judge(ranking)
    others = verdict.check("other-sources")
    if others is None:
        return "No source has a score"
    best = name_in_title(str(verdict.first), "source")
    first = f"{best} ranks first of {others.values['sources']}"
    if verdict.choice == v.SINGLE:
        only = "that was fine-tuned" if others.values["score"] == PILOT.name else "with a score"
        return f"{best} is the only source {only}"
    if others.values["equal"]:
        return _equal_title(ranking, others)
    if verdict.choice == v.UNKNOWN:
        return f"{first}; the significance is unknown"
    if verdict.choice == v.TIE:
        return f"{first}; {_count_others(len(verdict.tied))} not significantly different"
    return f"{first}, significantly ahead of the {'other' if others.values['sources'] == 2 else 'others'}"


def _equal_title(ranking: Ranking, other_sources: Check) -> str:
    n_equal = 1 + len(other_sources.values["equal"])
    word = NUMBER_WORDS[n_equal].capitalize() if n_equal < len(NUMBER_WORDS) else str(n_equal)
    n_others = len(first_ties(ranking.deciding_table)) - n_equal
    others = f"; {_count_others(n_others)} not significantly different" if n_others > 0 else ""
    return f"{word} sources share the first rank{others}"


def _count_others(count: int) -> str:
    number = NUMBER_WORDS[count] if count < len(NUMBER_WORDS) else f"{count:,}"
    return f"{number} other is" if count == 1 else f"{number} others are"


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
        sentences.append(f"Sources {n_rows + 1} to {n_sources:,} share one row.")
    raw_values = judge(ranking).check("raw-values")
    if raw_values and raw_values.status == v.FAIL and raw_values.values["score"] == PILOT.name:
        sentences.append("No source is shown to beat nearest neighbors of the raw samples.")
    elif raw_values and raw_values.status == v.FAIL and by != PILOT.name:
        sentences.append("The raw samples do as well as every source.")
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
    rows = figure_rows(ranking)
    target = ranking.target
    samples = f" on {target.name} (N = {_samples(ranking):,}, K = {target.classes:,})" if target else ""
    score = shown_score(ranking.deciding_table.name)
    by_sample = ranking.deciding_table.by_sample
    origin = "paired errors of the samples" if by_sample else f"{ranking.request.resamples} subsamples"
    sentences = [
        f"{len(rows):,} sources ranked by {score_label(score.name)}{samples}: {score.title} ({score.direction}).",
        f"Blue circles are pretrained sources. Lines are 95 % intervals from {origin}.",
        "An open circle marks a source that is not significantly better than its random-weights control.",
    ]
    if any(row.control is not None for row in rows):
        sentences.append("Gray diamonds are the same architectures with random weights (one random initialization).")
    sentences += [
        "A black bar joins sources no two of which differ significantly at the 95 % level, corrected for the number of "
        "all pairs (Holm). It is thin beside sources that do not belong to it.",
        *_reference_sentences(ranking),
        *_raw_sentences(ranking),
    ]
    if scores := other_scores(ranking):
        sentences.append(f"The table on the right gives the rank among the sources by {', '.join(scores)} (1 is best).")
    values = [f"{row.name} {_format_value(row)}" for row in rows[:MOST_CAPTION_VALUES]]
    sentences.append(f"Values: {'; '.join(values)}.")
    if len(rows) > len(values):
        sentences.append("The complete table is in ranking.csv.")
    return " ".join(sentences)


def _reference_sentences(ranking: Ranking) -> list[str]:
    reference = reference_value(ranking.deciding_table.name, ranking.target)
    return [f"The dashed line is the {REFERENCE_NAMES[reference.label]}, {reference.value:.3f}."] if reference else []


def _raw_sentences(ranking: Ranking) -> list[str]:
    values = [_value(ranking, index) for index, row in enumerate(ranking.rows) if row.kind == RAW_VALUES]
    return [f"The raw samples have {format_score(value)}." for value in values if np.isfinite(value)]


def _format_value(row: FigureRow) -> str:
    interval = f" ({format_interval(row.interval)})" if row.interval else ""
    control = "" if row.control is None else f", random weights {format_score(row.control)}"
    return f"{format_score(row.value)}{interval}{control}"
