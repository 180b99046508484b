"""The t-SNE maps of a ranking's page: one path for each class, with coordinates in whole pixels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modgap.formatting import visible_name
from modgap.ranking.tables import RAW_VALUES_LABEL
from modgap.ranking.types import CONTROL, RAW_VALUES

__all__ = ["map_figures"]

SIDE = 400
PADDING = 12
MAX_MAPS = 24
"""Most maps, each of which adds about 6 kB to the page."""
N_COLORS = 10
"""Number of class colors in the style sheet."""
MAX_KEYS = 20
"""Most classes in the key of the maps, which is the number of combinations of color and shape."""


def map_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the maps, their side in pixels, and their key of classes.

    Args:
        rows: Rows of the record of a ranking.
    """
    with_map = [row for row in rows if row["report_details"] and row["report_details"]["map"]["coordinates"]]
    maps = [_map_figure(row) for row in with_map[:MAX_MAPS]]
    return {
        "maps": maps,
        "maps_left_out": len(with_map) - len(maps),
        "side": SIDE,
        "class_key": _class_key(rows) if maps else [],
    }


def _map_figure(row: Mapping[str, Any]) -> dict[str, Any]:
    name = RAW_VALUES_LABEL if row["kind"] == RAW_VALUES else visible_name(row["source"])
    return {"name": name, "is_control": row["kind"] == CONTROL, "paths": _paths(row["report_details"]["map"])}


def _paths(tsne_map: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """Return, for each class, its number, its CSS classes and a path that draws a dot for each sample."""
    points: dict[int, list[str]] = {}
    coordinates = [(x, y) for x, y in tsne_map["coordinates"]]
    finite = [abs(value) for pair in coordinates for value in pair if math.isfinite(value)]
    scale = (SIDE / 2 - PADDING) / (max(finite, default=1.0) or 1.0)
    for (x, y), label in zip(coordinates, tsne_map["labels"], strict=True):
        if math.isfinite(x) and math.isfinite(y):
            dot = f"M{round(SIDE / 2 + x * scale)} {round(SIDE / 2 - y * scale)}h0"
            points.setdefault(int(label), []).append(dot)
    return [(label, _css_class(label), "".join(points[label])) for label in sorted(points)]


def _css_class(label: int) -> str:
    shape = " square" if (label // N_COLORS) % 2 else ""
    return f"c{label % N_COLORS}{shape}"


def _class_key(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the CSS classes and the name of each class. Empty if the names are not known."""
    for row in rows:
        discrepancy = (row["report_details"] or {}).get("discrepancy")
        if discrepancy:
            names = [target for target, _ in discrepancy["map"]]
            return [(_css_class(label), visible_name(name, 30)) for label, name in enumerate(names[:MAX_KEYS])]
    return []
