"""Worker processes on this machine, which serve all stages of a ranking, and replace those that are lost."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

from modgap.process_end import end_with_parent
from modgap.ranking.failure import LOST, MAX_TRIES
from modgap.resources import share_heap

__all__ = ["run_in_processes"]

Job = Callable[[], Any]


def run_in_processes(jobs: Sequence[Job], processes: int) -> Iterator[tuple[int, Any]]:
    """Run picklable jobs in worker processes of this machine.

    Args:
        jobs: The jobs.
        processes: Number of processes, at least 2.

    Yields:
        Index and result of each job as soon as it is finished; `LOST` if its worker was lost each time.
    """
    remaining = dict(enumerate(jobs))
    for _ in range(MAX_TRIES):
        for index, result in _run_until_worker_lost(remaining, processes):
            del remaining[index]
            yield index, result
        if not remaining:
            return
    # One of these kills its worker, and with it the jobs that run beside it. So each is run by itself.
    for index, job in list(remaining.items()):
        yield index, next((result for _, result in _run_until_worker_lost({index: job}, 2)), LOST)


def _run_until_worker_lost(jobs: Mapping[int, Job], processes: int) -> Iterator[tuple[int, Any]]:
    """Yield results until all jobs are finished or a worker is lost."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with parallel_config("loky", n_jobs=processes, initializer=_worker_start(os.getpid())):
        parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")
    with warnings.catch_warnings():
        # Loky warns when it replaces a worker whose memory has grown, but that worker's jobs are finished.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        try:
            variables = dict(os.environ)
            yield from parallel(delayed(_run_indexed)(index, job, variables) for index, job in dict(jobs).items())
        except TerminatedWorkerError:
            return


@cache
def _worker_start(parent: int) -> Callable[[], None]:
    """Return what a worker does first, as the same object each time, or joblib would start new workers."""
    return partial(_start_worker, parent)


def _start_worker(parent: int) -> None:
    share_heap()
    end_with_parent(parent)


def _run_indexed(index: int, job: Job, variables: Mapping[str, str]) -> tuple[int, Any]:
    """Run a job with the variables that its parent has now, but for threads, which are joblib's; workers are older."""
    for name in {name for name in os.environ if name.startswith("MODGAP_")} - set(variables):
        del os.environ[name]
    os.environ.update({name: value for name, value in variables.items() if not name.endswith("_NUM_THREADS")})
    return index, job()
