"""Ranking of sources for a target: one pass of each source, then scores and their comparisons."""

import itertools
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from modgap.errors import Progress
from modgap.jobs import Backend, Failure
from modgap.process.log_messages import each_message_once
from modgap.ranking.extraction import Extracted
from modgap.ranking.field_baselines import BaselineJob
from modgap.ranking.jobs import ExtractJob, ScoreResult, errors_by_score, score_jobs, score_table
from modgap.ranking.layers import measure_layers
from modgap.ranking.pilot import run_pilots
from modgap.ranking.plan import PROBE, RankPlan, plan_ranking
from modgap.ranking.report import RankingResult
from modgap.ranking.report_details import ReportDetails, ReportDetailsJob, correct_p_values
from modgap.ranking.source_outputs import CLASSIFICATION, load_source_outputs
from modgap.ranking.stages import JobMonitor, run_stage
from modgap.ranking.target_summary import summarize_target
from modgap.ranking.types import (
    BASELINE,
    CONTROL,
    SOURCE,
    JobCounts,
    LayerCurve,
    RankRequest,
    SourceRow,
    TargetSummary,
)
from modgap.sources import is_control, pretrained_name
from modgap.statistics.intervals import SampleErrors
from modgap.storage.cache import check_cache_is_writable
from modgap.targets import TargetRequest

log = logging.getLogger("modgap")

MIN_PERMUTATIONS = 99
PERMUTATIONS_PER_SOURCE = 20


def rank(
    target: str | TargetRequest,
    sources: Sequence[str],
    request: RankRequest | None = None,
    backend: Backend | None = None,
    *,
    progress: Progress | None = None,
) -> RankingResult:
    """Rank sources by how well they suit a target.

    Args:
        target: Name or path of the target, as for `modgap.targets.open_target`, or a request for it.
        sources: Names of the sources, as for `modgap.sources.open_source`. A name may end with the size of the source's
            input, as in `vit-b@128px`.
        request: Scores, samples and precision. None for the defaults.
        backend: Backend that runs the jobs. None for one process on each core of this machine.
        progress: Called with the name of a stage and the share of its work done since the last call. None for no
            reports.

    Returns:
        The ranking. Sources that failed have a row with the reason.

    Raises:
        UsageError: If there are no sources, or if an option or a score is unknown.
        InputError: If the target cannot be used, or the cache cannot be written.
    """
    requested = TargetRequest(target) if isinstance(target, str) else target
    request, backend = request or RankRequest(), backend or Backend()

    with each_message_once(requested.absolute().name, requested.name), backend:
        check_cache_is_writable()
        plan = plan_ranking(requested, sources, request, backend, JobMonitor(progress))
        ranking = _compute_ranking(plan)
    # The plan has the target by its absolute path. The result has it as the user names it.
    summary = ranking.target and replace(ranking.target, name=requested.name)
    return replace(ranking, target=summary, requested=requested)


def _compute_ranking(plan: RankPlan) -> RankingResult:
    """Run the stages of a plan one after the other, and return the ranking of their results.

    A result belongs to a row by its index. The rows of the sources and their controls come first, and those of the
    baselines follow.
    """
    seconds: dict[str, float] = {}
    jobs: dict[str, JobCounts] = {}
    with _timed(seconds, "features"):
        rows, results, jobs["features"] = _extract_all(plan)
    extracted = {index: result for index, result in enumerate(results) if isinstance(result, Extracted)}
    with _timed(seconds, "scores"):
        by_score, jobs["scores"] = _score_all(plan, extracted)
    fitted: dict[BaselineJob, SampleErrors] = {}
    layers: tuple[LayerCurve, ...] = ()
    details: dict[int, ReportDetails] = {}
    if extracted and plan.baselines:
        with _timed(seconds, "baselines"):
            fitted, jobs["baselines"] = _fit_baselines(plan)
    if plan.request.layers is not None:
        with _timed(seconds, "layers"):
            layers, of_layers = measure_layers(plan, rows, extracted)
            jobs |= of_layers
    if plan.request.report_details:
        with _timed(seconds, "report details"):
            details, jobs["report details"] = _compute_details(plan, rows, extracted)
    all_rows = [_with_result(rows[index], result, details.get(index)) for index, result in enumerate(results)]
    all_rows += [SourceRow(job.name, BASELINE, requested=False) for job in fitted]
    baselines = dict(enumerate(fitted, start=len(rows)))
    summary = _summary(plan, extracted)
    by = plan.scores[0]
    if baselines:
        by_score[PROBE] |= {index: [fitted[job]] for index, job in baselines.items()}
    tables = {name: score_table(name, all_rows, by_row, plan, summary) for name, by_row in by_score.items()}
    pilot = None
    if plan.request.pilot and extracted:
        with _timed(seconds, "pilot"):
            pilot, jobs["pilot"] = run_pilots(plan, all_rows, extracted, baselines)
    return RankingResult(
        summary,
        tuple(all_rows),
        tables,
        by,
        plan.request,
        jobs,
        seconds,
        samples=errors_by_score(all_rows, by_score[by], extracted, plan),
        layers=layers,
        pilot=pilot,
        known=plan.known,
        constant=_constant_answer(plan, all_rows, extracted),
    )


