"""Tables of measured values on one axis, which the pages of discrepancies and distortions show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modgap.formatting import format_error
from modgap.report_page.rendering import Scale

__all__ = ["Measurement", "measurement_table", "p_number", "p_text", "value_with_interval"]

NO_BREAK = "\xa0"
"""A space at which a line is not broken."""
SMALLEST_P = 0.001
"""p-values below this one are not shown as numbers."""


@dataclass(frozen=True)
class Measurement:
    """A value with its interval, for one row of a table.

    Attributes:
        label: Name of the row.
        value: The value.
        interval: Lower and upper end of the interval. None if it is unknown.
        is_reference: True for a level to compare with, which is drawn as a square.
        is_open: True for a value that is not significantly better than its level, which is drawn as an open circle.
        level: Level of this row alone, which is drawn as a short line. None for none.
        cells: Texts of further columns.
    """

    label: str
    value: float
    interval: Sequence[float | None] | None = None
    is_reference: bool = False
    is_open: bool = False
    level: float | None = None
    cells: Sequence[str] = ()


def measurement_table(
    title: str,
    heads: Sequence[str],
    measurements: Sequence[Measurement],
    note: str = "",
    reference: float | None = None,
) -> dict[str, Any]:
    """Return the texts and positions of a table for the template `measurements.html.j2`.

    Args:
        title: Title of the table.
        heads: Head of the label, head of the value and heads of further columns.
        measurements: The rows.
        note: Sentence below the table.
        reference: Value at which a dashed line is drawn. None for no line.
    """
    ends = [end for one in measurements for end in (one.interval or ())]
    scale = Scale.of([*(one.value for one in measurements), *(one.level for one in measurements), *ends, reference])
    return {
        "title": title,
        "heads": heads,
        "note": note,
        "low": format_error(scale.low),
        "high": format_error(scale.high),
        "reference": None if reference is None else scale.percent(reference),
        "rows": [_table_row(one, scale) for one in measurements],
    }


def _table_row(measurement: Measurement, scale: Scale) -> dict[str, Any]:
    ends = _known_interval(measurement.interval)
    return {
        "label": measurement.label,
        "value": format_error(measurement.value),
        "interval": _interval_text(ends),
        "is_reference": measurement.is_reference,
        "is_open": measurement.is_open,
        "level": None if measurement.level is None else scale.percent(measurement.level),
        "position": scale.percent(measurement.value),
        "low": scale.percent(ends[0]) if ends else None,
        "high": scale.percent(ends[1]) if ends else None,
        "cells": list(measurement.cells),
    }


def _known_interval(interval: Sequence[float | None] | None) -> tuple[float, float] | None:
    if interval is None:
        return None
    low, high = interval
    return None if low is None or high is None else (low, high)


def _interval_text(interval: tuple[float, float] | None) -> str:
    return f"{format_error(interval[0])} to {format_error(interval[1])}" if interval else ""


def value_with_interval(value: float, interval: Sequence[float | None] | None) -> str:
    """Return a value, followed by its 95 % interval in parentheses if it is known."""
    text = _interval_text(_known_interval(interval))
    return f"{format_error(value)} (95 % CI {text})" if text else format_error(value)


def p_text(p_value: float) -> str:
    """Return a p-value as text, such as `p = 0.01` or `p < 0.001`."""
    number = p_number(p_value)
    return f"p{NO_BREAK}{number}" if number.startswith("<") else f"p{NO_BREAK}={NO_BREAK}{number}"


def p_number(p_value: float) -> str:
    """Return a p-value as a number, such as `0.01` or `< 0.001`."""
    return f"{p_value:.2g}" if p_value >= SMALLEST_P else f"<{NO_BREAK}{SMALLEST_P}"
