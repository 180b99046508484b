"""Tables of a ranking as text: its sources, their other scores, and why some have no value."""

from collections.abc import Mapping

import numpy as np

from modgap.formatting import visible_name
from modgap.ranking.check_sentences import score_label
from modgap.ranking.checks import control_index
from modgap.ranking.score_texts import difference_texts, difference_to_first, format_interval, format_score
from modgap.ranking.scores import PILOT
from modgap.ranking.types import CONTROL, RAW_VALUES, SOURCE, Ranking, ScoreTable, SourceRow
from modgap.statistics.multiple_comparisons import group_letters

__all__ = [
    "NEIGHBORS_LABEL",
    "RAW_VALUES_LABEL",
    "control_sources",
    "failure_messages",
    "first_ties",
    "ranking_table",
    "scores_table",
    "source_letters",
]

RAW_VALUES_LABEL = "raw values (no model)"
NEIGHBORS_LABEL = "neighbors of raw values (no model)"


def ranking_table(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the ranking: each source with its score, its comparison with the first, and its control.

    Two sources that share a letter in the column `group` are not significantly different (at the 95 % level, corrected
    for the number of comparisons). Each difference to the first source has its 95 % interval, and its p-value after the
    correction. After a short fine-tuning its errors are shown in place of the score, and sources that were not
    fine-tuned have none.
    """
    table = ranking.deciding_table
    name = "error" if table.name == PILOT.name else score_label(table.name)
    heads = ["rank", "group", "source", name, "95 % CI", "minus the first", "p", "random weights"]
    letters = source_letters(table)
    merged = set(control_sources(ranking))
    return heads, [_table_row(ranking, index, letters) for index in ranking.order() if index not in merged]


def source_letters(table: ScoreTable) -> dict[int, str]:
    """Return the letters of each source by one score, by the index of its row. Empty if a significance is unknown."""
    standings = table.among_sources
    ranked = [int(index) for index in standings.order() if standings.ranks[index] > 0]
    pairs = np.ix_(ranked, ranked)
    if len(ranked) < 2 or not np.isfinite(standings.p_values[pairs]).all():
        return {}
    return dict(zip(ranked, group_letters(standings.different[pairs]), strict=True))


def control_sources(ranking: Ranking) -> dict[int, int]:
    """Return, for the row of each random-weights control, the row of its source."""
    sources = [index for index, row in enumerate(ranking.rows) if row.kind == SOURCE]
    pairs = ((control_index(ranking, source), source) for source in sources)
    return {control: source for control, source in pairs if control is not None}


def _table_row(ranking: Ranking, index: int, letters: Mapping[int, str]) -> list[str]:
    row = ranking.rows[index]
    table = ranking.deciding_table
    rank = int(table.source_ranks[index])
    control = control_index(ranking, index)
    raw = NEIGHBORS_LABEL if table.name == PILOT.name else RAW_VALUES_LABEL
    return [
        str(rank) if rank else "-",
        letters.get(index, ""),
        raw if row.kind == RAW_VALUES else visible_name(row.name),
        format_score(table.standings.values[index]),
        format_interval(table.standings.intervals[index]),
        *difference_texts(difference_to_first(table, index)),
        "-" if control is None else format_score(table.standings.values[control]),
    ]


def scores_table(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the other scores of every row, in the order of the ranking.

    An arrow gives the direction of a score. A star marks the source that ranks first by it, unless a random-weights
    control ranks above it. Scores that no source has are left out.
    """
    tables = [
        table
        for name, table in ranking.tables.items()
        if name != ranking.deciding_table.name and np.isfinite(table.standings.values).any()
    ]
    heads = ["source", *(f"{table.name} {'↑' if table.higher_is_better else '↓'}" for table in tables)]
    return heads, [
        [visible_name(ranking.rows[index].name), *(_starred_score(ranking, table, index) for table in tables)]
        for index in ranking.order()
    ]


def _starred_score(ranking: Ranking, table: ScoreTable, index: int) -> str:
    ranks = table.standings.ranks
    controls = [rank for row, rank in zip(ranking.rows, ranks, strict=True) if row.kind == CONTROL and rank]
    is_first = table.source_ranks[index] == 1 and ranks[index] <= min(controls, default=ranks[index])
    return format_score(table.standings.values[index]) + ("*" if is_first else "")


def first_ties(table: ScoreTable) -> set[int]:
    """Return the indices of the sources that are not significantly different from the first.

    The first is among them if there are others. Otherwise the set is empty.
    """
    firsts = np.flatnonzero(table.source_ranks == 1).tolist()
    tied = set(firsts[1:])
    for first in firsts:
        tied |= {int(index) for index in table.among_sources.tied_with(first)}
    return tied | set(firsts) if tied else set()


def failure_messages(ranking: Ranking) -> list[str]:
    """Return why sources that the user named have no score to rank by. Sources with the same reason share a message."""
    failures: dict[str, list[tuple[str, str]]] = {}
    for index, row in enumerate(ranking.rows):
        if row.requested and (reason := ranking.reason(index)):
            # Reasons that differ only by the name of the source count as the same.
            short_name = row.name.removeprefix("timm:").removeprefix("hf:")
            failures.setdefault(reason.replace(short_name, ""), []).append((row.name, reason))
    messages = []
    for (name, reason), *others in failures.values():
        more = f" and {len(others)} more" if others else ""
        messages.append(f"{name}{more}: {reason}")
    pilot_reasons = ranking.pilot.table.reasons if ranking.pilot else ()
    named = zip(ranking.rows, pilot_reasons, strict=False)
    return [*messages, *(f"{_not_measured(row)}: {reason}" for row, reason in named if reason)]


def _not_measured(row: SourceRow) -> str:
    raw = "Nearest neighbors of the raw values have no error on the samples of the short fine-tuning"
    return raw if row.kind == RAW_VALUES else f"{row.name} was not fine-tuned"
