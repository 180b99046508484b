"""Page of a ranking: which source should be transferred to a target."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modgap.answers import Answer
from modgap.formatting import format_value, visible_name
from modgap.ranking.recommendation import Judgment, judgment_answer
from modgap.ranking.score_texts import difference_texts
from modgap.ranking.tables import RAW_VALUES_LABEL
from modgap.ranking.types import RAW_VALUES, SOURCE
from modgap.report_page.class_maps import map_figures
from modgap.report_page.definitions import decided_by, definitions, has_intervals, interval_note
from modgap.report_page.rendering import Scale, answer_in, drawn_table, render_template

__all__ = ["render_ranking"]

MAX_PAIRS = 40
"""Most pairs of the class map of a source that are shown."""


def render_ranking(record: Mapping[str, Any], record_name: str = "ranking.json") -> str:
    """Render the page of a ranking.

    Args:
        record: Record of the ranking, as `modgap.ranking.report.to_dict` makes it.
        record_name: Name of the file that the record comes from.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    rows = [row for row in record["sources"] if row["control_of"] is None]
    controls = {row["control_of"]: row for row in record["sources"] if row["control_of"] is not None}
    names = list(record["score_descriptions"])
    tables = {name: _score_table(record["score_descriptions"][name], name, rows, controls) for name in names}
    answer = answer_in(record, _earlier_answer)
    values = {
        "version": record["provenance"]["modgap"],
        "record_name": record_name,
        "record": record,
        "by": tables.get(decided_by(record)) or _empty_table(record["by"]),
        "decided_by": decided_by(record),
        "tables": tables,
        "rows": [_page_row(row, controls.get(row["source"]), names, record) for row in rows],
        "definitions": definitions(record),
        "interval_note": interval_note(record),
        "has_intervals": has_intervals(record),
        **map_figures(record["sources"]),
        # The other tables of the answer are those above, where the score can be chosen.
        "answer_tables": [drawn_table(table) for table in answer.tables if table.curves],
        "failed_count": sum(bool(row["reason"]) and row["kind"] != RAW_VALUES for row in rows),
        "run_summary": _run_summary(record),
    }
    data = {"by": decided_by(record), "names": [_row_name(row) for row in rows], "tables": tables}
    data["parameters"] = [row["properties"].get("parameters") for row in rows]
    return render_template("ranking.html.j2", answer, values, ("common.js", "ranking.js"), data)


def _earlier_answer(record: Mapping[str, Any]) -> Answer:
    target = record["target"]
    return judgment_answer(Judgment.from_dict(record["verdict"]), target["name"] if target else None)


def _row_name(row: Mapping[str, Any]) -> str:
    return RAW_VALUES_LABEL if row["kind"] == RAW_VALUES else visible_name(row["source"])


def _empty_table(name: str) -> dict[str, Any]:
    return {"label": name, "ends": ["", ""], "better": "", "reference": None, "rows": []}


def _score_table(
    description: Mapping[str, Any], name: str, rows: Sequence[Mapping[str, Any]], controls: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the texts and positions of one score for all rows, for the template and for the script."""
    cells = [(row["scores"][name], _control_score(controls.get(row["source"]), name)) for row in rows]
    reference = description["reference"]
    shown = [value for score, control in cells for value in (score["value"], *score["interval"], control)]
    scale = Scale.of([*shown, reference["value"]] if reference else shown)
    return {
        "label": description["label"],
        "ends": [format_value(scale.low), format_value(scale.high)],
        "better": "better →" if description["higher_is_better"] else "← better",
        "reference": _reference(reference, scale) if reference else None,
        "rows": [_score_cell(score, control, scale.percent) for score, control in cells],
    }


def _reference(reference: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    text = f"{reference['label']}: {format_value(reference['value'])}"
    return {"text": text, "position": scale.percent(reference["value"])}


def _control_score(control: Mapping[str, Any] | None, name: str) -> float | None:
    value: float | None = control["scores"][name]["value"] if control else None
    return value


def _score_cell(score: Mapping[str, Any], control: float | None, percent: Callable[[float], float]) -> dict[str, Any]:
    value = score["value"]
    low, high = score["interval"]
    return {
        "rank": str(score["rank"]) if score["rank"] else "–",
        "letters": score["letters"] or "",
        "value": format_value(value),
        "control": format_value(control),
        "numbers": [value, low, high, control],
        "x": None if value is None else percent(value),
        "low": None if low is None else percent(low),
        "high": None if high is None else percent(high),
        "c": None if control is None else percent(control),
        "reason": (visible_name(score["reason"], 200) if score["reason"] else "") if value is None else "",
    }


def _page_row(
    row: Mapping[str, Any], control: Mapping[str, Any] | None, names: Sequence[str], record: Mapping[str, Any]
) -> dict[str, Any]:
    details = row["report_details"] or {}
    discrepancy = details.get("discrepancy") or None
    kinds = {RAW_VALUES: "raw", SOURCE: "failed" if row["reason"] else "source"}
    return {
        "name": _row_name(row),
        "css_class": kinds.get(row["kind"], "source"),
        "reason": visible_name(row["reason"], 300) if row["reason"] else "",
        "parameters": row["properties"].get("parameters"),
        "scores": [_detail(record["score_descriptions"][name], row, control, name) for name in names],
        "discrepancy": discrepancy,
        "pairs": discrepancy["map"][:MAX_PAIRS] if discrepancy else [],
        "more_pairs": max(len(discrepancy["map"]) - MAX_PAIRS, 0) if discrepancy else 0,
    }


def _detail(
    description: Mapping[str, Any], row: Mapping[str, Any], control: Mapping[str, Any] | None, name: str
) -> dict[str, Any]:
    score = row["scores"][name]
    difference, p_value = difference_texts(score["difference_to_first"])
    return {
        "label": description["label"],
        "arrow": "↑" if description["higher_is_better"] else "↓",
        "value": format_value(score["value"]),
        "interval": [format_value(end) for end in score["interval"] if end is not None],
        "rank": score["rank"],
        "difference": difference,
        "p_value": p_value,
        "control": format_value(_control_score(control, name)),
    }


def _run_summary(record: Mapping[str, Any]) -> str:
    computed = sum(count["computed"] for count in record["jobs"].values())
    cached = sum(count["cached"] for count in record["jobs"].values())
    failed = sum(count.get("failed", 0) for count in record["jobs"].values())
    seconds = sum(record["seconds"].values())
    duration = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"
    failures = f", {failed:,} failed" if failed else ""
    return f"{computed:,} jobs computed, {cached:,} from the cache{failures}; {duration}"
