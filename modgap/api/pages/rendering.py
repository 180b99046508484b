"""Rendering of pages: templates, filters, styles, and the one script that the content security policy allows."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from modgap.answers import Answer, Curve, Mark, Table
from modgap.answers.formatting import format_error, format_value, known_interval
from modgap.errors import visible_name
from modgap.storage.json_records import Record

PACKAGE = "modgap.api.pages"
ICONS = {"pass": "Passed", "warn": "Warning", "fail": "Failed", "info": "Note"}
"""Text alternative of the icon of each status."""
MARGIN = 4.0
"""Share of the width of an axis that is left free on each side, in percent."""
CURVE_SIZE = (200, 44)
PADDING = 4
"""Size of a curve in its own units, and the space around it."""
MOST_COLUMNS = 11
"""Most columns of a table of numbers that fit on a phone."""
LARGE = 100
"""Value from which the end of an axis has fewer than three decimals."""
LONGEST_HEADS = 90
"""Most characters of all heads of a table that fit beside each other."""


def axis_of(values: Sequence[float | None]) -> tuple[float, float, Callable[[float], float]]:
    """Return the ends of an axis for values, without unknown ones, and the position of a value in percent of it."""
    numbers = [value for value in values if value is not None]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    span = (high - low) or 1.0
    return low, high, lambda value: round(MARGIN + (100 - 2 * MARGIN) * (value - low) / span, 2)


def drawn_table(table: Table) -> dict[str, object]:
    """Return a table with the positions of its marks and curves, for the macro `drawn` of the templates."""
    marks_shown = [mark for mark in table.marks if mark]
    ends = [end for m in marks_shown for end in (m.value, m.level, *(m.interval or ()), *(m.before or ()))]
    low, high, percent = axis_of([*ends, table.reference])
    marks = [one and _drawn_mark(one, percent) for one in table.marks] or [None] * len(table.rows)
    curves = [one and _drawn_curve(one) for one in table.curves] or [None] * len(table.rows)
    shares = table.shares or [()] * len(table.rows)
    return {
        "table": table,
        "kind": "marks" if table.marks else "curves" if table.curves else "shares" if table.shares else "text",
        "ends": tuple(_axis_end(end, table) for end in (low, high)),
        "reference": None if table.reference is None else percent(table.reference),
        "rows": list(zip(table.rows, marks, curves, shares, strict=True)),
        "is_many": len(table.columns) > MOST_COLUMNS,
        "is_tall": sum(map(len, table.columns[1:])) > LONGEST_HEADS,
    }


def _axis_end(value: float, table: Table) -> str:
    """Return an end of the axis of a table's marks, with the unit that the values in the table have."""
    shown = [row[1] for row, mark in zip(table.rows, table.marks, strict=False) if mark]
    if shown and all(cell.endswith(" %") for cell in shown):
        return f"{value:.3g} %"
    return format_error(value) if abs(value) < LARGE else format_value(value)


def _drawn_mark(mark: Mark, percent: Callable[[float], float]) -> dict[str, object]:
    interval = known_interval(mark.interval)
    return {
        "position": percent(mark.value),
        "low": interval and percent(interval[0]),
        "high": interval and percent(interval[1]),
        "level": None if mark.level is None else percent(mark.level),
        "before": mark.before and [percent(end) for end in mark.before],
        "is_reference": mark.is_reference,
        "is_open": mark.is_open,
        "is_chosen": mark.is_chosen,
    }


def _drawn_curve(curve: Curve) -> dict[str, object]:
    upper = [_point(x, high) for x, (_, high) in zip(curve.x, curve.band, strict=False)]
    lower = [_point(x, low) for x, (low, _) in zip(curve.x, curve.band, strict=False)]
    return {
        "line": " ".join(map(_point, curve.x, curve.y)),
        "band": " ".join([*upper, *reversed(lower)]),
        "chosen": None if curve.chosen is None else _point(curve.chosen, 0).split(",")[0],
    }


def _point(x: float, y: float) -> str:
    """Return a point of a curve, as an SVG polyline takes it; the page stretches the curve to the width of its cell."""
    width, height = (side - 2 * PADDING for side in CURVE_SIZE)
    return f"{PADDING + width * x:.1f},{CURVE_SIZE[1] - PADDING - height * y:.1f}"


def render_template(
    template: str,
    answer: Answer,
    values: Mapping[str, object],
    scripts: Sequence[str] = (),
    data: object = None,
    styles: Sequence[str] = ("page.css",),
) -> str:
    """Render a page.

    Args:
        template: File name of the template.
        answer: The answer, which is the title and the card of the page.
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
        "count": "{:,}".format,
        "name": visible_name,
        "size": format_parameter_count,
        "setting": _format_setting,
    }
    script_text = "".join(map(_read, scripts))
    # A `<` in the data could end the element that holds it.
    data_text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return environment.get_template(template).render(
        **values,
        answer=answer,
        icons=ICONS,
        style="".join(map(_read, styles)),
        script=script_text,
        script_hash=base64.b64encode(hashlib.sha256(script_text.encode()).digest()).decode(),
        data=data_text if scripts else "",
    )


def render_answer(
    answer: Answer,
    record: Record,
    record_name: str,
    definitions: Sequence[tuple[str, str]],
    run_summary: str,
    settings: Sequence[tuple[str, object]],
    tables: Sequence[Table] = (),
) -> str:
    """Render the page of an answer with its tables.

    Args:
        answer: The answer.
        record: Record of the result.
        record_name: Name of the file that the record comes from.
        definitions: Terms, each with one or two sentences.
        run_summary: Size and time of the run in a few words.
        settings: Name and value of each setting.
        tables: Tables before those of the answer.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    values = {
        "version": record["provenance"].get("modgap", "(unknown version)"),
        "record_name": record_name,
        "tables": [drawn_table(table) for table in (*tables, *answer.tables) if table.rows],
        "definitions": definitions,
        "run_summary": run_summary,
        "settings": settings,
    }
    return render_template("answer.html.j2", answer, values)


def capitalize(text: str) -> str:
    """Return a text with a capital at its start, unless it starts with the k of k-NN."""
    return text if text.startswith("k-") else text[:1].upper() + text[1:]


def _read(name: str) -> str:
    return files(PACKAGE).joinpath(name).read_text(encoding="utf-8")


def format_parameter_count(value: int | None) -> str:
    """Return a number of parameters in a few characters, such as `5.4 M`."""
    if not value:
        return "–"
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= unit:
            return f"{value / unit:.0f} {name}" if value >= 100 * unit else f"{value / unit:.1f} {name}"
    return str(value)


def _format_setting(value: object) -> str:
    """Format a setting: yes or no, lists with commas, and an en dash for None."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format_setting(entry)}" for name, entry in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(visible_name(str(entry)) for entry in value) or "default"
    return "–" if value is None else visible_name(str(value))
