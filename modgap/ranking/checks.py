"""Checks of a ranking: comparisons of the first source with others and with baselines, and limits of the data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from modgap.answers import FAIL, INFO, PASS, WARN
from modgap.answers.answer import ORDER
from modgap.errors import CONTROL_PREFIX
from modgap.ranking.field_baselines import BASELINE_PREFIX
from modgap.ranking.plan import PROBE
from modgap.ranking.scores import PILOT, get_score
from modgap.ranking.source_outputs import CLASSIFICATION
from modgap.ranking.standings import MIN_GROUPS, MIN_SUBSAMPLES
from modgap.ranking.types import BASELINE, CONTROL, SOURCE, Pilot, Ranking, ScoreTable
from modgap.statistics.intervals import MIN_UNITS
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL
from modgap.storage.json_records import plain_values

CONTROL_WORSE = "significantly worse"
CONTROL_SIMILAR = "not significantly different"
CONTROL_BETTER = "significantly better"
CONTROL_AS_GOOD = "at least as good, significance unknown"
CONTROL_UNKNOWN = "worse, significance unknown"
"""Results of the comparison of a random-weights control, or of a baseline, with a source."""
CONTROL_STATUSES = {
    CONTROL_WORSE: PASS,
    CONTROL_SIMILAR: FAIL,
    CONTROL_BETTER: FAIL,
    CONTROL_AS_GOOD: FAIL,
    CONTROL_UNKNOWN: INFO,
}
ERROR_SCORES = ("knn", "linear-probe", "discrepancy")
"""Scores that are error rates, which soft errors are not, the first of which counts."""
BASELINE_SCORES = ("size", "source-error")
"""Scores that do not count as support, because they do not depend on the target."""
FEW_SAMPLES = 100
"""Number of samples below which only large differences between sources are significant."""
SMALL_CLASS = 5
"""Number of samples below which results for a class are unreliable."""
FINDINGS = {
    "sources": 16,
    "targets": 41,
    "known": 2.8,
    "pilots": 5.6,
    "constant": 6.1,
    "probe": 8.5,
    "random_choice": 14.3,
}
"""Mean regrets on the targets that judged, in points (`benchmarks/known_sources.py --check`, docs/evidence.md).

