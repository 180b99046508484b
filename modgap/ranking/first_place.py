"""The check of the first place of a ranking, by the score or the pilot that decides."""

from typing import Any

import numpy as np

from modgap.ranking.scores import get_score
from modgap.ranking.standings import MIN_SUBSAMPLES
from modgap.ranking.types import Ranking, ScoreTable
from modgap.ranking.verdict import INFO, PASS, WARN, Check
from modgap.statistics.intervals import MIN_UNITS

__all__ = ["measured", "other_sources"]


def measured(table: ScoreTable, index: int, prefix: str = "") -> dict[str, Any]:
    """Return value and interval of a row, the interval as None if it is unknown."""
    low, high = table.standings.intervals[index].tolist()
    interval = [low, high] if np.isfinite([low, high]).all() else None
    return {f"{prefix}value": float(table.standings.values[index]), f"{prefix}interval": interval}


def other_sources(ranking: Ranking, table: ScoreTable, first: int) -> Check:
    """Return the check of whether the first source is significantly better than the others by one score.

    Args:
        ranking: The ranking.
        table: Table of the score.
        first: Index of the source that is first by it.
    """
    others = [index for index in table.source_order if index != first]
    equal = [index for index in others if table.source_ranks[index] == 1]
    tied = set(table.among_sources.tied_with(first).tolist()) | set(equal)
    reason = _uncertainty_reason(ranking, table, first, others)
    probabilities = table.standings.win_probabilities[:, first]
    p_values = table.among_sources.corrected_p_values
    n_pairs = (len(others) + 1) * len(others) // 2
    values = {
        "first": ranking.rows[first].name,
        "score": table.name,
        **measured(table, first),
        "sources": len(others) + 1,
        "runner_up": ranking.rows[others[0]].name if others else None,
        "equal": [ranking.rows[index].name for index in equal],
        "tied": [
            {
                "source": ranking.rows[index].name,
                "win_probability": float(probabilities[index]),
                "corrected_p_value": float(p_values[index]),
            }
            for index in others
            if index in tied
        ],
        "smallest": table.among_sources.smallest_difference(first, others[0], n_pairs) if others else None,
        "reason": reason or None,
    }
    status = INFO if not others or (reason and not equal) else WARN if values["tied"] else PASS
    return Check("other-sources", status, values)


def _uncertainty_reason(ranking: Ranking, table: ScoreTable, first: int, others: list[int]) -> str:
    if np.isfinite(table.standings.win_probabilities[first, others]).all():
        return ""
    if table.by_sample:
        return f"there are fewer than {MIN_UNITS} groups or independent samples"
    if not get_score(table.name).uses_samples:
        return "the score does not depend on the samples"
    if ranking.request.resamples < MIN_SUBSAMPLES:
        return "no intervals were computed"
    return "there are too few samples or groups for subsamples"
