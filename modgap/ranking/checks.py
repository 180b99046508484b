"""Checks of a ranking: comparisons of the first source with others and with baselines, and limits of the data."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from modgap.ranking.baseline_checks import baseline_checks, other_tables
from modgap.ranking.evidence import FINDINGS
from modgap.ranking.first_place import other_sources
from modgap.ranking.score import CLASSIFICATION
from modgap.ranking.standings import SURELY_WORSE
from modgap.ranking.subsamples import MIN_GROUPS
from modgap.ranking.types import SOURCE, Halving, Pilot, Ranking
from modgap.ranking.verdict import FAIL, INFO, PASS, WARN, Check
from modgap.statistics.intervals import MIN_UNITS
from modgap.storage.json_records import plain_values

__all__ = ["FEW_SAMPLES", "collect_checks"]

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
    yield from baseline_checks(ranking, first)
    by_others = _other_scores(ranking, first)
    if by_others is not None:
        yield by_others
    largest = _largest_source(ranking, first)
    if largest:
        yield Check("largest-source", INFO, {"source": largest})


def _other_scores(ranking: Ranking, first: int) -> Check | None:
    tables = {name: table for name, table in other_tables(ranking).items() if (table.source_ranks > 0).sum() > 1}
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
        "of": int((ranking.tables[ranking.by].source_ranks > 0).sum()),
        "seconds": ranking.seconds.get("pilot") if _is_computed(ranking) else None,
        **_trainings(pilot),
    }
    return Check("pilot", INFO if tuned.any() else WARN, values)


def _is_computed(ranking: Ranking) -> bool:
    """Return True if a short fine-tuning did not come from the cache, so that its time tells what it needs."""
    return "pilot" in ranking.jobs and ranking.jobs["pilot"].computed > 0


def _trainings(pilot: Pilot) -> dict[str, Any]:
    """Return how often each source was trained at its best rate, and the largest spread of these trainings."""
    errors = [result.by_training for result in pilot.results.values() if len(result.by_training) > 1]
    if not errors:
        return {}
    return {"trainings": len(errors[0]), "spread": max(float(one.std(ddof=1)) for one in errors)}


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
