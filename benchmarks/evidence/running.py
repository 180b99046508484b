"""Running the jobs of the evidence in processes, with a line for each."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import joblib
from result_log import ResultLog


def run_jobs(
    waiting: Sequence[Any], work: Callable[[Any, ResultLog], dict], log: ResultLog, workers: int, began: float
) -> None:
    """Run jobs, each of which appends its result to the log, and print its error after the last epoch.

    Args:
        waiting: The jobs.
        work: Function that does a job and returns its record.
        log: The log.
        workers: Number of processes.
        began: Time of `time.perf_counter` at which the whole run began.
    """
    parallel = joblib.Parallel(workers, return_as="generator_unordered")
    for job, result in parallel(joblib.delayed(_run)(job, work, log) for job in waiting):
        minutes = (time.perf_counter() - began) / 60
        errors = list(result.get("errors", {}).values())
        error = f" error {errors[-1]:.1f} %," if errors else ""
        print(f"{job.name}:{error} {result['seconds']} s, {minutes:.1f} min so far", flush=True)


def _run(job: Any, work: Callable[[Any, ResultLog], dict], log: ResultLog) -> tuple[Any, dict]:
    return job, work(job, log)
