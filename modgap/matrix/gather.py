"""The matrix of what the workers of a list of jobs have finished. It runs no source; all passes are in the cache."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from modgap.errors import InputError
from modgap.formatting import count
from modgap.matrix.comparison import compare_over_targets, compare_scores, ranks_of
from modgap.matrix.finished_jobs import FinishedJob, FinishedJobs
from modgap.matrix.job_list import JobList, PlannedJob
from modgap.matrix.result import DECIDING, Column, Matrix, Measure, Row
from modgap.matrix.worker import FINISHED_FOLDER
from modgap.progress import Progress
from modgap.ranking.backends import Backend
from modgap.ranking.failure import NOT_CACHED
from modgap.ranking.judgment import judge
from modgap.ranking.plan import CONTROL_PREFIX
from modgap.ranking.rank import rank
from modgap.ranking.raw_values import RAW
from modgap.ranking.scores import get_score
from modgap.ranking.types import CONTROL, SOURCE, Ranking, SourceRow
from modgap.storage.json_records import plain_values

__all__ = ["gather"]


def gather(jobs: JobList, progress: Progress | None = None) -> tuple[Matrix, dict[str, Ranking]]:
    """Return the matrix of the finished jobs of a list, and the ranking of each target.

    Args:
        jobs: The list.
        progress: Called with `rankings` and the share of the targets since the last call.

    Raises:
        InputError: If no source is finished on any target.
    """
    finished = FinishedJobs(jobs.state_folder / FINISHED_FOLDER).refresh()
    sources, controls = _names(jobs)
    rankings: dict[str, Ranking] = {}
    unreadable: dict[str, str] = {}
    for target, of_target in _by_target(jobs).items():
        done = [job.source for job in of_target if _is_done(job, finished)]
        if any(name in sources for name in done):
            try:
                rankings[target] = _rank(target, done, jobs)
            except InputError as error:
                unreadable[target] = str(error)
        if progress:
            progress("rankings", 1 / len(jobs.targets))
    if not rankings:
        raise InputError(_nothing_to_gather(jobs, finished, unreadable))
    return _matrix(jobs, sources, controls, finished, rankings, unreadable), rankings


def _nothing_to_gather(jobs: JobList, finished: Mapping[str, FinishedJob], unreadable: Mapping[str, str]) -> str:
    """Return why there is no ranking."""
    if unreadable:
        return next(iter(unreadable.values()))
    reasons = [finished[job.id].reason for job in jobs.jobs if job.id in finished and finished[job.id].reason]
    if reasons:
        return (
            f"No source of {jobs.path} is finished on any target, and {count(len(reasons), 'job')} failed, the first "
            f"with: {reasons[0]} To repeat failed jobs: modgap worker {jobs.path} --retry-failed"
        )
    return f"No job of {jobs.path} is finished. Start workers with: modgap worker {jobs.path}"


def _names(jobs: JobList) -> tuple[list[str], list[str]]:
    """Return the sources and the controls in the order of the list, without raw values; controls alone are sources."""
    names = dict.fromkeys(job.source for job in jobs.jobs if job.source != RAW)
    controls = [name for name in names if name.startswith(CONTROL_PREFIX)]
    sources = [name for name in names if not name.startswith(CONTROL_PREFIX)]
    return (sources, controls) if sources else (controls, [])


def _by_target(jobs: JobList) -> dict[str, list[PlannedJob]]:
    grouped: dict[str, list[PlannedJob]] = {}
    for job in jobs.jobs:
        grouped.setdefault(job.target, []).append(job)
    return grouped


def _is_done(job: PlannedJob, finished: Mapping[str, FinishedJob]) -> bool:
    return job.id in finished and finished[job.id].status == "done"


def _has_failed(job: PlannedJob, finished: Mapping[str, FinishedJob]) -> bool:
    return job.id in finished and finished[job.id].status == "failed"


def _rank(target: str, names: Sequence[str], jobs: JobList) -> Ranking:
    """Rank the finished rows of a target; the controls and the raw values are named, so that no others are added."""
    sources = [name for name in names if name != RAW]
    request = replace(jobs.request, controls=False, raw=RAW in names, report_details=False)
    backend = Backend("serial", only_cached=True)
    return rank(target, sources, request, backend, pseudo_classes=jobs.pseudo_classes_of(target))


def _matrix(
    jobs: JobList,
    sources: Sequence[str],
    controls: Sequence[str],
    finished: Mapping[str, FinishedJob],
    rankings: Mapping[str, Ranking],
    unreadable: Mapping[str, str],
) -> Matrix:
    measures = _measures([*sources, *controls], list(rankings.values()))
    deciding, *others = measures
    ranks = ranks_of(deciding.values[: len(sources)], deciding.higher_is_better)
    order, standings = compare_over_targets(sources, ranks)
    rows = np.array([*order, *range(len(sources), len(sources) + len(controls))], np.int64)
    names = [*sources, *controls]
    known = _known_rows(rankings.values())
    failures = [finished[job.id].reason for job in jobs.jobs if _has_failed(job, finished)]
    return Matrix(
        tuple(_row(names[index], known, is_control=index >= len(sources)) for index in rows),
        tuple(_column(target, ranking) for target, ranking in rankings.items()),
        {measure.name: _reordered(measure, rows) for measure in measures},
        ranks[order],
        standings,
        compare_scores(deciding, others, len(sources)),
        _reasons(jobs, names, finished, rankings),
        sum(job.id not in finished for job in jobs.jobs),
        len(failures),
        plain_values(asdict(jobs.request)),
        next(iter(failures), ""),
        sum(row.reason == NOT_CACHED.reason for ranking in rankings.values() for row in ranking.rows),
        dict(unreadable),
        _without_source(jobs, sources, finished),
    )


def _without_source(jobs: JobList, sources: Sequence[str], finished: Mapping[str, FinishedJob]) -> tuple[str, ...]:
    """Return the targets on which sources have finished, and all of them have failed."""
    failed: dict[str, bool] = {}
    for job in jobs.jobs:
        if job.source in sources and job.id in finished:
            failed[job.target] = failed.get(job.target, True) and not _is_done(job, finished)
    return tuple(target for target, all_failed in failed.items() if all_failed)


@dataclass(frozen=True)
class _MeasureColumn:
    """One score of all rows on one target: values (R,), intervals (R, 2), and which are similar to the first (R,)."""

    higher_is_better: bool
    values: np.ndarray
    intervals: np.ndarray
    similar: np.ndarray


def _measures(names: Sequence[str], rankings: Sequence[Ranking]) -> list[Measure]:
    """Return the score that decides, and then all other scores that any source has."""
    decided = [ranking.by for ranking in rankings]
    scores = dict.fromkeys(name for ranking in rankings for name in ranking.tables)
    columns = {score: [_measure_column(score, ranking, names) for ranking in rankings] for score in scores}
    first = decided[0] if len(set(decided)) == 1 else DECIDING
    columns[DECIDING] = [columns[score][number] for number, score in enumerate(decided)]
    measures = {score: _join(score, of_score) for score, of_score in columns.items()}
    shown = [name for name, one in measures.items() if np.isfinite(one.values).any() and name not in (first, DECIDING)]
    return [measures[first], *(measures[name] for name in shown)]


def _join(name: str, columns: Sequence[_MeasureColumn]) -> Measure:
    return Measure(
        name,
        np.array([column.higher_is_better for column in columns]),
        np.stack([column.values for column in columns], axis=1),
        np.stack([column.intervals for column in columns], axis=1),
        np.stack([column.similar for column in columns], axis=1),
    )


def _measure_column(score: str, ranking: Ranking, names: Sequence[str]) -> _MeasureColumn:
    table = ranking.tables.get(score)
    size = len(names)
    values, intervals, similar = np.full(size, np.nan), np.full((size, 2), np.nan), np.zeros(size, bool)
    if table is None:
        return _MeasureColumn(get_score(score).higher_is_better, values, intervals, similar)
    standings = table.standings
    rows = {row.name: number for number, row in enumerate(ranking.rows)}
    first = table.first_source
    tied = set() if first is None else {first, *table.among_sources.tied_with(first).tolist()}
    for number, name in enumerate(names):
        row = rows.get(name)
        if row is None or not standings.ranks[row]:
            continue
        values[number], intervals[number] = standings.values[row], standings.intervals[row]
        is_control = ranking.rows[row].kind == CONTROL and first is not None
        similar[number] = _is_not_worse(row, first, ranking, score) if is_control else row in tied
    return _MeasureColumn(table.higher_is_better, values, intervals, similar)


def _is_not_worse(control: int, first: int | None, ranking: Ranking, score: str) -> bool:
    """Return True if a control is better than the first source, or not significantly worse."""
    standings = ranking.tables[score].standings
    is_known = bool(np.isfinite(standings.p_values[control, first]))
    is_different = bool(standings.different[control, first])
    return is_known and (not is_different or bool(standings.ranks[control] < standings.ranks[first]))


def _known_rows(rankings: Iterable[Ranking]) -> dict[str, SourceRow]:
    """Return a row of each source that could be run on any target."""
    return {row.name: row for ranking in rankings for row in ranking.rows if row.properties}


def _row(name: str, known: Mapping[str, SourceRow], *, is_control: bool) -> Row:
    kind = CONTROL if is_control else SOURCE
    row = known.get(name)
    if row is None:
        return Row(name, kind)
    return Row(name, kind, row.provenance.get("kinds", {}).get("source", ""), row.properties.get("parameters"))


def _column(target: str, ranking: Ranking) -> Column:
    kinds = [row.provenance["kinds"]["samples"] for row in ranking.rows if "kinds" in row.provenance]
    verdict = judge(ranking)
    samples = ranking.target.samples if ranking.target else 0
    return Column(target, kinds[0] if kinds else "", samples, ranking.by, verdict.choice, verdict.help)


def _reordered(measure: Measure, rows: np.ndarray) -> Measure:
    return replace(
        measure, values=measure.values[rows], intervals=measure.intervals[rows], similar=measure.similar[rows]
    )


def _reasons(
    jobs: JobList, names: Sequence[str], finished: Mapping[str, FinishedJob], rankings: Mapping[str, Ranking]
) -> dict[tuple[str, str], str]:
    """Return why a finished job has no score: from the ranking of its target, or from the worker that ran it."""
    reasons = {
        (row.name, target): ranking.reason(number)
        for target, ranking in rankings.items()
        for number, row in enumerate(ranking.rows)
        if row.name in names and ranking.reason(number)
    }
    for job in jobs.jobs:
        if job.id in finished and finished[job.id].status != "done" and job.source in names:
            reasons[job.source, job.target] = finished[job.id].reason
    return reasons
