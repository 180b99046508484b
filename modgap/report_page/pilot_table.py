"""Table of the short fine-tuning of the first sources on the page of a ranking."""

from collections.abc import Mapping
from typing import Any

from modgap.formatting import format_error, visible_name
from modgap.ranking.raw_values import RAW
from modgap.ranking.report import NEIGHBORS_LABEL
from modgap.ranking.score_texts import difference_texts

__all__ = ["pilot_table"]


def pilot_table(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the numbers of epochs and samples, and a row for each source that was fine-tuned; None if none was.

    Args:
        record: Record of a ranking; those of earlier versions have no pilot.
    """
    pilot = record.get("pilot")
    if not pilot or not (pilot["sources"] or pilot["failures"]):
        return None
    measured = [*pilot["sources"], *pilot.get("controls", [])]
    neighbors = [{**one, "source": NEIGHBORS_LABEL} for one in pilot.get("raw_values", [])]
    rows = [_row(one) for one in [*measured, *neighbors]]
    failures = [_failed_row(name, reason) for name, reason in pilot["failures"].items()]
    return {**pilot, "rows": [*rows, *failures]}


def _row(source: Mapping[str, Any]) -> dict[str, str]:
    low, high = source["interval"]
    interval = "" if low is None or high is None else f" ({format_error(low)} to {format_error(high)})"
    difference, p_value = difference_texts(source["difference_to_first"])
    return {
        "name": visible_name(source["source"]),
        "error": f"{format_error(source['value'])}{interval}",
        "difference": difference.replace("-", "−"),
        "p_value": p_value,
        "reason": "",
    }


def _failed_row(name: str, reason: str) -> dict[str, str]:
    shown = NEIGHBORS_LABEL if name == RAW else visible_name(name)
    return {"name": shown, "error": "–", "difference": "", "p_value": "", "reason": visible_name(reason, 200)}
