"""Where jobs run: here one after the other, on this machine's cores, or on a cluster. All give the same results."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from modgap.errors import UsageError, first_line
from modgap.ranking.jobs import Failure
from modgap.storage.paths import cache_folder

__all__ = ["BACKENDS", "Backend", "run_jobs"]

Job = Callable[[], Any]
TRIES = 3
"""Of a job whose worker is lost; one that takes its worker down every time is given up."""
MOST_TASKS = 200
"""Of an array of SLURM; sites cap them."""
LOST = Failure("its worker was lost every time, as when memory runs out; try --limit, or fewer --jobs")


@dataclass(frozen=True)
class Backend:
    """Where to run.

    Attributes:
        name: `serial`, `loky` (processes on this machine), `dask`, `ray`, or `slurm` (through submitit).
        workers: Processes on this machine; None for one a core. Of a cluster it is what a local one is started with.
        address: Of a running Dask or Ray cluster; None starts one on this machine.
        options: What the cluster's library takes besides, such as `slurm_partition`.
    """

    name: str = "loky"
    workers: int | None = None
    address: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """Processes on this machine."""
        here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.workers or here


def run_jobs(jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    """Run independent jobs; gives number and result of each as it is done, in any order.

    A job returns a failure rather than raise. A lost worker costs what it was at: its jobs run again elsewhere.

    Raises:
        UsageError: When there is no such backend, or its library is not installed.
    """
    if backend.name not in BACKENDS:
        raise UsageError(f"unknown backend {backend.name!r}; there are: {', '.join(BACKENDS)}")
    if backend.name == "serial":
        yield from _serial(jobs, backend)
    elif jobs:
        cache = str(cache_folder().resolve())
        yield from BACKENDS[backend.name]([partial(_placed, job, cache) for job in jobs], backend)


def _placed(job: Job, cache: str) -> Any:
    """Run a job with the cache of the one who asked for it: on another machine a folder that both see."""
    os.environ["MODGAP_CACHE"] = cache
    return job()


def _serial(jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    for number, job in enumerate(jobs):
        yield number, job()


# This machine


def _loky(jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    if backend.processes == 1:
        yield from _serial(jobs, backend)
        return
    left = dict(enumerate(jobs))
    for _ in range(TRIES):
        for number, result in _until_lost(left, backend.processes):
            del left[number]
            yield number, result
        if not left:
            return
    # One of these takes its worker down, and with it whatever runs beside it: each by itself.
    for number, job in list(left.items()):
        yield number, next((result for _, result in _until_lost({number: job}, 2)), LOST)


def _until_lost(jobs: Mapping[int, Job], processes: int) -> Iterator[tuple[int, Any]]:
    """Results until all are there or a worker is lost."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    parallel = Parallel(processes, backend="loky", return_as="generator_unordered", batch_size=1, pre_dispatch="all")
    with warnings.catch_warnings():
        # Of a worker that was renewed because its memory grew; its jobs are done all the same.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        try:
            yield from parallel(delayed(_numbered)(number, job) for number, job in dict(jobs).items())
        except TerminatedWorkerError:
            return


def _numbered(number: int, job: Job) -> tuple[int, Any]:
    return number, job()


# Clusters


def _dask(jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    try:
        from dask.distributed import Client, LocalCluster, as_completed
    except ImportError as error:
        raise UsageError("--backend dask needs Dask: pip install 'modgap[distributed]'") from error
    own = backend.address is None
    cluster = LocalCluster(n_workers=backend.processes, threads_per_worker=1, dashboard_address=None) if own else None
    with Client(cluster or backend.address) as client:
        try:
            # Several threads of one worker would share the number of threads that a job fixes: a lock keeps them apart.
            futures = {client.submit(_alone, job, pure=False, retries=TRIES): n for n, job in enumerate(jobs)}
            for future in as_completed(list(futures)):
                yield futures[future], LOST if future.status == "error" else future.result()
        finally:
            if cluster:
                cluster.close()


def _alone(job: Job) -> Any:
    """Run a job while no other thread of this process runs one."""
    with _lock():
        return job()


def _lock():
    import threading

    return vars(run_jobs).setdefault("lock", threading.Lock())


def _ray(jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    try:
        import ray
    except ImportError as error:
        raise UsageError("--backend ray needs Ray: pip install 'modgap[distributed]'") from error
    own = {} if backend.address else {"num_cpus": backend.processes, "include_dashboard": False}
    ray.init(address=backend.address, log_to_driver=False, logging_level="ERROR", **own)
    try:
        run = ray.remote(num_cpus=1, max_retries=TRIES)(_numbered)
        left = [run.remote(number, job) for number, job in enumerate(jobs)]
        numbers = {reference: number for number, reference in enumerate(left)}
        while left:
            (ready,), left = ray.wait(left)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError:
                yield numbers[ready], LOST
    finally:
        ray.shutdown()


def _slurm(jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    try:
        import submitit
    except ImportError as error:
        raise UsageError("--backend slurm needs submitit: pip install 'modgap[distributed]'") from error
    options = {"cluster": "slurm", "folder": str(cache_folder().resolve() / "submitit"), **backend.options}
    try:
        executor = submitit.AutoExecutor(folder=options.pop("folder"), cluster=options.pop("cluster"))
        executor.update_parameters(**options)
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        raise UsageError(f"submitit cannot use SLURM with these --cluster options: {first_line(error)}") from error
    left = dict(enumerate(jobs))
    for _ in range(TRIES):
        for number, result in _of_array(executor, left):
            del left[number]
            yield number, result
    yield from ((number, LOST) for number in left)


def _of_array(executor: Any, jobs: Mapping[int, Job]) -> Iterator[tuple[int, Any]]:
    """Results of one array of tasks, several jobs each where there are many; those of lost tasks are missing."""
    import submitit

    each = -(-len(jobs) // MOST_TASKS)
    listed = list(jobs.items())
    bundles = [listed[start : start + each] for start in range(0, len(listed), each or 1)]
    try:
        submitted = executor.map_array(_bundle, bundles) if bundles else []
    except submitit.core.utils.FailedSubmissionError as error:
        raise UsageError(f"SLURM does not take the jobs: {first_line(error)}") from error
    for task in submitted:
        with contextlib.suppress(submitit.core.utils.UncompletedJobError):
            yield from task.result()


def _bundle(jobs: Sequence[tuple[int, Job]]) -> list[tuple[int, Any]]:
    return [(number, job()) for number, job in jobs]


BACKENDS: dict[str, Callable[[Sequence[Job], Backend], Iterator[tuple[int, Any]]]] = {
    "serial": _serial, "loky": _loky, "dask": _dask, "ray": _ray, "slurm": _slurm,
}  # fmt: skip
