"""Numbers and names formatted for people."""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = [
    "confidence_interval",
    "count",
    "csv_text",
    "format_bytes",
    "format_duration",
    "format_error",
    "format_interval",
    "format_p_value",
    "format_value",
    "plain_text",
    "printable",
    "visible_name",
]

UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
SMALLEST_P = 0.001
"""p-values below this one are not shown as numbers."""
LONGEST_NAME = 80
"""Number of characters above which a name is shortened."""
HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories of control, direction, private and unassigned characters and line separators."""
TERMINAL_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, of bytes that are no text, and of line separators."""
DIRECTION_CHARACTERS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that change the direction of the text after them."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Characters at which a spreadsheet takes a text for a formula."""
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan)", re.IGNORECASE)
APOSTROPHE = "'"
QUOTED = frozenset(',"\n\r')
"""Characters because of which a cell of a CSV file is in quotation marks."""


def format_bytes(size: int) -> str:
    """Format a number of bytes with a decimal unit.

    Example:
        >>> format_bytes(26_100_000_000), format_bytes(2_400_000), format_bytes(1_500), format_bytes(1)
        ('26.1 GB', '2.4 MB', '1.5 kB', '1 byte')
    """
    for unit, name in UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return count(size, "byte")


def format_duration(seconds: float) -> str:
    """Format a time in its largest fitting unit.

    Example:
        >>> format_duration(12.3), format_duration(600), format_duration(9000)
        ('12 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Format a number of things, with the noun in the singular for one.

    Args:
        number: Number of things.
        singular: The noun in the singular.
        plural: The noun in the plural; None appends an s.

    Example:
        >>> count(1, "entry", "entries"), count(0, "entry", "entries"), count(1200, "sample")
        ('1 entry', '0 entries', '1,200 samples')
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


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


def visible_name(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name that is safe to show: hidden characters as their numbers, and long names shortened in the middle.

    Args:
        name: Name that comes from a user or a model hub.
        longest: Largest number of characters.

    Example:
        >>> visible_name("vit" + chr(0x202E) + "b"), visible_name("abcdefghij", 7)
        ('vit‹U+202E›b', 'abc…hij')
    """
    shown = "".join(_visible_character(character) for character in name)
    if len(shown) <= longest:
        return shown
    kept = longest - 1
    return f"{shown[: kept - kept // 2]}…{shown[len(shown) - kept // 2 :]}"


def printable(text: str, *, lines: bool = False) -> str:
    """Return text that a terminal shows as it is: control characters and those that change the direction as numbers.

    A class name, a path or an error may contain them. They would move the cursor, change the title of the window, write
    to the clipboard, or show a name in another order.

    Args:
        text: Text, any part of which may come from data, from a host or from a library.
        lines: True to keep line breaks and tabs.

    Example:
        >>> printable("cat" + chr(27) + "[2J"), printable("a" + chr(10) + "b"), printable("naïve 猫")
        ('cat‹U+001B›[2J', 'a‹U+000A›b', 'naïve 猫')
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown_character(character, lines) for character in text)


def _shown_character(character: str, lines: bool) -> str:
    if lines and character in "\n\t":
        return character
    hidden = unicodedata.category(character) in TERMINAL_CATEGORIES or character in DIRECTION_CHARACTERS
    return f"‹U+{ord(character):04X}›" if hidden else character


def _visible_character(character: str) -> str:
    hidden = unicodedata.category(character) in HIDDEN_CATEGORIES
    return f"‹U+{ord(character):04X}›" if hidden else character


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as the text of a CSV file. Every CSV file of modgap is written here.

    A text that a spreadsheet would run as a formula has an apostrophe before it, which `plain_text` removes. Numbers,
    and texts that are numbers, have none.

    Args:
        rows: Cells of each row: texts, numbers, and None for empty cells.

    Example:
        >>> print(csv_text([["class", "error"], ["=1+1", -0.5], ["cat", "-0.5"]]), end="")
        class,error
        '=1+1,-0.5
        cat,-0.5
    """
    return "".join(f"{','.join(map(_csv_cell, row))}\n" for row in rows)


def _csv_cell(value: Any) -> str:
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
    return text.startswith(FORMULA_STARTS)
