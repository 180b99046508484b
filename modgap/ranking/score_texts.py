"""Scores, intervals and differences as texts of tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modgap.formatting import format_p_value
from modgap.ranking.types import ScoreTable
from modgap.storage.json_records import plain_values

__all__ = ["difference_texts", "difference_to_first", "format_interval", "format_score"]

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
        where they are unknown; controls and raw values have no corrected p-value. None for the first source itself and
        for rows without a value.
    """
    first = table.first_source
    if first is None or index == first or not table.standings.ranks[index]:
        return None
    standings = table.standings
    ends = standings.difference_intervals[index, first].tolist()
    return {
        "value": plain_values(float(standings.values[index] - standings.values[first])),
        "interval": ends if np.isfinite(ends).all() else None,
        "p_value": plain_values(float(standings.p_values[index, first])),
        "corrected_p_value": plain_values(float(table.among_sources.corrected_p_values[index])),
    }


def difference_texts(difference: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the difference with its interval, and the corrected p-value, as texts. Empty where they are unknown.

    Args:
        difference: Comparison of a row with the first source, as `difference_to_first` returns it.
    """
    if difference is None or difference["interval"] is None:
        return "", ""
    p_value = difference["corrected_p_value"]
    shown = (
        f"{difference['value']:+{_number_style(difference['interval'])}} ({format_interval(difference['interval'])})"
    )
    return shown, "" if p_value is None else format_p_value(p_value)


def format_score(value: float) -> str:
    """Format a score with four significant digits. `-` if there is none."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def format_interval(bounds: Sequence[float]) -> str:
    """Format an interval as `low to high`, both with the same number of decimals. Empty if it is unknown."""
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    style = _number_style(bounds)
    return f"{low:{style}} to {high:{style}}"


def _number_style(bounds: Sequence[float]) -> str:
    """Return the format that shows the larger bound with four significant digits, and all values alike."""
    magnitude = max(map(abs, bounds))
    if 0 < magnitude < SMALLEST_FIXED:
        return f".{DIGITS}g"
    digits_before_point = math.floor(math.log10(magnitude)) + 1 if magnitude else 1
    return f",.{max(DIGITS - digits_before_point, 0)}f"