A regret is the test error of the chosen source minus the lowest one. The source is the first of its kind, with each
target left out; the best after a short fine-tuning of all; always the same one; the one with the lowest
cross-validated error of a linear probe; or a random one.
"""


@dataclass(frozen=True)
class Check:
    """Check of a ranking.

    Attributes:
        id: Name of the check, such as `control`.
        status: `pass`, `warn`, `fail` or `info`.
        values: Numbers and names that the sentence of the check is made from.
    """

    id: str
    status: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> str:
        """Name of the first source; empty if the check is not about it."""
        return str(self.values.get("first", ""))

    @property
    def result(self) -> str:
        """Result of the comparison with a baseline, such as `CONTROL_WORSE`; empty if the check compares with none."""
        return str(self.values.get("result", ""))

    @property
    def is_fine_tuned(self) -> bool:
        """True if the check compares errors after a short fine-tuning."""
        return bool(self.values.get("score") == PILOT.name)


class Comparison(NamedTuple):
    """Comparison of a baseline, such as a random-weights control, with a source.

    Attributes:
        result: Result, such as `CONTROL_WORSE`.
        p_value: P-value after its correction. None if it is unknown.
        comparisons: Factor of the correction.
        smallest: Smallest difference by which the source could have been shown to be better. None if it is unknown.
    """

    result: str
    p_value: float | None = None
    comparisons: int = 1
    smallest: float | None = None


def collect_checks(ranking: Ranking) -> tuple[Check, ...]:
    """Return all checks that apply to a ranking, failed ones first.

    The checks are `other-sources`, `known-sources`, `control`, `controls-above`, `baseline`, `majority-class`,
    `control-by-other-scores`, `other-scores`, `largest-source`, `amount-of-data`, `groups`, `smallest-class`,
    `failed-sources`, `pilot` and `evidence`.
    """
    first = ranking.deciding_table.first_source
    of_source = [check(ranking, first) for check in SOURCE_CHECKS] if first is not None else []
    checks = [*(one for one in of_source if one is not None), *_data_checks(ranking)]
    return tuple(sorted(checks, key=lambda check: ORDER.index(check.status)))


def control_index(ranking: Ranking, index: int) -> int | None:
    """Return the index of the row with the same architecture and random weights. None if there is none."""
    name = f"{CONTROL_PREFIX}{ranking.rows[index].name}"
    return next((i for i, row in enumerate(ranking.rows) if row.name == name and row.kind == CONTROL), None)


def sources_compared(table: ScoreTable) -> int:
    """Return the number of sources with a value by a score."""
    return len(table.source_order)


def compare_baseline(table: ScoreTable, index: int, baseline: int, comparisons: int, baselines: int = 1) -> Comparison:
    """Return how a control, or a baseline, compares with a source by a score that both of them have.

    A source that is the best of several by this score is favored. So where the source is better, its p-value is
    multiplied by the number of comparisons (Bonferroni): of ten sources that are no better than their controls, the
    best would otherwise be significantly better in about one of six cases (simulated in
    `tests/test_baseline_checks.py`). A baseline that is better than the best source is favored only as the best of
    several baselines, and its p-value is multiplied by their number.

    Args:
        table: Table of the score.
        index: Index of the source.
        baseline: Index of the control or of the baseline.
        comparisons: Number of sources, and of choices for each, from which the samples chose this one.
        baselines: Number of baselines from which the samples chose this one.
    """
    standings = table.standings
    # It is 1 - p / 2 where the source is better, and p / 2 otherwise.
    probability = float(standings.win_probabilities[index, baseline])
    if not np.isfinite(probability):
        # Without subsamples the values show that the source is no better, but not that it is significantly better.
        source_rank, rank = standings.ranks[[index, baseline]]
        return Comparison(CONTROL_AS_GOOD if rank <= source_rank else CONTROL_UNKNOWN)
    is_better = probability > 0.5
    factor = comparisons if is_better else baselines
    p_value = min(1.0, 2 * min(probability, 1 - probability) * factor)
    result = CONTROL_SIMILAR if p_value > SIGNIFICANCE_LEVEL else CONTROL_WORSE if is_better else CONTROL_BETTER
    return Comparison(result, p_value, factor, standings.smallest_difference(index, baseline, comparisons))


def _compare_control(table: ScoreTable, first: int, control: int | None, comparisons: int) -> Comparison | None:
    """Return how the control compares with its source by one score. None if the score cannot tell."""
    if control is None or not table.standings.ranks[control] or not table.standings.ranks[first]:
        return None
    if not (table.by_sample or get_score(table.name).uses_samples):
        return None
    return compare_baseline(table, first, control, comparisons)


def _measured(table: ScoreTable, index: int, prefix: str = "") -> dict[str, Any]:
    """Return value and interval of a row, the interval as None if it is unknown."""
    interval = table.standings.interval(index)
    return {
        f"{prefix}value": float(table.standings.values[index]),
        f"{prefix}interval": None if interval is None else list(interval),
    }


def _first_name(ranking: Ranking, table: ScoreTable) -> str | None:
    return None if table.first_source is None else ranking.rows[table.first_source].name


def _other_sources(ranking: Ranking, first: int) -> Check | None:
    """Return the check of whether the first source is significantly better than the others by what decides."""
    table = ranking.deciding_table
    others = [index for index in table.source_order if index != first]
    equal = [index for index in others if table.source_ranks[index] == 1]
    tied = set(table.among_sources.tied_with(first).tolist()) | set(equal)
    reason = ""
    if not np.isfinite(table.standings.win_probabilities[first, others]).all():
        reason = _uncertainty_reason(ranking, table)
    n_pairs = (len(others) + 1) * len(others) // 2
    values = {
        "first": ranking.rows[first].name,
        "score": table.name,
        **_measured(table, first),
        "sources": len(others) + 1,
        "runner_up": ranking.rows[others[0]].name if others else None,
        "equal": [ranking.rows[index].name for index in equal],
        "tied": [
            {
                "source": ranking.rows[index].name,
                "win_probability": float(table.standings.win_probabilities[index, first]),
                "corrected_p_value": float(table.among_sources.corrected_p_values[index]),
            }
            for index in others
            if index in tied
        ],
        "smallest": table.among_sources.smallest_difference(first, others[0], n_pairs) if others else None,
        "reason": reason or None,
    }
    status = INFO if not others or (reason and not equal) else WARN if tied else PASS
    return Check("other-sources", status, values)


def _uncertainty_reason(ranking: Ranking, table: ScoreTable) -> str:
    if table.by_sample:
        return f"there are fewer than {MIN_UNITS} groups or independent samples"
    if not get_score(table.name).uses_samples:
        return "the score does not depend on the samples"
    if ranking.request.resamples < MIN_SUBSAMPLES:
        return "no intervals were computed"
    return "there are too few samples or groups for subsamples"


def _control(ranking: Ranking, first: int) -> Check | None:
    control = control_index(ranking, first)
    table = ranking.pilot.table if ranking.pilot else ranking.tables[ranking.by]
    if control is not None and not (table.standings.ranks[control] and table.standings.ranks[first]):
        # The control has no short fine-tuning, so the score is all there is.
        table = ranking.tables[ranking.by]
    comparison = _compare_control(table, first, control, sources_compared(table))
    if comparison is None or control is None:
        return None
    values = {
        "first": ranking.rows[first].name,
        "score": table.name,
        "result": comparison.result,
        **_measured(table, first),
        **_measured(table, control, "control_"),
        **comparison._asdict(),
    }
    return Check("control", CONTROL_STATUSES[comparison.result], values)


def _controls_above(ranking: Ranking, first: int) -> Check | None:
    """Check whether any score rates a random-weights control of any source above the first source.

    Scores that do not depend on the target are left out. The deciding score is among the others.
    """
    above, n_compared = [], 0
    for name, table in ranking.tables.items():
        standings = table.standings
        ranked = ranking.rows_with_value(CONTROL, table)
        if name in BASELINE_SCORES or not ranked or not standings.ranks[first]:
            continue
        n_compared += 1
        best = min(ranked, key=lambda index: int(standings.ranks[index]))
        if standings.ranks[best] < standings.ranks[first]:
            value, of_control = standings.values[[first, best]].tolist()
            p_value = plain_values(float(standings.p_values[first, best]))
            entry = {"score": table.name, "control": ranking.rows[best].name}
            above.append(entry | {"value": value, "control_value": of_control, "p_value": p_value})
    values = {"first": ranking.rows[first].name, "compared": n_compared, "above": above}
    return Check("controls-above", WARN if above else PASS, values) if n_compared else None


def best_baseline(table: ScoreTable, ranking: Ranking) -> int | None:
    """Return the index of the baseline with the lowest error by a score. None if no baseline has a value."""
    ranks = table.standings.ranks
    return min(ranking.rows_with_value(BASELINE, table), key=lambda index: int(ranks[index]), default=None)


def _baseline(ranking: Ranking, first: int) -> Check | None:
    """Compare the best baseline of the target's field with the best source.

    Errors after a short fine-tuning decide where there are any, otherwise those of linear probes on the same folds.
    """
    pilot = ranking.pilot
    is_tuned = pilot is not None and pilot.table.first_source is not None
    table = pilot.table if pilot and is_tuned else ranking.tables.get(PROBE)
    if table is not None and best_baseline(table, ranking) is None:
        is_tuned, table = False, ranking.tables.get(PROBE)
    if table is None or table.first_source is None:
        return None
    best, baseline = table.first_source, best_baseline(table, ranking)
    if baseline is None:
        return None
    # Sources are judged at the best of several rates, and baselines have none.
    choices = sources_compared(table) * (pilot.rates if pilot and is_tuned else 1)
    n_baselines = len(ranking.rows_with_value(BASELINE, table))
    comparison = compare_baseline(table, best, baseline, choices, n_baselines)
    values = {
        "score": table.name,
        "result": comparison.result,
        **_measured(table, baseline),
        "baseline": ranking.rows[baseline].name.removeprefix(BASELINE_PREFIX),
        "best_source": ranking.rows[best].name,
        "best_value": float(table.standings.values[best]),
        "first": ranking.rows[first].name,
        **comparison._asdict(),
    }
    return Check("baseline", CONTROL_STATUSES[comparison.result], values)


def _majority_class(ranking: Ranking, first: int) -> Check | None:
    """Compare an error with that of always predicting the majority class.

    The score that the sources are ranked by is used if it is an error rate, otherwise k-NN.
    """
    score_name = ranking.by if ranking.by in ERROR_SCORES else ERROR_SCORES[0]
    table = ranking.tables.get(score_name)
    if table is None or not ranking.target or ranking.target.task != CLASSIFICATION:
        return None
    error = float(table.standings.values[first])
    if not np.isfinite(error):
        return None
    baseline = 1 - ranking.target.largest_class_share
    values = {"first": ranking.rows[first].name, "score": score_name, **_measured(table, first), "baseline": baseline}
    high = values["interval"][1] if values["interval"] else error
    return Check("majority-class", FAIL if error >= baseline else WARN if high >= baseline else PASS, values)


def _control_by_other_scores(ranking: Ranking, first: int) -> Check | None:
    """Check whether the control is significantly worse by the other scores too.

    It fails if that is not so for more than half of the scores that can tell. These scores did not choose the source,
    so that their p-values are not corrected for the number of sources.
    """
    control = control_index(ranking, first)
    compared, similar = 0, []
    for name, table in _other_tables(ranking).items():
        comparison = _compare_control(table, first, control, 1)
        if control is None or comparison is None or comparison.result == CONTROL_UNKNOWN:
            continue
        compared += 1
        if comparison.result != CONTROL_WORSE:
            value, of_control = table.standings.values[[first, control]].tolist()
            similar.append({"score": name, "value": value, "control": of_control})
    if not compared:
        return None
    status = FAIL if len(similar) > compared / 2 else WARN if similar else PASS
    values = {"first": ranking.rows[first].name, "compared": compared, "similar": similar}
    return Check("control-by-other-scores", status, values)


def _other_tables(ranking: Ranking) -> dict[str, ScoreTable]:
    """Return the tables of the scores that depend on the target, except for the one that the sources are ranked by."""
    excluded = (ranking.by, *BASELINE_SCORES)
    return {name: table for name, table in ranking.tables.items() if name not in excluded}


def _other_scores(ranking: Ranking, first: int) -> Check | None:
    tables = {name: table for name, table in _other_tables(ranking).items() if sources_compared(table) > 1}
    if not tables:
        return None
    disagreeing = [
        {"score": name, "first": ranking.rows[winner].name}
        for name, table in tables.items()
        if (winner := table.first_source) is not None and table.source_ranks[first] != 1
    ]
    values = {
        "first": ranking.rows[first].name,
        "agreeing": len(tables) - len(disagreeing),
        "compared": len(tables),
        "disagreeing": disagreeing,
    }
    return Check("other-scores", PASS if len(disagreeing) < len(tables) / 2 else WARN, values)


def _largest_source(ranking: Ranking, first: int) -> Check | None:
    sizes = [row.properties.get("parameters") or 0 if row.kind == SOURCE else 0 for row in ranking.rows]
    largest = int(np.argmax(sizes))
    if sum(size > 0 for size in sizes) < 2 or sizes[largest] == sizes[first]:
        return None
    return Check("largest-source", INFO, {"source": ranking.rows[largest].name})


SOURCE_CHECKS = (
    _other_sources,
    _control,
    _controls_above,
    _baseline,
    _majority_class,
    _control_by_other_scores,
    _other_scores,
    _largest_source,
)
"""Checks of the source that is first by the score, or by the short fine-tuning, that decides."""


def _data_checks(ranking: Ranking) -> Iterator[Check]:
    if (known := ranking.known) and ranking.constant and sum(row.kind == SOURCE for row in ranking.rows) > 1:
        missing = [{"source": name, "install": command} for name, command in known.missing()]
        values = {"constant_answer": ranking.constant, "kind": known.kind, "origin": known.origin, "why": known.why}
        yield Check("known-sources", WARN if known.has_few_targets else INFO, {**values, "missing": missing})
    if ranking.pilot:
        yield _pilot(ranking, ranking.pilot)
    elif ranking.target and ranking.target.task == CLASSIFICATION:
        yield Check("evidence", INFO, FINDINGS)
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


def _pilot(ranking: Ranking, pilot: Pilot) -> Check:
    """Return what was fine-tuned shortly, and which source would be first without it."""
    table = ranking.tables[ranking.by]
    # The time of a short fine-tuning from the cache does not tell what it needs.
    is_computed = "pilot" in ranking.jobs and ranking.jobs["pilot"].computed > 0
    spreads = [float(one.by_training.std(ddof=1)) for one in pilot.results.values() if len(one.by_training) > 1]
    trainings = max((len(one.by_training) for one in pilot.results.values()), default=0)
    values = {
        "score": ranking.by,
        "sources": sources_compared(pilot.table),
        "epochs": pilot.epochs,
        "rates": pilot.rates,
        "trained": pilot.trained,
        "judged": pilot.judged,
        "first_by_score": _first_name(ranking, table),
        "of": sources_compared(table),
        "seconds": ranking.seconds.get("pilot") if is_computed else None,
        # How often each source was trained at its best rate, and the largest spread of these trainings.
        **({"trainings": trainings, "spread": max(spreads)} if spreads else {}),
    }
    return Check("pilot", INFO if values["sources"] else WARN, values)
