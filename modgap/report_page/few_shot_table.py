"""Few-shot curves on the page of a distortion: one small curve for each encoder over the curve of the first."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modgap.formatting import format_error, visible_name

__all__ = ["few_shot_table"]

WIDTH = 200
HEIGHT = 44
PADDING = 4
"""Size of a curve in its own units; the page stretches it to the width of its cell."""


def few_shot_table(title: str, encoders: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the texts and the curves of a table for the template `measurements.html.j2`.

    Args:
        title: Title of the table.
        encoders: Records of the encoders of one surrogate. The source before training comes first.

    Returns:
        The table; None if no curve was measured.
    """
    curves = [(encoder["encoder"], encoder["few_shot"]) for encoder in encoders if encoder.get("few_shot")]
    if not curves:
        return None
    highest = max(max(map(max, curve["errors"])) for _, curve in curves) or 1.0
    first = curves[0][1]
    return {
        "title": title,
        "shots": [f"{shots:,}" for shots in first["shots"]],
        "low": f"{first['shots'][0]:,}",
        "high": f"{first['shots'][-1]:,} samples per class",
        "reference": _line(first, first["mean"], highest),
        "rows": [_row(name, curve, highest) for name, curve in curves],
        "note": f"Error of the probe by the number of training samples of each class, the mean of "
        f"{len(first['errors'][0])} draws. The band spans the draws and is no interval. The dashed line is the first "
        f"encoder. Each curve goes from 0 to {format_error(highest)} and has a logarithmic horizontal axis.",
    }


def _row(name: str, curve: Mapping[str, Any], highest: float) -> dict[str, Any]:
    upper = _points(curve, [max(draws) for draws in curve["errors"]], highest)
    lower = _points(curve, [min(draws) for draws in curve["errors"]], highest)
    return {
        "label": visible_name(name),
        "values": [format_error(value) for value in curve["mean"]],
        "line": _line(curve, curve["mean"], highest),
        "band": " ".join([*upper, *reversed(lower)]),
    }


def _line(curve: Mapping[str, Any], values: Sequence[float], highest: float) -> str:
    return " ".join(_points(curve, values, highest))


def _points(curve: Mapping[str, Any], values: Sequence[float], highest: float) -> list[str]:
    """Return the points of a line, as an SVG polyline takes them."""
    logs = [math.log(shots) for shots in curve["shots"]]
    span = (logs[-1] - logs[0]) or 1.0
    return [
        f"{PADDING + (WIDTH - 2 * PADDING) * (x - logs[0]) / span:.1f},"
        f"{HEIGHT - PADDING - (HEIGHT - 2 * PADDING) * value / highest:.1f}"
        for x, value in zip(logs, values, strict=True)
    ]
