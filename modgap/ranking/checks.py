"""Checks of a ranking: comparisons of the first source with other sources, controls and baselines, and data limits."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from modgap.ranking.evidence import FINDINGS
from modgap.ranking.first_place import measured, other_sources
from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.scores import get_score
from modgap.ranking.standings import SURELY_BETTER, SURELY_WORSE
from modgap.ranking.subsamples import MIN_GROUPS
from modgap.ranking.types import CONTROL, RAW_VALUES, SOURCE, Halving, Pilot, Ranking, ScoreTable
from modgap.ranking.verdict import FAIL, INFO, PASS, WARN, Check
from modgap.statistics.intervals import MIN_UNITS
from modgap.storage.json_records import plain_values

__all__ = ["collect_checks", "control_index"]

CONTROL_WORSE = "significantly worse"
CONTROL_SIMILAR = "not significantly different"
CONTROL_BETTER = "significantly better"
CONTROL_AS_GOOD = "at least as good, significance unknown"
CONTROL_UNKNOWN = "worse, significance unknown"
"""Results of the comparison of a random-weights control with its source."""
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
FEW_SAMPLES = 100
"""Number of samples below which only large differences between sources are significant."""
SMALL_CLASS = 5
"""Number of samples below which results for a class are unreliable."""
ORDER_OF_STATUSES = (FAIL, WARN, INFO, PASS)


def collect_checks(ranking: Ranking) -> tuple[Check, ...]:
    """Return all checks that apply to a ranking, failed ones first.

    The checks are `other-sources`, `control`, `controls-above`, `raw-values`, `majority-class`,
    `control-by-other-scores`, `other-scores`, `largest-source`, `amount-of-data`, `groups`, `smallest-class`,
    `failed-sources`, `budget`, `pilot` and `evidence`.
    """
    checks = [*_source_checks(ranking), *_data_checks(ranking)]
    return tuple(sorted(checks, key=lambda check: ORDER_OF_STATUSES.index(check.status)))


def _source_checks(ranking: Ranking) -> Iterator[Check]:
    deciding = ranking.deciding_table
    first = deciding.first_source
    if first is None:
        return
    yield other_sources(ranking, deciding, first)
    for check in (
        _control,
        _controls_above,
        _raw_values,
        _majority_class,
        _control_by_other_scores,
        _other_scores,
    ):
        result = check(ranking, first)
        if result is not None:
            yield result
    largest = _largest_source(ranking, first)
    if largest:
        yield Check("largest-source", INFO, {"source": largest})


def control_index(ranking: Ranking, index: int) -> int | None:
    """Return the index of the row with the same architecture and random weights. None if there is none."""
    name = f"random:{ranking.rows[index].name}"
    return next((i for i, row in enumerate(ranking.rows) if row.name == name and row.kind == CONTROL), None)


def _compare_control(table: ScoreTable, first: int, control: int | None) -> str | None:
    """Return how the control compares with its source by one score. None if the score cannot tell."""
    if control is None or not table.standings.ranks[control] or not table.standings.ranks[first]:
        return None
    if not (table.by_sample or get_score(table.name).uses_samples):
        return None
    probability = table.standings.win_probabilities[first, control]
    if not np.isfinite(probability):
        # Without subsamples the values show that the source is no better, but not that it is significantly better.
        first_rank, control_rank = table.standings.ranks[[first, control]]
        return CONTROL_AS_GOOD if control_rank <= first_rank else CONTROL_UNKNOWN
    if probability <= SURELY_WORSE:
        return CONTROL_BETTER
    return CONTROL_SIMILAR if probability < SURELY_BETTER else CONTROL_WORSE


def _control(ranking: Ranking, first: int) -> Check | None:
    control = control_index(ranking, first)
    table = ranking.deciding_table
    if control is not None and not table.standings.ranks[control]:
        # The control has no short fine-tuning, so the score is all there is.
        table = ranking.tables[ranking.by]
    result = _compare_control(table, first, control)
    if result is None or control is None:
        return None
    values = {
        "first": ranking.rows[first].name,
        "score": table.name,
        "result": result,
        **measured(table, first),
        **measured(table, control, "control_"),
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

    It fails if that is not so for more than half of the scores that can tell.
    """
    control = control_index(ranking, first)
    results = {
        name: result
        for name, table in _other_tables(ranking).items()
        if (result := _compare_control(table, first, control)) not in (None, CONTROL_UNKNOWN)
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


def _other_tables(ranking: Ranking) -> dict[str, ScoreTable]:
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
    """Compare the error on raw values with that on the features of the best source by the same score."""
    raw = next((i for i, row in enumerate(ranking.rows) if row.kind == RAW_VALUES), None)
    if raw is None:
        return None
    compared = [
        check for name in RAW_VALUE_SCORES if (check := _raw_values_by(ranking, ranking.tables.get(name), raw, first))
    ]
    return next((check for check in compared if check.status == FAIL), compared[0] if compared else None)


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


def _other_scores(ranking: Ranking, first: int) -> Check | None:
    tables = {name: table for name, table in _other_tables(ranking).items() if (table.source_ranks > 0).sum() > 1}
    if not tables:
        return None
    disagreeing = [
        {"score": name, "first": ranking.rows[winner].name}
        for name, table in tables.items()
        if (winner := table.first_source) is not None and table.source_ranks[first] != 1
    ]
    n_agreeing = len(tables) - len(disagreeing)
    values = {
        "first": ranking.rows[first].name,
        "agreeing": n_agreeing,
        "compared": len(tables),
        "disagreeing": disagreeing,
    }
    return Check("other-scores", PASS if n_agreeing > len(tables) / 2 else WARN, values)


def _largest_source(ranking: Ranking, first: int) -> str | None:
    sizes = [row.properties.get("parameters") or 0 if row.kind == SOURCE else 0 for row in ranking.rows]
    largest = int(np.argmax(sizes))
    several = sum(size > 0 for size in sizes) > 1
    return ranking.rows[largest].name if several and largest != first else None


def _halving(halving: Halving) -> Iterator[Check]:
    """Yield the check of a ranking within a budget: what was left out, and how close it was."""
    left_out = [one for one in halving.rounds if one.left_out]
    chances = [one.chance for one in left_out if one.chance is not None]
    is_known = len(chances) == len(left_out)
    is_safe = is_known and max(chances, default=0.0) <= SURELY_WORSE
    is_complete = halving.rounds[-1].samples >= halving.all_samples
    values = {
        "budget": halving.budget,
        "seconds": halving.seconds,
        "work": halving.work,
        "samples": halving.rounds[-1].samples,
        "all_samples": halving.all_samples,
        "rounds": [asdict(one) for one in halving.rounds],
    }
    yield Check("budget", PASS if is_safe and is_complete else WARN, plain_values(values))


def _pilot(ranking: Ranking, pilot: Pilot) -> Check:
    """Return what was fine-tuned shortly, and which source would be first without it."""
    tuned = pilot.table.source_ranks > 0
    by_score = ranking.tables[ranking.by].first_source
    values = {
        "score": ranking.by,
        "sources": int(tuned.sum()),
        "epochs": pilot.epochs,
        "trained": pilot.trained,
        "judged": pilot.judged,
        "first_by_score": None if by_score is None else ranking.rows[by_score].name,
    }
    return Check("pilot", INFO if tuned.any() else WARN, values)


def _data_checks(ranking: Ranking) -> Iterator[Check]:
    if ranking.halving:
        yield from _halving(ranking.halving)
    if ranking.pilot:
        yield _pilot(ranking, ranking.pilot)
    elif ranking.target and ranking.target.task == CLASSIFICATION:
        yield Check("evidence", INFO, asdict(FINDINGS))
    failed = [row.name for row in ranking.failed]
    if failed:
        yield Check("failed-sources", WARN, {"sources": failed})
    target = ranking.target
    if target is None:
        return
    yield Check("amount-of-data", WARN if target.samples < FEW_SAMPLES else PASS, {"samples": target.samples})
    needed = MIN_UNITS if ranking.tables[ranking.by].by_sample else MIN_GROUPS
    if target.groups and target.groups < needed:
        yield Check("groups", WARN, {"groups": target.groups, "needed": needed})
    if target.smallest_class_samples < SMALL_CLASS:
        yield Check("smallest-class", WARN, {"samples": target.smallest_class_samples})
