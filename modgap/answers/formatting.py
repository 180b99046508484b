"""Numbers of results formatted for people, and the cells of CSV files."""

import math
import re
from collections.abc import Callable, Iterable, Sequence

SMALLEST_P = 0.001
"""p-values below this one are not shown as numbers."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Characters at which a spreadsheet takes a text for a formula."""
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan)", re.IGNORECASE)
APOSTROPHE = "'"
QUOTED = frozenset(',"\n\r')
"""Characters because of which a cell of a CSV file is in quotation marks."""


def format_value(value: float | None) -> str:
    """Format a score or an error with three decimals and a true minus sign. A dash stands for an unknown value.

    Example:
        >>> format_value(0.5219), format_value(-2.3), format_value(21_300.4), format_value(None)
        ('0.522', '−2.300', '21,300', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size >= 100:
        text = f"{value:.1f}"
    else:
        text = f"{value:.2g}" if 0 < size < 0.001 else f"{value:.3f}"
    return text.replace("-", "−")


def format_error(value: float | None) -> str:
    """Format an error rate, or a difference of two, with three decimals and a true minus sign.

    Example:
        >>> format_error(0.5219), format_error(-0.00056), format_error(-0.0003), format_error(None)
        ('0.522', '−0.001', '0.000', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    rounded = round(value, 3)
    return f"{rounded or 0.0:.3f}".replace("-", "−")


def format_p_value(p_value: float | None) -> str:
    """Format a p-value with three decimals; a dash stands for none.

    Example:
        >>> format_p_value(0.03124), format_p_value(0.0000012), format_p_value(None)
        ('0.031', '<0.001', '-')
    """
    if p_value is None:
        return "-"
    return f"{p_value:.3f}" if p_value >= SMALLEST_P else f"<{SMALLEST_P}"


def format_difference(difference: float, decimals: int = 2) -> str:
    """Format a difference with its sign and a true minus sign; a dash stands for an unknown one.

    Example:
        >>> format_difference(0.118), format_difference(-0.2, 1), format_difference(0.0), format_difference(math.nan)
        ('+0.12', '−0.2', '0.00', '–')
    """
    if math.isnan(difference):
        return "–"
    sign = "+" if difference else ""
    return f"{difference or 0.0:{sign}.{decimals}f}".replace("-", "−")


def p_value_text(p_value: float) -> str:
    """Return a p-value as it stands in a sentence.

    Example:
        >>> p_value_text(0.0312), p_value_text(0.0000012)
        ('p = 0.031', 'p < 0.001')
    """
    return f"p = {p_value:.2g}" if p_value >= SMALLEST_P else f"p < {SMALLEST_P}"


def format_interval(
    interval: Sequence[float] | None, number: Callable[[float], str] = "{:.3f}".format, between: str = " to "
) -> str:
    """Format the ends of an interval; a dash stands for none.

    Args:
        interval: Low and high end.
        number: Function that formats an end.
        between: Text between the ends.

    Example:
        >>> format_interval((0.25, 1 / 3)), format_interval((-1, 2), format_value, "..."), format_interval(None)
        ('0.250 to 0.333', '−1.000...2.000', '-')
    """
    return between.join(map(number, interval)) if interval else "-"


def confidence_interval(
    interval: Sequence[float] | None, number: Callable[[float], str] = "{:.3f}".format, between: str = " to "
) -> str:
    """Format a 95 % interval in parentheses, with a blank before them, as `format_interval` does; empty for none."""
    return f" (95 % CI {format_interval(interval, number, between)})" if interval else ""


def known_interval(ends: Sequence[float | None] | None) -> tuple[float, float] | None:
    """Return the interval that a record has; None if it has none, or an end of it is missing."""
    low, high = ends or (None, None)
    return None if low is None or high is None else (low, high)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as the text of a CSV file. Every CSV file of modgap is written here.

    A text that a spreadsheet would run as a formula has an apostrophe before it, which `plain_text` removes. Numbers,
    and texts that are numbers or one character, have none.

    Args:
        rows: Cells of each row: texts, numbers, and None for empty cells.

    Example:
        >>> print(csv_text([["class", "error"], ["=1+1", -0.5], ["cat", "-0.5"]]), end="")
        class,error
        '=1+1,-0.5
        cat,-0.5
    """
    return "".join(f"{','.join(map(_csv_cell, row))}\n" for row in rows)


def _csv_cell(value: object) -> str:
    text = "" if value is None else str(value)
    if isinstance(value, str) and _is_formula(text.lstrip(APOSTROPHE)) and not NUMBER.fullmatch(text):
        text = f"{APOSTROPHE}{text}"
    # The csv module of Python 3.12 leaves a carriage return without quotes, which ends the row for readers.
    return '"{}"'.format(text.replace('"', '""')) if QUOTED & set(text) else text


def plain_text(cell: str) -> str:
    """Return the text that `csv_text` wrote as a cell.

    Example:
        >>> plain_text("'=1+1"), plain_text("''=1+1"), plain_text("'til"), plain_text("-1")
        ('=1+1', "'=1+1", "'til", '-1')
    """
    return cell[1:] if cell.startswith(APOSTROPHE) and _is_formula(cell.lstrip(APOSTROPHE)) else cell


def _is_formula(text: str) -> bool:
    # A sign alone, such as a class `+`, is none.
    return len(text) > 1 and text.startswith(FORMULA_STARTS)
