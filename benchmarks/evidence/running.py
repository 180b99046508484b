"""Running the jobs of the evidence in processes, with a line for each."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import joblib
from result_log import ResultLog

import modgap


def refuse_absent(targets: Iterable[str]) -> None:
    """Raise an error if data of a target is absent, which a job could not tell from a source that does not read it.

    Raises:
        SystemExit: If data is absent.
    """
    installed = {target.name for target in modgap.list_targets() if target.is_installed}
    if absent := sorted(set(targets) - installed):
        raise SystemExit(f"There is no data of {', '.join(absent)}. Fetch it: modgap data fetch {absent[0]}")


def run_jobs(
    waiting: Sequence[Any], work: Callable[[Any, ResultLog], dict], log: ResultLog, workers: int, began: float
) -> list[Any]:
    """Run jobs, each of which appends its result to the log, and print their seconds, but no result.

    An error that a job does not expect ends this job alone.

    Args:
        waiting: The jobs.
        work: Function that does a job and returns its record.
        log: The log.
        workers: Number of processes.
        began: Time of `time.perf_counter` at which the whole run began.

    Returns:
        The jobs that have no result because of an error.
    """
    failed = []
    parallel = joblib.Parallel(workers, return_as="generator_unordered")
    for job, result in parallel(joblib.delayed(_run)(job, work, log) for job in waiting):
        if isinstance(result, Exception):
            failed.append(job)
            print(f"{job.name}: {type(result).__name__}: {result}", flush=True)
            continue
        minutes = (time.perf_counter() - began) / 60
        print(f"{job.name}: {result['seconds']} s, {minutes:.1f} min so far", flush=True)
    return failed


def _run(job: Any, work: Callable[[Any, ResultLog], dict], log: ResultLog) -> tuple[Any, dict | Exception]:
    try:
        return job, work(job, log)
    except Exception as error:  # Hours of other jobs must not end with one.
        return job, error
