"""The answer of a ranking: which source should be transferred, with its tables and what has no value."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modgap.answers import Answer, Curve, Mark, Table
from modgap.answers.formatting import format_p_value
from modgap.errors import count, visible_name
from modgap.ranking.check_sentences import score_label
from modgap.ranking.checks import best_baseline, compare_baseline, control_index, sources_compared
from modgap.ranking.judgment import judge
from modgap.ranking.layers import JUDGED_BY, LAYER_COLUMNS, layer_row
from modgap.ranking.plan import PROBE
from modgap.ranking.recommendation import judgment_answer
from modgap.ranking.scores import PILOT, shown_score
from modgap.ranking.types import BASELINE, CONTROL, SOURCE, LayerCurve, Ranking, ScoreTable
from modgap.statistics.multiple_comparisons import group_letters
from modgap.storage.json_records import plain_values

LAYERS = (
    "The layer is chosen on one half of the samples and judged on the other half, over 20 splits. p compares it with "
    "the last layer, corrected for the number of sources (Holm). The lowest error on all samples is too low an "
    "estimate for new samples. Curves go from the first layer to the last, and from an error of 0 to the highest."
)
PROBES = "Linear probes of the sources beside baselines of the field, by cross-validation on the same folds"
OF_ERRORS = ".3f"
"""Format of error rates."""
MOST_PROBES = 10
"""Most sources in this table."""
OTHER_SCORES = "other scores (↑ higher is better, ↓ lower is better, * best source, no control above it)"


def ranking_answer(ranking: Ranking) -> Answer:
    """Return the answer of a ranking."""
    reasons = [f"{curve.source}: {curve.reason}" for curve in ranking.layers if curve.reason]
    answer = judgment_answer(judge(ranking), ranking.target.name if ranking.target else None)
    return replace(
        answer,
        facts=tuple(_facts(ranking)),
        tables=tuple(_tables(ranking)),
        notes=(*failure_messages(ranking), *reasons),
    )


def _facts(ranking: Ranking) -> Iterator[str]:
    target = ranking.target
    if target:
        yield f"{count(target.samples, 'sample')} ({ranking.request.samples.split_label})"
        yield f"{target.classes:,} classes"
        if target.groups:
            yield count(target.groups, "group")
        by = ranking.deciding_table.name
        yield f"ranked by {by if by in ranking.tables else score_label(by)} ({shown_score(by).direction})"
    yield count(sum(row.kind == SOURCE for row in ranking.rows), "source")


def _tables(ranking: Ranking) -> Iterator[Table]:
    if ranking.target:
        yield Table(*ranking_table(ranking))
        if not ranking.rows_with_value(BASELINE, ranking.deciding_table) and (beside := probe_table(ranking)):
            yield beside
        if len(ranking.tables) > 1:
            yield Table(*scores_table(ranking), OTHER_SCORES)
    if ranking.layers:
        drawn = [_layer_curve(curve, ranking.layers) for curve in ranking.layers]
        rows = [layer_row(curve) for curve in ranking.layers]
        yield Table(LAYER_COLUMNS, rows, "Error of a linear probe by layer", LAYERS, curves=drawn)


def _layer_curve(curve: LayerCurve, curves: Sequence[LayerCurve]) -> Curve | None:
    """Return the errors of the layers of a source, on one axis for all sources; None if one is not known."""
    values = curve.values.get(JUDGED_BY, ())
    if not values or not np.isfinite(values).all():
        return None
    highest = np.nanmax([value for one in curves for value in one.values.get(JUDGED_BY, ())]) or 1.0
    return Curve([number / curve.n_layers for number in curve.numbers], [float(value / highest) for value in values])


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
    left_out = set(control_sources(ranking))
    if not ranking.rows_with_value(BASELINE, table):
        left_out |= {index for index, row in enumerate(ranking.rows) if row.kind == BASELINE}
    return heads, [_table_row(ranking, index, letters) for index in ranking.order() if index not in left_out]


def source_letters(table: ScoreTable) -> dict[int, str]:
    """Return the letters of each source by one score, by the index of its row. Empty if a significance is unknown."""
    standings = table.among_sources
    ranked = table.source_order
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
    return [
        str(rank) if rank else "-",
        letters.get(index, ""),
        visible_name(row.name),
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
        if ranking.rows[index].kind != BASELINE
    ]


def probe_table(ranking: Ranking) -> Table | None:
    """Return the errors of the sources' linear probes beside those of the baselines; None without baselines.

    Each of the best sources is compared with the best baseline on the same samples. Its p-value is corrected for the
    number of sources where it is better, and for that of baselines where it is worse.
    """
    table = ranking.tables.get(PROBE)
    baseline = None if table is None else best_baseline(table, ranking)
    if table is None or baseline is None:
        return None
    standings, baselines = table.standings, ranking.rows_with_value(BASELINE, table)
    shown = [*table.source_order[:MOST_PROBES], *baselines]
    shown.sort(key=lambda index: (int(standings.ranks[index]), index))
    rows, marks = [], []
    for index in shown:
        is_source = ranking.rows[index].kind == SOURCE
        difference = _difference_to_baseline(table, index, baseline, len(baselines)) if is_source else None
        value, interval = float(standings.values[index]), format_interval(standings.intervals[index], OF_ERRORS)
        name = visible_name(ranking.rows[index].name)
        rows.append([name, f"{value:{OF_ERRORS}}", interval, *difference_texts(difference, OF_ERRORS)])
        marks.append(Mark(value, standings.interval(index), is_reference=not is_source))
    heads = ["model", "error", "95 % CI", "minus the best baseline", "p"]
    return Table(heads, rows, PROBES, marks=marks)


def _difference_to_baseline(table: ScoreTable, index: int, baseline: int, n_baselines: int) -> dict[str, Any]:
    """Return the error of a source minus that of the best of some baselines, as `difference_to_first` returns it."""
    comparison = compare_baseline(table, index, baseline, sources_compared(table), n_baselines)
    return {**_difference(table, index, baseline), "corrected_p_value": comparison.p_value}


def _difference(table: ScoreTable, index: int, other: int) -> dict[str, Any]:
    standings = table.standings
    interval = standings.difference_interval(index, other)
    return {
        "value": plain_values(float(standings.values[index] - standings.values[other])),
        "interval": None if interval is None else list(interval),
        "p_value": plain_values(float(standings.p_values[index, other])),
    }


def _starred_score(ranking: Ranking, table: ScoreTable, index: int) -> str:
    ranks = table.standings.ranks
    controls = ranks[ranking.rows_with_value(CONTROL, table)]
    is_first = table.source_ranks[index] == 1 and (ranks[index] <= controls).all()
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
    for row, reason in zip(ranking.rows, ranking.pilot.table.reasons if ranking.pilot else (), strict=False):
        if reason:
            messages.append(f"{row.name} was not {'fitted' if row.kind == BASELINE else 'fine-tuned'}: {reason}")
    return list(dict.fromkeys(messages))


DIGITS = 4
"""Significant digits of scores and intervals in tables."""
SMALLEST_FIXED = 1e-4
"""Magnitude below which numbers have an exponent."""


def difference_to_first(table: ScoreTable, index: int) -> dict[str, Any] | None:
    """Return the comparison of a row with the first source by one score, as plain values.

    Args:
        table: The score of all rows.
        index: Index of the row.

    Returns:
        `value` (that of the row minus that of the first source), `interval` (95 %, of this comparison alone),
        `p_value` and `corrected_p_value` (by Holm for the number of all pairs). Interval and p-values are None
        where they are unknown; controls and baselines have no corrected p-value. None for the first source itself and
        for rows without a value.
    """
    first = table.first_source
    if first is None or index == first or not table.standings.ranks[index]:
        return None
    corrected = plain_values(float(table.among_sources.corrected_p_values[index]))
    return {**_difference(table, index, first), "corrected_p_value": corrected}


def difference_texts(difference: Mapping[str, Any] | None, style: str = "") -> tuple[str, str]:
    """Return the difference with its interval, and the corrected p-value, as texts. Empty where they are unknown.

    Args:
        difference: Comparison of a row with the first source, as `difference_to_first` returns it.
        style: Format of all numbers; empty for four significant digits.
    """
    if difference is None or difference["interval"] is None:
        return "", ""
    p_value = difference["corrected_p_value"]
    value, interval = difference["value"], difference["interval"]
    shown = f"{value:+{style or _number_style(interval)}} ({format_interval(interval, style)})"
    return shown, "" if p_value is None else format_p_value(p_value)


def format_score(value: float) -> str:
    """Format a score with four significant digits. `-` if there is none."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def format_interval(bounds: Sequence[float], style: str = "") -> str:
    """Format an interval as `low to high`, both with the same number of decimals. Empty if it is unknown."""
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    style = style or _number_style(bounds)
    return f"{low:{style}} to {high:{style}}"


def _number_style(bounds: Sequence[float]) -> str:
    """Return the format that shows the larger bound with four significant digits, and all values alike."""
    magnitude = max(map(abs, bounds))
    if 0 < magnitude < SMALLEST_FIXED:
        return f".{DIGITS}g"
    digits_before_point = math.floor(math.log10(magnitude)) + 1 if magnitude else 1
    return f",.{max(DIGITS - digits_before_point, 0)}f"
