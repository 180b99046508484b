"""Rendering of pages: templates, filters, styles, and the one script that the content security policy allows."""

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from modgap.formatting import format_value, visible_name

__all__ = ["Card", "Row", "Scale", "capitalize", "command_line", "format_size", "render_template"]

PACKAGE = "modgap.report_page"
ICONS = {"pass": "Passed", "warn": "Warning", "fail": "Failed", "info": "Note"}
"""Text alternative of the icon of each status."""
MARGIN = 4.0
"""Share of the width of an axis that is left free on each side, in percent."""


@dataclass(frozen=True)
class Row:
    """A labeled status with a sentence, for the card of a page.

    Attributes:
        title: Question or name of the check.
        label: Answer in one or two words. Empty for a check.
        status: `pass`, `warn`, `fail` or `info`.
        text: One or two sentences.
    """

    title: str
    label: str
    status: str
    text: str


@dataclass(frozen=True)
class Card:
    """The card at the top of a page, which answers the question of the page.

    Attributes:
        headline: The answer.
        confidences: Two rows with the answers to two separate questions.
        checks: Checks, failed ones first.
        next_step: Sentence that says what to do. Empty if there is nothing to do.
        commands: Lines to paste into a shell.
    """

    headline: str
    confidences: Sequence[Row]
    checks: Sequence[Row] = ()
    next_step: str = ""
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Scale:
    """Axis from the lowest to the highest of some values.

    Attributes:
        low: Lowest value.
        high: Highest value.
    """

    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Scale":
        """Return the axis that shows these values. Unknown values are left out."""
        numbers = [value for value in values if value is not None]
        return cls(min(numbers, default=0.0), max(numbers, default=1.0))

    def percent(self, value: float) -> float:
        """Return the position of a value in percent of the width."""
        span = (self.high - self.low) or 1.0
        return round(MARGIN + (100 - 2 * MARGIN) * (value - self.low) / span, 2)


def render_template(
    template: str,
    values: Mapping[str, Any],
    scripts: Sequence[str] = (),
    data: Any = None,
    styles: Sequence[str] = ("page.css",),
) -> str:
    """Render a page.

    Args:
        template: File name of the template.
        values: Values of the template.
        scripts: File names of the parts of the script. Empty for a page without a script.
        data: Plain values that the script reads.
        styles: File names of the style sheets.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    environment = Environment(
        loader=PackageLoader(PACKAGE, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_value,
        "count": _format_count,
        "name": visible_name,
        "size": format_size,
        "setting": _format_setting,
    }
    script_text = "".join(map(_read, scripts))
    return environment.get_template(template).render(
        **values,
        icons=ICONS,
        style="".join(map(_read, styles)),
        script=script_text,
        script_hash=_script_hash(script_text),
        # A `<` in the data could end the element that holds it.
        data=json.dumps(data, allow_nan=False, ensure_ascii=True).replace("<", "\\u003c") if scripts else "",
    )


def capitalize(text: str) -> str:
    """Return a text with a capital at its start, unless it starts with the k of k-NN."""
    return text if text.startswith("k-") else text[:1].upper() + text[1:]


def command_line(*arguments: str) -> str:
    """Return a command that can be pasted into a shell. Empty if a name in it cannot be shown unchanged."""
    return shlex.join(arguments) if all(visible_name(text) == text for text in arguments) else ""


def _read(name: str) -> str:
    return files(PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _script_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _format_count(value: int) -> str:
    return f"{value:,}"


def format_size(value: int | None) -> str:
    """Return a number of parameters in a few characters, such as `5.4 M`."""
    if not value:
        return "–"
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= unit:
            return f"{value / unit:.0f} {name}" if value >= 100 * unit else f"{value / unit:.1f} {name}"
    return str(value)


def _format_setting(value: Any) -> str:
    """Format a setting: yes or no, lists with commas, and an en dash for None."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format_setting(entry)}" for name, entry in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(visible_name(str(entry)) for entry in value) or "default"
    return "–" if value is None else visible_name(str(value))
