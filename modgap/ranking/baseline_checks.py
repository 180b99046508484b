"""Checks of the first source of a ranking against what it should beat: controls, raw values and the largest class."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from modgap.ranking.first_place import measured
from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.scores import get_score
from modgap.ranking.standings import SIGNIFICANCE
from modgap.ranking.types import CONTROL, RAW_VALUES, Ranking, ScoreTable
from modgap.ranking.verdict import FAIL, INFO, PASS, PILOT_NAME, WARN, Check
from modgap.storage.json_records import plain_values

__all__ = [
    "BASELINE_SCORES",
    "CONTROL_AS_GOOD",
    "CONTROL_BETTER",
    "CONTROL_SIMILAR",
    "CONTROL_STATUSES",
    "CONTROL_UNKNOWN",
    "CONTROL_WORSE",
    "baseline_checks",
    "compare_baseline",
    "control_index",
    "neighbors_result",
    "other_tables",
    "sources_compared",
]

CONTROL_WORSE = "significantly worse"
CONTROL_SIMILAR = "not significantly different"
CONTROL_BETTER = "significantly better"
CONTROL_AS_GOOD = "at least as good, significance unknown"
CONTROL_UNKNOWN = "worse, significance unknown"
"""Results of the comparison of a random-weights control, or of the raw values, with a source."""
CONTROL_STATUSES = {
    CONTROL_WORSE: PASS,
    CONTROL_SIMILAR: FAIL,
    CONTROL_BETTER: FAIL,
    CONTROL_AS_GOOD: FAIL,
    CONTROL_UNKNOWN: INFO,
}

ERROR_SCORES = ("knn", "linear-probe", "discrepancy")
"""Scores that are error rates, which soft errors are not. The first is computed unless raw values are excluded."""
RAW_VALUE_SCORES = ("linear-probe", "knn")
"""Scores that compare features with raw values."""
BASELINE_SCORES = ("size", "source-error")
"""Scores that do not count as support, because they do not depend on the target."""


def baseline_checks(ranking: Ranking, first: int) -> Iterator[Check]:
    """Yield the checks of the first source against controls, raw values and the largest class that apply.

    Args:
        ranking: The ranking.
        first: Index of the source that is first by the score, or by the short fine-tuning, that decides.
    """
    for check in (_control, _controls_above, _raw_values, _majority_class, _control_by_other_scores):
        result = check(ranking, first)
        if result is not None:
            yield result


def control_index(ranking: Ranking, index: int) -> int | None:
    """Return the index of the row with the same architecture and random weights. None if there is none."""
    name = f"random:{ranking.rows[index].name}"
    return next((i for i, row in enumerate(ranking.rows) if row.name == name and row.kind == CONTROL), None)


def _compare_control(table: ScoreTable, first: int, control: int | None, comparisons: int) -> str | None:
    """Return how the control compares with its source by one score. None if the score cannot tell."""
    if control is None or not table.standings.ranks[control] or not table.standings.ranks[first]:
        return None
    if not (table.by_sample or get_score(table.name).uses_samples):
        return None
    return compare_baseline(table, first, control, comparisons)


def sources_compared(table: ScoreTable) -> int:
    """Return the number of sources with a value by a score."""
    return int((table.source_ranks > 0).sum())


def compare_baseline(table: ScoreTable, index: int, baseline: int, comparisons: int) -> str:
    """Return how a control, or the raw values, compare with a source by a score that both of them have.

    A source that is the best of several by this score is favored. So where the source is better, its p-value is
    multiplied by the number of comparisons (Bonferroni): of ten sources that are no better than their controls, the
    best would otherwise be significantly better in about one of six cases (simulated in
    `tests/test_baseline_checks.py`). A baseline that is better than the best source needs no correction.

    Args:
        table: Table of the score.
        index: Index of the source.
        baseline: Index of the control or of the raw values.
        comparisons: Number of sources, and of choices for each, from which the samples chose this one.

    Returns:
        One of the results, such as `CONTROL_WORSE`.
    """
    p_value = _p_value(table, index, baseline, comparisons)["p_value"]
    if p_value is None:
        # Without subsamples the values show that the source is no better, but not that it is significantly better.
        source_rank, rank = table.standings.ranks[[index, baseline]]
        return CONTROL_AS_GOOD if rank <= source_rank else CONTROL_UNKNOWN
    if p_value > SIGNIFICANCE:
        return CONTROL_SIMILAR
    return CONTROL_WORSE if table.standings.win_probabilities[index, baseline] > 0.5 else CONTROL_BETTER


def _p_value(table: ScoreTable, index: int, baseline: int, comparisons: int) -> dict[str, Any]:
    """Return the p-value of `compare_baseline` after its correction, and the number of comparisons.

    `smallest` is the smallest difference by which the source could have been shown to be better. None if it is unknown.
    """
    # It is 1 - p / 2 where the source is better, and p / 2 otherwise.
    probability = float(table.standings.win_probabilities[index, baseline])
    if not np.isfinite(probability):
        return {"p_value": None, "comparisons": 1, "smallest": None}
    factor = comparisons if probability > 0.5 else 1
    p_value = min(1.0, 2 * min(probability, 1 - probability) * factor)
    smallest = table.standings.smallest_difference(index, baseline, comparisons)
    return {"p_value": p_value, "comparisons": factor, "smallest": smallest}


def _control(ranking: Ranking, first: int) -> Check | None:
    control = control_index(ranking, first)
    table = ranking.deciding_table
    if control is not None and not table.standings.ranks[control]:
        # The control has no short fine-tuning, so the score is all there is.
        table = ranking.tables[ranking.by]
    comparisons = sources_compared(table)
    result = _compare_control(table, first, control, comparisons)
    if result is None or control is None:
        return None
    values = {
        "first": ranking.rows[first].name,
        "score": table.name,
        "result": result,
        **measured(table, first),
        **measured(table, control, "control_"),
        **_p_value(table, first, control, comparisons),
    }
    return Check("control", CONTROL_STATUSES[result], values)


def _controls_above(ranking: Ranking, first: int) -> Check | None:
    """Check whether any score rates a random-weights control of any source above the first source.

    Scores that do not depend on the target are left out. The deciding score is among the others.
    """
    controls = [index for index, row in enumerate(ranking.rows) if row.kind == CONTROL]
    tables = {name: table for name, table in ranking.tables.items() if name not in BASELINE_SCORES}
    compared = {name: table for name, table in tables.items() if _has_both(table, first, controls)}
    if not compared:
        return None
    above = [entry for table in compared.values() if (entry := _control_above(ranking, table, first, controls))]
    values = {"first": ranking.rows[first].name, "compared": len(compared), "above": above}
    return Check("controls-above", WARN if above else PASS, values)


def _has_both(table: ScoreTable, first: int, controls: list[int]) -> bool:
    return bool(table.standings.ranks[first]) and bool((table.standings.ranks[controls] > 0).any())


def _control_above(ranking: Ranking, table: ScoreTable, first: int, controls: list[int]) -> dict[str, Any] | None:
    """Return the best control by one score, if it is above the first source."""
    standings = table.standings
    ranked = [index for index in controls if standings.ranks[index]]
    best = min(ranked, key=lambda index: int(standings.ranks[index]))
    if standings.ranks[best] >= standings.ranks[first]:
        return None
    return {
        "score": table.name,
        "control": ranking.rows[best].name,
        "value": float(standings.values[first]),
        "control_value": float(standings.values[best]),
        "p_value": plain_values(float(standings.p_values[first, best])),
    }


def _control_by_other_scores(ranking: Ranking, first: int) -> Check | None:
    """Check whether the control is significantly worse by the other scores too.

    It fails if that is not so for more than half of the scores that can tell. These scores did not choose the source,
    so that their p-values are not corrected for the number of sources.
    """
    control = control_index(ranking, first)
    results = {
        name: result
        for name, table in other_tables(ranking).items()
        if (result := _compare_control(table, first, control, 1)) not in (None, CONTROL_UNKNOWN)
    }
    if not results or control is None:
        return None
    similar = [name for name, result in results.items() if result != CONTROL_WORSE]
    values = {
        "first": ranking.rows[first].name,
        "compared": len(results),
        "similar": [
            {
                "score": name,
                "value": float(ranking.tables[name].standings.values[first]),
                "control": float(ranking.tables[name].standings.values[control]),
            }
            for name in similar
        ],
    }
    status = FAIL if len(similar) > len(results) / 2 else WARN if similar else PASS
    return Check("control-by-other-scores", status, values)


def other_tables(ranking: Ranking) -> dict[str, ScoreTable]:
    """Return the tables of the scores that depend on the target, except for the one that the sources are ranked by."""
    excluded = (ranking.by, *BASELINE_SCORES)
    return {name: table for name, table in ranking.tables.items() if name not in excluded}


def _majority_class(ranking: Ranking, first: int) -> Check | None:
    """Compare an error with that of always predicting the majority class.

    The score that the sources are ranked by is used if it is an error rate, otherwise k-NN.
    """
    score_name = ranking.by if ranking.by in ERROR_SCORES else ERROR_SCORES[0]
    table = ranking.tables.get(score_name)
    if table is None or not ranking.target or ranking.target.task != CLASSIFICATION:
        return None
    found = measured(table, first)
    if not np.isfinite(found["value"]):
        return None
    baseline = 1 - ranking.target.largest_class_share
    high = found["interval"][1] if found["interval"] else found["value"]
    status = FAIL if found["value"] >= baseline else WARN if high >= baseline else PASS
    values = {"first": ranking.rows[first].name, "score": score_name, **found, "baseline": baseline}
    return Check("majority-class", status, values)


def _raw_values(ranking: Ranking, first: int) -> Check | None:
    """Compare the error on raw values with that on the features of the best source by the same score.

    Beside errors after a short fine-tuning, nearest neighbors of the raw values are compared with the best source.
    """
    raw = next((i for i, row in enumerate(ranking.rows) if row.kind == RAW_VALUES), None)
    if raw is None:
        return None
    deciding = ranking.deciding_table
    if ranking.pilot is not None and deciding is ranking.pilot.table and deciding.standings.ranks[raw]:
        return _raw_neighbors(ranking, deciding, raw, first)
    compared = [
        check for name in RAW_VALUE_SCORES if (check := _raw_values_by(ranking, ranking.tables.get(name), raw, first))
    ]
    return next((check for check in compared if check.status == FAIL), compared[0] if compared else None)


def _raw_neighbors(ranking: Ranking, table: ScoreTable, raw: int, first: int) -> Check:
    assert ranking.pilot is not None
    # The sources are judged at the best of several rates, and the neighbors have none.
    comparisons = sources_compared(table) * ranking.pilot.rates
    result = compare_baseline(table, first, raw, comparisons)
    values = {
        "score": table.name,
        "result": result,
        **measured(table, raw),
        "first": ranking.rows[first].name,
        "first_value": float(table.standings.values[first]),
        **_p_value(table, first, raw, comparisons),
    }
    return Check("raw-values", CONTROL_STATUSES[result], values)


def neighbors_result(raw_values: Check | None) -> str | None:
    """Return how nearest neighbors of the raw values compare with the first source after a short fine-tuning.

    Args:
        raw_values: The check `raw-values`. None if there is none.

    Returns:
        One of the results, such as `CONTROL_WORSE`. None if they were not compared.
    """
    if raw_values is None or raw_values.values["score"] != PILOT_NAME:
        return None
    result: str = raw_values.values["result"]
    return result


def _raw_values_by(ranking: Ranking, table: ScoreTable | None, raw: int, first: int) -> Check | None:
    if table is None or not np.isfinite(table.standings.values[[raw, first]]).all():
        return None
    best = table.first_source
    if best is None:
        return None
    values = {
        "score": table.name,
        **measured(table, raw),
        "best_source": ranking.rows[best].name,
        "best_value": float(table.standings.values[best]),
        "first": ranking.rows[first].name,
        "first_value": float(table.standings.values[first]),
    }
    return Check("raw-values", FAIL if values["value"] <= values["best_value"] else PASS, values)