def _constant_answer(plan: RankPlan, rows: Sequence[SourceRow], extracted: Collection[int]) -> str:
    """Return the first known source of those that could be run; empty for other targets than those of classes."""
    usable = [rows[index].name for index in extracted if rows[index].kind == SOURCE]
    return next(iter(plan.known.known(usable)), "") if plan.task == CLASSIFICATION else ""


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Set the seconds of a stage to the wall time of the block."""
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


def _extract_all(plan: RankPlan) -> tuple[list[SourceRow], list[Extracted | Failure], JobCounts]:
    """Return the rows, the result of each and numbers of jobs, without failed controls that the user did not name.

    These controls run after all other rows, and only if their sources succeeded. Without a row they do not count as
    jobs, as in a matrix.
    """
    added_controls = [row.name for row in plan.rows if row.kind == CONTROL and not row.requested]
    first = [row.name for row in plan.rows if row.name not in added_controls]
    plan.monitor.begin("features", len(plan.rows))
    results = dict(_extract_each(first, plan))
    if any(isinstance(result, Extracted) for result in results.values()):
        controls = [name for name in added_controls if isinstance(results[pretrained_name(name)], Extracted)]
        results |= dict(_extract_each(controls, plan))
    plan.monitor.finish("features", len(plan.rows) - len(results))
    _warn_about_fitted_heads(results)
    rows = [row for row in plan.rows if row.requested or isinstance(results.get(row.name), Extracted)]
    passes = [results[row.name] for row in rows]
    cached = [result.cached for result in passes if isinstance(result, Extracted)]
    return rows, passes, JobCounts(len(cached) - sum(cached), sum(cached), len(passes) - len(cached))


def _extract_each(names: Sequence[str], plan: RankPlan) -> Iterator[tuple[str, Extracted | Failure]]:
    """Yield each name and its result, in the order in which the passes end."""
    jobs = [ExtractJob(name, plan.target, plan.pass_request(len(names))) for name in names]
    for index, result in plan.backend.run(jobs, device=plan.device):
        yield names[index], result
        plan.monitor.finish("features")


def _warn_about_fitted_heads(results: Mapping[str, Extracted | Failure]) -> None:
    """Warn that a linear head was fitted, and on which data, for sources that have none."""
    heads = {
        name: str(result.properties.get("head", ""))
        for name, result in results.items()
        if isinstance(result, Extracted) and not is_control(name)
    }
    for head in dict.fromkeys(heads.values()):
        kind, _, surrogate = head.partition(":")
        names = [name for name, of_source in heads.items() if of_source == head]
        if kind == "probe":
            log.warning(
                "A linear head was fitted on %s for %s, which %s no classification head. Scores of logits depend on "
                'it. Choose other data with `head="probe:SURROGATE"`, or leave these scores out with `head="none"`.',
                surrogate,
                ", ".join(names),
                "has" if len(names) == 1 else "have",
            )


def _score_all(
    plan: RankPlan, extracted: Mapping[int, Extracted]
) -> tuple[dict[str, dict[int, list[ScoreResult | Failure]]], JobCounts]:
    """Return the results of the jobs of each score for each row that could be run, and numbers of jobs."""
    planned = {
        (index, name): score_jobs(source.key, name, plan.request, plan.task, source.surrogate_key)
        for (index, source), name in itertools.product(extracted.items(), plan.scores)
    }
    every_job = list(itertools.chain.from_iterable(planned.values()))
    results, counts = run_stage("scores", every_job, plan.backend, plan.monitor)
    by_pair = {pair: [results[job] for job in jobs] for pair, jobs in planned.items()}
    return {name: {index: by_pair[index, name] for index in extracted} for name in plan.scores}, counts


def _fit_baselines(plan: RankPlan) -> tuple[dict[BaselineJob, SampleErrors], JobCounts]:
    """Return the cross-validated errors of the baselines that could be fitted, and numbers of jobs."""
    results, counts = run_stage("baselines", plan.baselines, plan.backend, plan.monitor)
    for job in plan.baselines:
        result = results[job]
        if isinstance(result, Failure):
            log.warning("%s is left out: %s", job.name, result.reason)
    return {job: one for job in plan.baselines if not isinstance(one := results[job], Failure)}, counts


def _compute_details(
    plan: RankPlan, rows: Sequence[SourceRow], extracted: Mapping[int, Extracted]
) -> tuple[dict[int, ReportDetails], JobCounts]:
    """Return the results for the page by row, with p-values that are corrected for the number of sources."""
    permutations = count_permutations(rows)
    seed, errors = plan.request.samples.seed, plan.request.errors
    jobs = {index: ReportDetailsJob(source.key, seed, permutations, errors) for index, source in extracted.items()}
    by_job, counts = run_stage("report details", list(jobs.values()), plan.backend, plan.monitor)
    computed = {index: details for index, job in jobs.items() if isinstance(details := by_job[job], ReportDetails)}
    return correct_p_values(computed, {index for index in jobs if rows[index].kind == SOURCE}), counts


def count_permutations(rows: Sequence[SourceRow]) -> int:
    """Return the largest number of permutations of the labels for the p-values of a ranking.

    It is at least 99, and at least 20 m - 1 for m sources. The smallest possible p-value is then at most 0.05 / m, so
    that a source can be significant at the 5 % level after a correction for m tests.

    Args:
        rows: All rows, of which only those of sources count.
    """
    n_sources = sum(row.kind == SOURCE for row in rows)
    return max(MIN_PERMUTATIONS, PERMUTATIONS_PER_SOURCE * n_sources - 1)


def _with_result(row: SourceRow, result: Extracted | Failure, report_details: ReportDetails | None) -> SourceRow:
    if isinstance(result, Failure):
        return replace(row, reason=result.reason)
    return replace(row, properties=result.properties, report_details=report_details, provenance=result.provenance)


def _summary(plan: RankPlan, extracted: Mapping[int, Extracted]) -> TargetSummary | None:
    """Return the summary of the target's samples; None if no source could process them."""
    if not extracted:
        return None
    # All sources have the same samples and labels.
    outputs = load_source_outputs(next(iter(extracted.values())).key)
    return summarize_target(plan.target.name, outputs, plan.request.errors.weight, plan.kind)
