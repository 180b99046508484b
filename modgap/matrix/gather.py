"""The matrix of what the workers of a list of jobs have finished. It computes no pass; all comes from the cache."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
from scipy.stats import rankdata

from modgap.errors import InputError
from modgap.matrix.finished_jobs import FinishedJob, FinishedJobs
from modgap.matrix.job_list import JobList, PlannedJob
from modgap.matrix.result import Matrix, compare_over_targets
from modgap.matrix.worker import FINISHED_FOLDER
from modgap.progress import Progress
from modgap.ranking.backends import Backend
from modgap.ranking.plan import CONTROL_PREFIX
from modgap.ranking.rank import rank
from modgap.ranking.raw_values import RAW
from modgap.ranking.types import Ranking
from modgap.storage.json_records import plain_values

__all__ = ["gather"]


def gather(jobs: JobList, progress: Progress | None = None) -> tuple[Matrix, dict[str, Ranking]]:
    """Return the matrix of the finished jobs of a list, and the ranking of each target.

    Args:
        jobs: The list.
        progress: Called with `rankings` and the share of the targets since the last call.

    Raises:
        InputError: If no job is finished.
    """
    finished = FinishedJobs(jobs.state_folder / FINISHED_FOLDER).refresh()
    sources = _source_names(jobs)
    rankings: dict[str, Ranking] = {}
    for target, of_target in _by_target(jobs).items():
        done = [job.source for job in of_target if _is_done(job, finished)]
        if any(name in sources for name in done):
            rankings[target] = _rank(target, done, jobs)
        if progress:
            progress("rankings", 1 / len(jobs.targets))
    if not rankings:
        raise InputError(f"No job of {jobs.path} is finished. Start workers with: modgap worker {jobs.path}")
    return _matrix(jobs, list(sources), finished, rankings), rankings


def _source_names(jobs: JobList) -> dict[str, None]:
    """Return the sources in the order of the list, without controls and raw values; controls alone are sources."""
    names = dict.fromkeys(job.source for job in jobs.jobs if job.source != RAW)
    return {name: None for name in names if not name.startswith(CONTROL_PREFIX)} or names


def _by_target(jobs: JobList) -> dict[str, list[PlannedJob]]:
    grouped: dict[str, list[PlannedJob]] = {}
    for job in jobs.jobs:
        grouped.setdefault(job.target, []).append(job)
    return grouped


def _is_done(job: PlannedJob, finished: Mapping[str, FinishedJob]) -> bool:
    return job.id in finished and finished[job.id].status == "done"


def _rank(target: str, names: Sequence[str], jobs: JobList) -> Ranking:
    """Rank the finished rows of a target; the controls and the raw values are named, so that no others are added."""
    sources = [name for name in names if name != RAW]
    request = replace(jobs.request, controls=False, raw=RAW in names, report_details=False)
    return rank(target, sources, request, Backend("serial"), pseudo_classes=jobs.pseudo_classes)


def _matrix(
    jobs: JobList, names: Sequence[str], finished: Mapping[str, FinishedJob], rankings: Mapping[str, Ranking]
) -> Matrix:
    targets = tuple(rankings)
    shape = len(names), len(targets)
    values, ranks, best = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, bool)
    reasons: dict[tuple[str, str], str] = {}
    for column, (target, ranking) in enumerate(rankings.items()):
        table = ranking.tables[ranking.by]
        rows = {row.name: number for number, row in enumerate(ranking.rows)}
        for number, name in enumerate(names):
            if name in rows and table.source_ranks[rows[name]]:
                values[number, column] = table.standings.values[rows[name]]
            elif name in rows:
                reasons[name, target] = ranking.reason(rows[name])
        sign = -1 if table.higher_is_better else 1
        known = np.isfinite(values[:, column])
        ranks[known, column] = rankdata(sign * values[known, column])
        best[:, column] = _best(ranking, names)
    for job in jobs.jobs:
        if job.id in finished and finished[job.id].status == "failed" and job.source in names:
            reasons[job.source, job.target] = finished[job.id].reason
    order, standings = compare_over_targets(names, ranks)
    return Matrix(
        tuple(names[index] for index in order),
        targets,
        tuple(ranking.by for ranking in rankings.values()),
        values[order],
        ranks[order],
        best[order],
        standings,
        reasons,
        sum(job.id not in finished for job in jobs.jobs),
        plain_values(asdict(jobs.request)),
    )


def _best(ranking: Ranking, names: Sequence[str]) -> np.ndarray:
    """Return which sources are the first of a ranking or not significantly different from it."""
    table = ranking.tables[ranking.by]
    first = table.first_source
    if first is None:
        return np.zeros(len(names), bool)
    tied = {first, *table.among_sources.tied_with(first).tolist()}
    found = {ranking.rows[index].name for index in tied}
    return np.array([name in found for name in names])
