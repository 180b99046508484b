"""Table of the layers of each source on the page of a ranking."""

from collections.abc import Mapping, Sequence
from typing import Any

from modgap.formatting import format_error, format_p_value, visible_name
from modgap.ranking.layers import JUDGED_BY

__all__ = ["LAYER_CHART", "layer_table"]

LAYER_CHART = (180, 36)
"""Width and height of the curve of a source."""
EDGE = 4


def layer_table(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each source: its curve over layers, and the choice of a layer judged on other samples.

    Args:
        record: Record of a ranking; those of earlier versions have no layers.
    """
    curves = record.get("layers") or []
    errors = [value for curve in curves for value in curve["values"].get(JUDGED_BY, ()) if value is not None]
    highest = max(errors, default=1.0) or 1.0
    return [_row(curve, highest) for curve in curves]


def _row(curve: Mapping[str, Any], highest: float) -> dict[str, Any]:
    values = curve["values"].get(JUDGED_BY, ())
    row = {"name": visible_name(curve["source"]), "reason": curve["reason"], "points": [], "lowest": "–", "last": "–"}
    if values and None not in values:
        lowest = values.index(min(values))
        row["points"] = _points(curve["numbers"], values, int(curve["n_layers"]), highest)
        row["lowest"] = f"{curve['numbers'][lowest]} of {curve['n_layers']}"
        row["lowest_position"] = lowest
        row["last"] = format_error(values[-1])
    choice = curve["choice"]
    if choice is None:
        return {**row, "chosen": "–", "difference": "", "p_value": ""}
    interval = ""
    if choice["interval"]:
        interval = " ({} to {})".format(*map(format_error, choice["interval"]))
    return {
        **row,
        "chosen": f"{format_error(choice['error'])}{interval}",
        "difference": f"{choice['difference']['value']:+.3f}".replace("-", "−"),
        "p_value": format_p_value(choice["corrected_p_value"]),
    }


def _points(
    numbers: Sequence[int], values: Sequence[float], n_layers: int, highest: float
) -> list[tuple[float, float]]:
    """Return the position of each layer in the chart."""
    width, height = (side - 2 * EDGE for side in LAYER_CHART)
    return [
        (round(EDGE + width * number / n_layers, 1), round(EDGE + height * (1 - value / highest), 1))
        for number, value in zip(numbers, values, strict=True)
    ]
