"""One self-contained HTML page of a ranking, from its record; good to print and to read on a phone."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError

from modgap.errors import InputError
from modgap.figure_style import COLORS
from modgap.ranking.result_folder import RECORD
from modgap.storage.atomic_files import write_text_atomically
from modgap.storage.json_records import read_json

__all__ = ["PAGE", "render", "write_page"]

PAGE = "report.html"
TEMPLATE = "page.html.j2"
THUMBNAIL = 200
"""Side of a map, in pixels."""
MARGIN = 0.06
MOST_MAPS = 24
"""Each is some 30 kB of the page."""
SHAPES = 6


def write_page(folder: Path) -> Path:
    """Write report.html beside ranking.json, whole or not at all; returns its path.

    Raises:
        InputError: When the folder holds no ranking, or cannot be written.
    """
    path = folder / RECORD
    record = read_json(path)
    if not record:
        raise InputError(f"expected {path}, which modgap rank --out {folder} writes; found none")
    if record.get("kind") != "ranking":
        raise InputError(f"expected the record of a ranking in {path}, got another")
    try:
        text = render(record)
    except (LookupError, TypeError, ValueError, TemplateError) as error:
        raise InputError(f"expected the record of a ranking in {path}; {error!r} is missing or broken") from error
    try:
        write_text_atomically(folder / PAGE, text)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    return folder / PAGE


def render(record: Mapping[str, Any]) -> str:
    """The page of a record, as `modgap.ranking.report.to_dict` makes it; it asks for nothing from outside."""
    environment = Environment(
        loader=PackageLoader("modgap.ranking", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": _number, "count": lambda value: f"{value:,}", "words": _words}
    by = record["by"]
    rows = [row for row in record["sources"] if row["facts"]]
    failed = [row for row in record["sources"] if row["reason"] and row["kind"] != "no model"]
    return environment.get_template(TEMPLATE).render(
        record=record, by=by, rows=rows, failed=failed,
        scores=list(rows[0]["scores"]) if rows else [], axis=_axis([row["scores"][by] for row in rows]),
        maps=[(row, _thumbnail(row["details"]["map"])) for row in rows if _has_map(row)][:MOST_MAPS], colors=COLORS,
        told=[row for row in rows if row["details"] and row["details"]["discrepancy"]], side=THUMBNAIL,
    )  # fmt: skip


def _number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.{digits}g}"


def _words(value: Any) -> str:
    """A setting as it is read: lists with commas, yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "the usual"
    return "–" if value is None else str(value)


def _axis(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Lowest and highest value shown, and a function from values to percent of the width between them."""
    ends = [v for score in scores for v in (score["value"], *score["interval"]) if v is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    span = (high - low) or 1.0

    def at(value: float) -> str:
        return f"{100 * (MARGIN + (1 - 2 * MARGIN) * (value - low) / span):.2f}"

    return {"low": low, "high": high, "at": at}


def _has_map(row: Mapping[str, Any]) -> bool:
    return bool(row["details"] and row["details"]["map"]["coordinates"])


def _thumbnail(found: Mapping[str, Any]) -> list[tuple[float, float, int, int]]:
    """Place in pixels, color and shape of each sample; shapes tell classes apart where colors do not."""
    places, labels = found["coordinates"], found["labels"]
    reach = max(max(abs(x), abs(y)) for x, y in places) or 1.0
    half = THUMBNAIL / 2
    scale = (half - 6) / reach
    return [
        (round(half + x * scale, 1), round(half - y * scale, 1), label % len(COLORS), label % SHAPES)
        for (x, y), label in zip(places, labels, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
