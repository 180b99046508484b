"""A ranking as a record (strict JSON), as CSV, and as lines of a table."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from modgap.ranking.recommendation import recommendation
from modgap.ranking.types import SOURCE, Ranking, RankRequest, ScoreTable, SourceRow
from modgap.storage.json_records import format_json, plain_values

__all__ = ["reasons", "score_rows", "table_rows", "to_csv", "to_dict", "to_json"]

SCHEMA = 1
LIBRARIES = ("torch", "timm", "transformers", "numpy", "scipy", "scikit-learn", "openTSNE")


def table_rows(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: the rank with its interval, and the score that decides with its own.

    A source that is not told apart from the first has `=` after its rank; `p better` is the probability of being better
    than the first.
    """
    by = ranking.tables[ranking.by]
    heads = ["rank", "95 %", "source", ranking.by, "95 %", "p better"]
    return heads, [_line(ranking, by, number) for number in ranking.order()]


def _line(ranking: Ranking, by: ScoreTable, number: int) -> list[str]:
    row, place = ranking.rows[number], int(by.sources[number])
    kind = "" if row.kind == SOURCE else row.kind
    tied = number in first_ties(by)
    low, high = by.rank_intervals[number]
    return [
        f"{place}{'=' if tied else ''}" if place else kind or "-",
        f"{low}-{high}" if place and low else "",
        row.name,
        shown(by.all.values[number]),
        interval(by.all.intervals[number]),
        probability(ranking, number),
    ]


def score_rows(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: the other scores of every source, in the order of the ranking; those that none has are left out.

    An arrow says a score's direction, a star which of the sources it would put first.
    """
    others = [t for name, t in ranking.tables.items() if name != ranking.by and np.isfinite(t.all.values).any()]
    heads = ["source", *(f"{table.name} {'↑' if table.higher_is_better else '↓'}" for table in others)]
    return heads, [
        [ranking.rows[n].name, *(shown(t.all.values[n]) + ("*" if t.sources[n] == 1 else "") for t in others)]
        for n in ranking.order()
    ]


def first_ties(table: ScoreTable) -> set[int]:
    """Numbers of the sources that are not told apart from the first, itself among them if there are any."""
    firsts = np.flatnonzero(table.sources == 1)
    if not len(firsts):
        return set()
    tied = {int(n) for first in firsts for n in table.all.tied_with(int(first)) if table.sources[n]} | set(
        firsts[1:].tolist()
    )
    return tied | set(firsts.tolist()) if tied else set()


def probability(ranking: Ranking, number: int) -> str:
    """Probability that a source is better than the one that stands first; `-` where unknown."""
    table = ranking.tables[ranking.by]
    firsts = np.flatnonzero(table.sources == 1)
    if not len(firsts) or number == firsts[0] or not np.isfinite(table.all.beats[number, firsts[0]]):
        return "-"
    return f"{table.all.beats[number, firsts[0]]:.2f}"


def shown(value: float) -> str:
    """A score's value, four digits; `-` for none."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def interval(bounds: Sequence[float]) -> str:
    """Low and high; nothing where there are none."""
    low, high = bounds
    return f"{low:.4g} to {high:.4g}" if math.isfinite(low) and math.isfinite(high) else ""


def reasons(ranking: Ranking) -> list[str]:
    """Why what was asked for has no value by the score that decides, the same reason once."""
    named: dict[str, list[tuple[str, str]]] = {}
    for number, row in enumerate(ranking.rows):
        if row.asked and (reason := ranking.reason(number)):
            plain = row.name.removeprefix("timm:").removeprefix("hf:")
            named.setdefault(reason.replace(plain, ""), []).append((row.name, reason))
    return [
        f"{rows[0][0]}{f' and {len(rows) - 1} more' if len(rows) > 1 else ''}: {rows[0][1]}" for rows in named.values()
    ]


def to_dict(ranking: Ranking) -> dict[str, Any]:
    """The documented record, of plain values."""
    return {
        "schema": SCHEMA,
        "kind": "ranking",
        "target": asdict(ranking.target) if ranking.target else None,
        "by": ranking.by,
        "sources": [_row(ranking, number) for number in ranking.order()],
        "pairs": _pairs(ranking),
        "recommendation": recommendation(ranking),
        "request": _request_record(ranking.request),
        "jobs": {stage: {"done": now, "found done": before} for stage, (now, before) in ranking.jobs.items()},
        "seconds": {stage: round(value, 3) for stage, value in ranking.seconds.items()},
        "provenance": {"modgap": ranking.version, **_versions()},
    }


def _versions() -> dict[str, str]:
    import platform
    from importlib import metadata

    found = {name: metadata.version(name) for name in LIBRARIES}
    return {**found, "python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}


def _row(ranking: Ranking, number: int) -> dict[str, Any]:
    row = ranking.rows[number]
    return {
        "source": row.name,
        "kind": row.kind,
        "asked": row.asked,
        "reason": ranking.reason(number) or None,
        "rank": int(ranking.tables[ranking.by].sources[number]) or None,
        "tied_with_first": number in first_ties(ranking.tables[ranking.by]),
        "facts": plain_values(row.facts),
        "scores": {name: _score(table, number) for name, table in ranking.tables.items()},
        "details": _details(row),
        "provenance": plain_values(row.provenance),
    }


def _score(table: ScoreTable, number: int) -> dict[str, Any]:
    low, high = (int(bound) for bound in table.rank_intervals[number])
    return {
        "value": plain_values(float(table.all.values[number])),
        "interval": plain_values(table.all.intervals[number].tolist()),
        "higher_is_better": table.higher_is_better,
        "rank": int(table.sources[number]) or None,
        "rank_interval": [low, high] if low else None,
        "reason": table.reasons[number] or None,
    }


def _pairs(ranking: Ranking) -> list[dict[str, Any]]:
    """Probability that a row is better than another by the score that decides, each pair once."""
    table, order = ranking.tables[ranking.by], ranking.order()
    return [
        {"better": ranking.rows[a].name, "than": ranking.rows[b].name, "probability": round(float(chance), 4)}
        for place, a in enumerate(order)
        for b in order[place + 1 :]
        if math.isfinite(chance := table.all.beats[a, b])
    ]


def _details(row: SourceRow) -> dict[str, Any] | None:
    if row.details is None:
        return None
    return {
        "discrepancy": plain_values(row.details.discrepancy),
        "map": {"coordinates": row.details.coordinates.round(3).tolist(), "labels": row.details.labels.tolist()},
    }


def to_json(ranking: Ranking) -> str:
    """One strict JSON document: no NaN, no Infinity."""
    return format_json(to_dict(ranking))


def _request_record(request: RankRequest) -> dict[str, Any]:
    """Return the request as a flat record for JSON."""
    record = asdict(request)
    samples = record.pop("samples")
    return plain_values({**record, **samples})


def to_csv(ranking: Ranking) -> str:
    """A line a row, a column a score with its interval."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    ends = [f"{name}{end}" for name in ranking.tables for end in ("", " low", " high")]
    writer.writerow(["rank", "source", "kind", "parameters", *ends, "reason"])
    writer.writerows(_csv_line(ranking, number) for number in ranking.order())
    return buffer.getvalue()


def _csv_line(ranking: Ranking, number: int) -> Iterator[Any]:
    row = ranking.rows[number]
    yield int(ranking.tables[ranking.by].sources[number]) or ""
    yield from (row.name, row.kind, row.facts.get("parameters", ""))
    for table in ranking.tables.values():
        for value in (table.all.values[number], *table.all.intervals[number]):
            yield repr(float(value)) if math.isfinite(value) else ""
    yield ranking.reason(number)
