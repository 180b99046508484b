"""The table of a sweep's trials for the page of a run."""

import math
from collections.abc import Mapping
from typing import Any

from modgap.formatting import count, visible_name

__all__ = ["sweep_table"]

MARGIN = 4.0
"""Free space at both ends of the axis, in percent of its length."""


def sweep_table(sweep: Any) -> dict[str, Any] | None:
    """Return the texts and positions of a sweep's trials; None if there is no sweep, or its record was changed.

    Args:
        sweep: Entry `sweep` of the record of a run.
    """
    if not isinstance(sweep, Mapping) or not isinstance(sweep.get("trials"), list):
        return None
    trials = sweep["trials"]
    values = sweep.get("values")
    if not isinstance(values, Mapping) or not trials or not all(_is_trial(trial) for trial in trials):
        return None
    errors = [trial["validation"] for trial in trials if _is_number(trial.get("validation"))]
    low, high = (min(errors), max(errors)) if errors else (0.0, 1.0)
    rows = []
    for number, trial in enumerate(trials, start=1):
        error = trial.get("validation")
        known = _is_number(error)
        rows.append(
            {
                "number": number,
                "settings": [visible_name(str(trial["settings"].get(key, ""))) for key in values],
                "error": f"{error:.4g}" if known else "failed" if trial.get("state") == "failed" else "not defined",
                "position": _position(error, low, high) if known else None,
                "chosen": number == sweep.get("chosen"),
            }
        )
    return {
        "heads": [visible_name(str(key)) for key in values],
        "rows": rows,
        "low": f"{low:.4g}",
        "high": f"{high:.4g}",
        "note": f"The settings with the lowest validation error of {count(len(trials), 'trial')} were chosen, and only "
        "their model was tested. The lowest of several errors is optimistic, the test error is not.",
    }


def _is_trial(trial: Any) -> bool:
    return isinstance(trial, Mapping) and isinstance(trial.get("settings"), Mapping)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _position(error: float, low: float, high: float) -> float:
    """Return the position on the axis in percent."""
    share = (error - low) / (high - low) if high > low else 0.5
    return round(MARGIN + (100 - 2 * MARGIN) * share, 1)
