"""The table that the results of one score's jobs make for the rows of a ranking."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modgap.jobs import Failure
from modgap.ranking.error_standings import ScoredErrors, check_comparable, compute_error_standings, sample_file
from modgap.ranking.extraction import Extracted
from modgap.ranking.jobs import score_jobs
from modgap.ranking.plan import RankPlan
from modgap.ranking.score import Score
from modgap.ranking.scores import get_score
from modgap.ranking.standings import Standings, compute_standings
from modgap.ranking.stored_outputs import load_sample_numbers, load_source_outputs
from modgap.ranking.subsamples import SPREAD_FACTOR
from modgap.ranking.types import RAW_VALUES, SOURCE, ScoreTable, SourceRow
from modgap.statistics.sample_file import SampleFile

__all__ = ["errors_by_score", "score_table"]


def score_table(
    score_name: str,
    rows: Sequence[SourceRow],
    extracted: Mapping[int, Extracted],
    scored: Mapping[Any, Any],
    plan: RankPlan,
    n_units: int | None = None,
) -> ScoreTable:
    """Return the values and comparisons of one score for all rows.

    Args:
        score_name: Name of the score.
        rows: The rows of the ranking.
        extracted: References to the outputs of each row that could be run, by its index.
        scored: Result of each job.
        plan: The plan of the ranking.
        n_units: Number of groups, or of independent samples; None if no source could be run.
    """
    score = get_score(score_name)
    reasons = [row.reason for row in rows]
    results = {
        index: [scored[job] for job in score_jobs(source, score_name, plan.request, plan.task)]
        for index, source in extracted.items()
    }
    for index, of_row in results.items():
        failure = next((result for result in of_row if isinstance(result, Failure)), None)
        reasons[index] = _explain_failure(failure, rows[index], score) if failure else ""
        if rows[index].kind == RAW_VALUES and score.depends_on_unit:
            reasons[index] = f"Not defined: {score_name} depends on the unit of the values."
    values = {index: of_row for index, of_row in results.items() if not reasons[index]}
    by_sample = plan.task in score.error_tasks
    if by_sample:
        standings = _standings_of_errors(score, rows, {index: errors for index, (errors,) in values.items()})
    else:
        standings = _standings_of_subsamples(score, len(rows), values, plan.request.resamples, n_units)
    for index in values:
        if not np.isfinite(standings.values[index]):
            reasons[index] = _explain_missing_value(score)
    is_source = np.array([row.kind == SOURCE for row in rows])
    return ScoreTable(
        score_name, score.higher_is_better, standings, standings.among(is_source), tuple(reasons), by_sample
    )


def _standings_of_errors(score: Score, rows: Sequence[SourceRow], scored: Mapping[int, ScoredErrors]) -> Standings:
    check_comparable({rows[index].name: one for index, one in scored.items()})
    errors = [scored[index].errors if index in scored else None for index in range(len(rows))]
    return compute_error_standings(score, errors)


def _standings_of_subsamples(
    score: Score, n_rows: int, results: Mapping[int, Sequence[np.ndarray]], resamples: int, n_units: int | None
) -> Standings:
    """Return the standings from the values of each row: that of all samples, and those of blocks of subsamples."""
    values = np.full(n_rows, np.nan)
    subsamples = np.full((n_rows, resamples if score.uses_samples else 0), np.nan)
    for index, (on_all, *on_subsamples) in results.items():
        values[index] = on_all[0]
        subsamples[index] = np.concatenate([np.empty(0), *on_subsamples])
    higher, bounds = score.higher_is_better, score.bounds
    return compute_standings(
        values,
        subsamples,
        higher_is_better=higher,
        bounds=bounds,
        n_units=n_units,
        spread_factor=SPREAD_FACTOR,
    )


def errors_by_score(
    score_name: str,
    rows: Sequence[SourceRow],
    extracted: Mapping[int, Extracted],
    scored: Mapping[Any, Any],
    plan: RankPlan,
) -> SampleFile | None:
    """Return the errors of the tested samples by one score, or None if the score is not an error by sample.

    Args:
        score_name: Name of the score.
        rows: The rows of the ranking.
        extracted: References to the outputs of each row that could be run, by its index.
        scored: Result of each job.
        plan: The plan of the ranking.
    """
    if plan.task not in get_score(score_name).error_tasks:
        return None
    results = {
        index: scored[job]
        for index, source in extracted.items()
        for job in score_jobs(source, score_name, plan.request, plan.task)
    }
    scored_errors = {rows[index].name: one for index, one in results.items() if isinstance(one, ScoredErrors)}
    if not scored_errors:
        return None
    key = next(iter(extracted.values())).key
    return sample_file(scored_errors, load_source_outputs(key), load_sample_numbers(key))


def _explain_failure(failure: Failure, row: SourceRow, score: Score) -> str:
    """Return why a score has no value. The reason of a source would not suit raw values, which are no source."""
    if row.kind == RAW_VALUES and score.needs_logits:
        return "Raw values have no classification head."
    return failure.reason


def _explain_missing_value(score: Score) -> str:
    if score.uses_samples:
        return f"The score {score.name} is not defined on these samples."
    return f"The score {score.name} is not known for this source."
