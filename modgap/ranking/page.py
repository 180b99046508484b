"""Self-contained HTML page of a ranking, made from its record, that can be printed and read on a phone."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError

from modgap.errors import InputError
from modgap.figure_style import COLORS
from modgap.ranking.result_folder import RECORD
from modgap.ranking.types import CONTROL, RAW_VALUES, SOURCE
from modgap.storage.atomic_files import write_text_atomically
from modgap.storage.json_records import read_json

__all__ = ["PAGE", "render", "write_page"]

PAGE = "report.html"
TEMPLATE = "page.html.j2"
MAP_SIDE = 200
"""Side of a t-SNE map in pixels."""
MAP_PADDING = 6
AXIS_MARGIN = 0.06
"""Share of the width of the score axis that is left free on each side."""
MAX_MAPS = 24
"""Most t-SNE maps, each of which adds some 30 kB to the page."""
N_SHAPES = 6
"""Number of marker shapes in the template."""
ROW_CLASSES = {SOURCE: "source", CONTROL: "control", RAW_VALUES: "none"}
"""CSS class of each kind of row."""


def write_page(folder: Path) -> Path:
    """Write report.html beside ranking.json.

    Args:
        folder: Folder that `modgap rank --out` wrote.

    Returns:
        Path of the page.

    Raises:
        InputError: If the folder has no record of a ranking, or if it cannot be written to.
    """
    text = _render_file(folder)
    try:
        write_text_atomically(folder / PAGE, text)
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {error.strerror}.") from error
    return folder / PAGE


def _render_file(folder: Path) -> str:
    path = folder / RECORD
    record = read_json(path)
    if not record:
        raise InputError(f"There is no ranking in {path}. Run `modgap rank --out {folder} ...` to write one.")
    if record.get("kind") != "ranking":
        raise InputError(f"{path} is not the record of a ranking. Pass a folder that `modgap rank --out` wrote.")
    try:
        return render(record)
    except (LookupError, TypeError, ValueError, TemplateError) as error:
        raise InputError(
            f"The record of a ranking in {path} is incomplete or damaged ({error!r}). Run `modgap rank --out {folder} "
            "...` to write it again."
        ) from error


def render(record: Mapping[str, Any]) -> str:
    """Render the page of a ranking.

    Args:
        record: Record of the ranking, as `modgap.ranking.report.to_dict` makes it.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    environment = Environment(
        loader=PackageLoader("modgap.ranking", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _format_number, "count": _format_count, "setting": _format_setting}
    return environment.get_template(TEMPLATE).render(_template_values(record))


def _template_values(record: Mapping[str, Any]) -> dict[str, Any]:
    by = record["by"]
    descriptions = record["score_descriptions"]
    rows = [row for row in record["sources"] if row["properties"]]
    return {
        "record": record,
        "by": by,
        "rows": rows,
        "row_classes": ROW_CLASSES,
        "failed": [row for row in record["sources"] if row["reason"] and row["kind"] != RAW_VALUES],
        "scores": list(rows[0]["scores"]) if rows else [],
        "descriptions": descriptions,
        "describe": lambda name: _describe_score(descriptions[name]),
        "axis": _axis([row["scores"][by] for row in rows]),
        "maps": [(row, _map_points(row["report_details"]["map"])) for row in rows if _has_map(row)][:MAX_MAPS],
        "side": MAP_SIDE,
        "colors": COLORS,
        "with_discrepancy": [row for row in rows if row["report_details"] and row["report_details"]["discrepancy"]],
    }


def _describe_score(description: Mapping[str, Any]) -> str:
    """Return a score's title, unit and direction in one line."""
    unit = f" ({description['unit']})" if description["unit"] else ""
    direction = "higher" if description["higher_is_better"] else "lower"
    return f"{description['title']}{unit}; {direction} is better"


def _format_number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.{digits}g}"


def _format_count(value: int) -> str:
    return f"{value:,}"


def _format_setting(value: Any) -> str:
    """Format a setting: yes or no, lists with commas, and an en dash for None."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "default"
    return "–" if value is None else str(value)


def _axis(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the lowest and highest value of the axis, and a function from values to percent of its width."""
    values = [v for score in scores for v in (score["value"], *score["interval"]) if v is not None]
    low = min(values, default=0.0)
    high = max(values, default=1.0)
    span = (high - low) or 1.0

    def percent(value: float) -> str:
        return f"{100 * (AXIS_MARGIN + (1 - 2 * AXIS_MARGIN) * (value - low) / span):.2f}"

    return {"low": low, "high": high, "percent": percent}


def _has_map(row: Mapping[str, Any]) -> bool:
    return bool(row["report_details"] and row["report_details"]["map"]["coordinates"])


def _map_points(tsne_map: Mapping[str, Any]) -> list[tuple[float, float, int, int]]:
    """Return position in pixels, color and shape of each sample. Shapes distinguish classes of the same color."""
    coordinates = tsne_map["coordinates"]
    reach = max(max(abs(x), abs(y)) for x, y in coordinates) or 1.0
    center = MAP_SIDE / 2
    scale = (center - MAP_PADDING) / reach
    return [
        (round(center + x * scale, 1), round(center - y * scale, 1), label % len(COLORS), label % N_SHAPES)
        for (x, y), label in zip(coordinates, tsne_map["labels"], strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
