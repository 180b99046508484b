"""Stages of a ranking: jobs of which those in the cache are not run again."""

from collections.abc import Sequence
from typing import Any

from modgap.ranking.backends import Backend, run_jobs
from modgap.ranking.failure import Failure
from modgap.ranking.monitor import CACHED, COMPUTED, FAILED
from modgap.ranking.plan import RankPlan
from modgap.ranking.types import JobCounts

__all__ = ["run_stage"]


def run_stage(
    stage: str, jobs: Sequence[Any], plan: RankPlan, backend: Backend | None = None
) -> tuple[dict[Any, Any], JobCounts]:
    """Return the results by job, and how many were computed, came from the cache, and failed.

    Args:
        stage: Name of the stage, for reports of progress.
        jobs: Jobs with `load_cached`.
        plan: The plan of the ranking.
        backend: Backend of long jobs. None for that of the plan, and short jobs.
    """
    results = {job: cached for job in jobs if (cached := job.load_cached()) is not None}
    n_cached = len(results)
    missing = [job for job in jobs if job not in results]
    plan.monitor.begin(stage, len(jobs))
    plan.monitor.finish(stage, CACHED, n_cached)
    for index, result in run_jobs(missing, backend or plan.backend, short=backend is None):
        results[missing[index]] = result
        plan.monitor.finish(stage, FAILED if _is_error(result) else COMPUTED)
    n_failed = sum(_is_error(results[job]) for job in missing)
    return results, JobCounts(len(missing) - n_failed, n_cached, n_failed)


def _is_error(result: Any) -> bool:
    return isinstance(result, Failure) and not result.is_result
