"""Rankings of several targets: their rows as one list of jobs, and the matrix that the results make."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from modgap.errors import InputError, Progress, UsageError
from modgap.forward.inference_setup import LogitsRequest
from modgap.jobs import Backend, Failure
from modgap.ranking.extraction import Extracted
from modgap.ranking.field_baselines import BaselineJob
from modgap.ranking.jobs import ErrorsJob, ExtractJob, ScoreJob, score_jobs
from modgap.ranking.judgment import judge, request_options
from modgap.ranking.matrix.formats import MatrixResult
from modgap.ranking.matrix.over_targets import compare_over_targets, compare_scores, ranks_of
from modgap.ranking.matrix.result import DECIDING, Column, Measure, Row
from modgap.ranking.plan import RankPlan, plan_ranking
from modgap.ranking.rank import rank
from modgap.ranking.report import RankingResult
from modgap.ranking.scores import get_score
from modgap.ranking.source_patterns import split_input_size, with_input_size
from modgap.ranking.stages import JobMonitor
from modgap.ranking.types import CONTROL, SOURCE, JobCounts, Ranking, RankRequest, SourceRow
from modgap.sources import absolute_name
from modgap.storage.cache import check_cache_is_writable
from modgap.storage.json_records import plain_values
from modgap.targets import TargetRequest, open_target

log = logging.getLogger("modgap")

RowResults = Mapping[tuple[str, str], bool | Failure]
"""For each target and row, whether anything was computed, or why the row has no scores."""


def targets_of_names(names: Sequence[str], pseudo_classes: int | None = None) -> list[TargetRequest]:
    """Return a request for each of several targets, with absolute paths.

    Args:
        names: Names or paths of the targets.
        pseudo_classes: Number of clusters that replace the values of those with real values as classes.

    Raises:
        UsageError: If there is no such target, or if `pseudo_classes` applies to none.
    """
    if not names:
        raise UsageError("No target was named. Run `modgap targets` for a list of them.")
    tasks = {name: open_target(name).manifest.task for name in names}
    if pseudo_classes and "regression" not in tasks.values():
        raise UsageError("`pseudo_classes` applies to real-valued targets, but all of these have classes.")
    return [
        TargetRequest(name, pseudo_classes=pseudo_classes if task == "regression" else None).absolute()
        for name, task in tasks.items()
    ]


def rank_targets(
    targets: Sequence[TargetRequest],
    sources: Sequence[str],
    request: RankRequest,
    backend: Backend,
    progress: Progress | None = None,
) -> MatrixResult:
    """Rank sources for several targets, and return the matrix with the ranking of each target.

    Args:
        targets: The targets as the user names them.
        sources: Names of the sources.
        request: Scores and samples of all targets.
        backend: Where the jobs run.
        progress: Called with the name of a stage and the share of its work done since the last call.

    Raises:
        UsageError: If there are no sources, or if an option or a score is unknown.
        InputError: If no source has a score on any target, or the cache cannot be written.
    """
    check_cache_is_writable()
    monitor = JobMonitor(progress)
    with backend:
        plans, unreadable = _plans(targets, sources, request, backend, monitor)
        jobs = list_row_jobs(plans)
        results = {
            (job.target.name, job.source): result
            for job, result in zip(jobs, run_row_jobs(jobs, backend, monitor), strict=True)
        }
        rankings: dict[str, RankingResult] = {}
        for plan in plans:
            try:
                _rank_row_results(plan, request.by, results, rankings)
            except InputError as error:
                unreadable[plan.target.name] = str(error)
            if progress:
                progress("rankings", 1 / len(plans))
    if not rankings:
        raise InputError(next(iter([*_failures(results), *unreadable.values()])))
    return _matrix(plans[0], request, results, rankings, unreadable)


def _plans(
    targets: Sequence[TargetRequest],
    sources: Sequence[str],
    request: RankRequest,
    backend: Backend,
    monitor: JobMonitor,
) -> tuple[list[RankPlan], dict[str, str]]:
    """Return the plan of each target, and why the others cannot be ranked, by the name of the target.

    Names of files are absolute, because workers may have another working directory.
    """
    names = [with_input_size(absolute_name(base), size) for base, size in map(split_input_size, sources)]
    plans, errors = [], {}
    for target in targets:
        try:
            plans.append(plan_ranking(target, names, request, backend, monitor))
        except InputError as error:
            errors[target.name] = error
    if not plans:
        raise next(iter(errors.values()))
    return plans, {name: str(error) for name, error in errors.items()}


def _failures(results: RowResults) -> list[str]:
    """Return the reasons of the rows that failed, without those that are not defined."""
    return [result.reason for result in results.values() if isinstance(result, Failure) and not result.is_result]


def _rank_row_results(plan: RankPlan, by: str | None, results: RowResults, rankings: dict[str, RankingResult]) -> None:
    """Add the ranking of a target's rows that have scores, if any source is among them.

    The controls are named, so that no others are added.
    """
    target = plan.target.name
    names = [row.name for row in plan.rows if isinstance(results[target, row.name], bool)]
    if any(row.name in names for row in plan.rows if row.kind == SOURCE):
        # The baselines are those of the plan, of which fewer sources would allow fewer, without those that failed.
        fitted = [job.baseline for job in plan.baselines if isinstance(results[target, job.name], bool)]
        baselines = ",".join(fitted) or "none"
        # Everything is in the cache, so that this needs no device.
        samples = replace(plan.request.samples, device="cpu")
        request = replace(
            plan.request, by=by, samples=samples, controls=False, report_details=False, baselines=baselines
        )
        ranking = rank(plan.target, names, request, Backend(1))
        request = replace(
            ranking.request,
            samples=plan.request.samples,
            controls=plan.request.controls,
            baselines=plan.request.baselines,
        )
        # Its seconds are those of reading the cache, and would differ in each record.
        rankings[target] = replace(ranking, seconds={}, request=request)
        for job in plan.baselines:
            failure = results.get((target, job.name))
            if isinstance(failure, Failure):
                log.warning("%s is left out on %s: %s", job.name, target, failure.reason)


def _matrix(
    plan: RankPlan,
    request: RankRequest,
    results: RowResults,
    rankings: Mapping[str, RankingResult],
    unreadable: Mapping[str, str],
) -> MatrixResult:
    """Return the matrix of the rankings; all plans have the same rows. Baselines are no row of it."""
    sources = [row.name for row in plan.rows if row.kind == SOURCE]
    names = [*sources, *(row.name for row in plan.rows if row.kind == CONTROL)]
    measures = _measures(names, list(rankings.values()))
    deciding, *others = measures
    ranks = ranks_of(deciding.values[: len(sources)], deciding.higher_is_better)
    order, standings = compare_over_targets(sources, ranks)
    rows = np.array([*order, *range(len(sources), len(names))], np.int64)
    row_of = {row.name: row for ranking in rankings.values() for row in ranking.rows if row.properties}
    failures = _failures(results)
    n_computed, n_cached = (sum(result is one for result in results.values()) for one in (True, False))
    scores = (part for score in request.scores for part in ("--score", score))
    pseudo_classes = (one.requested.pseudo_classes for one in rankings.values() if one.requested)
    return MatrixResult(
        tuple(_row(names[index], row_of, is_control=index >= len(sources)) for index in rows),
        tuple(_column(target, ranking) for target, ranking in rankings.items()),
        {
            one.name: replace(one, values=one.values[rows], intervals=one.intervals[rows], similar=one.similar[rows])
            for one in measures
        },
        ranks[order],
        standings,
        compare_scores(deciding, others, len(sources)),
        _reasons(names, results, rankings),
        len(failures),
        plain_values(asdict(request)),
        (*request_options(request, request.by, next(filter(None, pseudo_classes), None)), *scores),
        next(iter(failures), ""),
        unreadable,
        _without_source(sources, results),
        JobCounts(n_computed, n_cached, len(failures)),
        rankings,
    )


def _without_source(sources: Sequence[str], results: RowResults) -> tuple[str, ...]:
    """Return the targets on which all sources have failed."""
    has_source: dict[str, bool] = {}
    for (target, name), result in results.items():
        if name in sources:
            has_source[target] = has_source.get(target, False) or isinstance(result, bool)
    return tuple(target for target, one in has_source.items() if not one)


def _measures(names: Sequence[str], rankings: Sequence[Ranking]) -> list[Measure]:
    """Return the score that decides, and then all other scores that any source has."""
    decided = [ranking.by for ranking in rankings]
    first = decided[0] if len(set(decided)) == 1 else DECIDING
    scores = dict.fromkeys(name for ranking in rankings for name in ranking.tables if name != first)
    others = [_measure(score, [score] * len(rankings), names, rankings) for score in scores]
    return [
        _measure(first, decided, names, rankings),
        *(measure for measure in others if np.isfinite(measure.values).any()),
    ]


def _measure(name: str, scores: Sequence[str], names: Sequence[str], rankings: Sequence[Ranking]) -> Measure:
    """Return the measure of a name, which is one score on each target."""
    numbers = {source: number for number, source in enumerate(names)}
    shape = (len(names), len(rankings))
    values, intervals, similar = np.full(shape, np.nan), np.full((*shape, 2), np.nan), np.zeros(shape, bool)
    for column, (score, ranking) in enumerate(zip(scores, rankings, strict=True)):
        table = ranking.tables.get(score)
        if table is None:
            continue
        first = table.first_source
        tied = set() if first is None else {first, *table.among_sources.tied_with(first).tolist()}
        for index, row in enumerate(ranking.rows):
            if row.name not in numbers or not table.standings.ranks[index]:
                continue
            cell = numbers[row.name], column
            values[cell], intervals[cell] = table.standings.values[index], table.standings.intervals[index]
            similar[cell] = index in tied
            if row.kind == CONTROL and first is not None:
                # A control that is better than the first source, or not significantly worse.
                is_better = table.standings.ranks[index] < table.standings.ranks[first]
                is_known = np.isfinite(table.standings.p_values[index, first])
                similar[cell] = is_known and (is_better or not table.standings.different[index, first])
    higher_is_better = np.array([get_score(score).higher_is_better for score in scores])
    return Measure(name, higher_is_better, values, intervals, similar)


def _row(name: str, row_of: Mapping[str, SourceRow], *, is_control: bool) -> Row:
    kind = CONTROL if is_control else SOURCE
    row = row_of.get(name, SourceRow(name, kind))
    return Row(name, kind, row.provenance.get("kinds", {}).get("source", ""), row.properties.get("parameters"))


def _column(target: str, ranking: Ranking) -> Column:
    kinds = [row.provenance["kinds"]["samples"] for row in ranking.rows if "kinds" in row.provenance]
    verdict = judge(ranking)
    samples = ranking.target.samples if ranking.target else 0
    return Column(target, kinds[0] if kinds else "", samples, ranking.by, verdict.choice, verdict.help)


def _reasons(names: Sequence[str], results: RowResults, rankings: Mapping[str, Ranking]) -> dict[tuple[str, str], str]:
    """Return why a row has no score on a target: from the ranking of the target, or from the job of the row."""
    reasons = {
        (row.name, target): ranking.reason(number)
        for target, ranking in rankings.items()
        for number, row in enumerate(ranking.rows)
        if row.name in names and ranking.reason(number)
    }
    for (target, name), result in results.items():
        if isinstance(result, Failure) and name in names:
            reasons[name, target] = result.reason
    return reasons


STAGE = "sources"
NOT_STORED = Failure("The results could not be written to the cache, as happens when the disk is full.")


@dataclass(frozen=True)
class RowJob:
    """Pass of one row of a ranking, and all its scores, or the errors of a baseline. The results are in the cache.

    Attributes:
        source: Name of the source, of its random-weights control, or of the baseline.
        requested: True if the user named the source.
        target: The target as the user names it, with absolute paths.
        task: Task of the target.
        scores: Names of the scores.
        request: The request of the ranking.
        passes: Samples, device and head of the pass.
        baseline: Cross-validation of the baseline. None for a source or control.
    """

    source: str
    requested: bool
    target: TargetRequest
    task: str
    scores: tuple[str, ...]
    request: RankRequest
    passes: LogitsRequest
    baseline: BaselineJob | None = None

    def __call__(self) -> bool | Failure:
        """Compute what is not in the cache, and return whether that was anything, or why the row has no scores."""
        if self.baseline:
            result = _run_missing([self.baseline])
            return replace(result, is_result=True) if isinstance(result, Failure) else result
        extracted = ExtractJob(self.source, self.target, self.passes)()
        if isinstance(extracted, Failure):
            # Not every source has random weights, and nobody asked for the row of its control.
            return replace(extracted, is_result=not self.requested)
        result = _run_missing(self._score_jobs(extracted))
        return result if isinstance(result, Failure) else result or not extracted.cached

    def _score_jobs(self, extracted: Extracted) -> Iterable[ScoreJob | ErrorsJob]:
        about = self.request, self.task, extracted.surrogate_key
        return (job for name in self.scores for job in score_jobs(extracted.key, name, *about))


def _run_missing(jobs: Iterable[ScoreJob | ErrorsJob | BaselineJob]) -> bool | Failure:
    """Run the jobs whose results are not in the cache, and return whether there was any, or why one failed."""
    is_computed = False
    for job in jobs:
        if job.load_cached() is not None:
            continue
        is_computed = True
        result = job()
        if isinstance(result, Failure) and not result.is_result:
            return result
        if job.load_cached() is None:
            return NOT_STORED
    return is_computed


def list_row_jobs(plans: Sequence[RankPlan]) -> list[RowJob]:
    """Return a job for each row of each plan, source by source.

    The jobs of the baselines are the last, target by target.

    Args:
        plans: Plans of the same sources for different targets.
    """
    n_jobs = sum(len(plan.rows) for plan in plans)

    def row_job(plan: RankPlan, name: str, requested: bool, baseline: BaselineJob | None = None) -> RowJob:
        passes = plan.pass_request(n_jobs)
        return RowJob(name, requested, plan.target, plan.task, plan.scores, plan.request, passes, baseline)

    by_source = zip(*(plan.rows for plan in plans), strict=True)
    pairs = [pair for rows in by_source for pair in zip(plans, rows, strict=True)]
    of_rows = [row_job(plan, row.name, row.requested) for plan, row in pairs]
    return [*of_rows, *(row_job(plan, job.name, False, job) for plan in plans for job in plan.baselines)]


def run_row_jobs(jobs: Sequence[RowJob], backend: Backend, monitor: JobMonitor) -> list[bool | Failure]:
    """Return, for each job, whether anything was computed, or why its row has no scores.

    A failure is a result if nobody asked for the row.
    """
    results: dict[int, bool | Failure] = {}
    monitor.begin(STAGE, len(jobs))
    device = jobs[0].passes.samples.device if jobs else ""
    for index, result in backend.run(jobs, device=device):
        results[index] = result
        monitor.finish(STAGE)
    return [results[index] for index in range(len(jobs))]
