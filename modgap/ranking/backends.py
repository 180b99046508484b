"""Backends that run jobs: in this process, on this machine's cores, or on a cluster. All give the same results."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from modgap.errors import UsageError, check_minimum, first_line
from modgap.ranking.devices import list_devices, passes_on_each
from modgap.ranking.failure import LOST, MAX_TRIES
from modgap.ranking.job_threads import threads_kept
from modgap.ranking.worker_processes import run_in_processes
from modgap.resources import available_cores
from modgap.storage.paths import cache_folder

__all__ = ["BACKENDS", "Backend", "run_jobs"]

Job = Callable[[], Any]
SECONDS_HERE = 3.0
"""Time for which short jobs run in this process before others are started, whose start takes about as long."""
GPU = "GPU"
"""Name under which Dask and Ray know GPUs."""
MAX_REQUEUES = 20
"""Most times that a task of SLURM goes back to the queue because its time ran out."""
MAX_TASKS = 200
"""Most tasks of a SLURM array, whose size sites limit."""
_job_lock = threading.Lock()
"""Lock that keeps the threads of a Dask worker apart."""


@dataclass(frozen=True)
class Backend:
    """Backend that runs jobs, and its size.

    Attributes:
        name: `serial`, `loky` (processes on this machine), `dask`, `ray`, or `slurm` (through submitit).
        workers: Number of processes on this machine, or of a cluster that is started on it. None for one on each core.
        address: Address of a running Dask or Ray cluster. None to start one on this machine.
        options: Further options of the cluster's library, such as `slurm_partition`.
        device: Name of the devices of which each job holds one, as for `modgap.ranking.devices.list_devices`. Empty for
            jobs that need none.
        only_cached: True if passes that are not in the cache fail, in place of being run.
    """

    name: str = "loky"
    workers: int | None = None
    address: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""
    only_cached: bool = False

    def __post_init__(self) -> None:
        """Raise if there is no process to run jobs."""
        check_minimum("--jobs", self.workers, 1)

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices of this machine of which each job holds one; empty if any number of jobs can run side by side."""
        return list_devices(self.device) if self.device and not self.only_cached else ()

    @property
    def processes(self) -> int:
        """Number of processes on this machine: those that its devices have place for, or one for each core."""
        return len(self.devices) * passes_on_each(self.device) or self.workers or available_cores()

    def for_passes(self, n_jobs: int) -> "Backend":
        """Return the backend for a number of passes: one alone runs in this process, beside which none would run."""
        return replace(self, name="serial") if self.name == "loky" and n_jobs == 1 else self

    def idle_cores(self, n_jobs: int) -> int:
        """Return the number of this machine's cores that each of some jobs can use without taking those of another."""
        if self.name not in ("loky", "serial") or self.devices:
            return 1
        side_by_side = 1 if self.name == "serial" else min(n_jobs, self.processes)
        return max(1, self.processes // max(1, side_by_side))


def run_jobs(jobs: Sequence[Job], backend: Backend, *, short: bool = False) -> Iterator[tuple[int, Any]]:
    """Run independent jobs.

    A job returns a Failure instead of raising an error. If a worker is lost, its jobs are run again elsewhere.

    Args:
        jobs: The jobs. They must be picklable unless the backend is `serial`.
        backend: The backend.
        short: True for jobs that may be shorter than the start of a process, and that cannot take this process with
            them. The first of them run in this process in place of others on this machine.

    Yields:
        Index and result of each job as soon as it is finished, in any order.

    Raises:
        UsageError: If there is no such backend, or if its library is not installed.
    """
    if backend.name not in BACKENDS:
        raise UsageError(f"There is no backend {backend.name!r}. Expected one of: {', '.join(BACKENDS)}.")
    if backend.name == "serial":
        yield from _serial(jobs, backend)
        return
    n_here = 0
    if short and backend.name == "loky":
        ends = time.monotonic() + SECONDS_HERE
        while n_here < len(jobs) and time.monotonic() < ends:
            yield n_here, _run_here(jobs[n_here])
            n_here += 1
    if elsewhere := jobs[n_here:]:
        cache = str(cache_folder().resolve())
        results = BACKENDS[backend.name]([partial(_with_cache, job, cache) for job in elsewhere], backend)
        yield from ((n_here + index, result) for index, result in results)


def _with_cache(job: Job, cache: str) -> Any:
    """Run a job with the cache folder of the process that submitted it. Other machines must share this folder."""
    os.environ["MODGAP_CACHE"] = cache
    return job()


def _serial(jobs: Sequence[Job], _backend: Backend) -> Iterator[tuple[int, Any]]:
    for index, job in enumerate(jobs):
        yield index, _run_here(job)


def _run_here(job: Job) -> Any:
    """Run a job in this process, which may be a user's notebook."""
    with threads_kept():
        return job()


def _loky(jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    if backend.processes == 1:
        return _serial(jobs, backend)
    return run_in_processes(jobs, backend.processes)


# Clusters


def _missing_library(backend_name: str, library: str) -> UsageError:
    return UsageError(
        f"The backend {backend_name} needs {library}, which is not installed. Run: pip install 'modgap[distributed]'"
    )


def _dask(jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    try:
        from dask import distributed
    except ImportError as error:
        raise _missing_library("dask", "Dask") from error
    dask: Any = distributed  # Dask has no type annotations.
    cluster = None
    if backend.address is None:
        cluster = dask.LocalCluster(n_workers=backend.processes, threads_per_worker=1, dashboard_address=None)
    with dask.Client(cluster or backend.address) as client:
        try:
            needs = _dask_resources(client, backend)
            futures = {
                client.submit(_run_locked, job, pure=False, retries=MAX_TRIES, resources=needs): index
                for index, job in enumerate(jobs)
            }
            for future in dask.as_completed(list(futures)):
                yield futures[future], LOST if future.status == "error" else future.result()
        finally:
            if cluster:
                # Older versions of Dask wait in vain for a worker that replaced a lost one, and then kill it. By then,
                # all results have arrived.
                with contextlib.suppress(TimeoutError):
                    cluster.close()


def _dask_resources(client: Any, backend: Backend) -> dict[str, int] | None:
    """Return what a job that holds a device asks for: one GPU, if workers of the cluster declare GPUs."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values() if backend.device else ()
    return {GPU: 1} if any(worker.get("resources", {}).get(GPU) for worker in workers) else None


def _run_locked(job: Job) -> Any:
    """Run a job while no other thread of this process runs one.

    A worker of a running cluster may have several threads, which share the number of threads that a job fixes.
    """
    with _job_lock:
        return job()


def _ray(jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    try:
        import ray
    except ImportError as error:
        raise _missing_library("ray", "Ray") from error
    local_options: dict[str, Any] = {}
    if backend.address is None:
        local_options = {"num_cpus": backend.processes, "include_dashboard": False}
        if backend.devices:
            local_options["num_gpus"] = len(backend.devices)
    ray.init(address=backend.address, log_to_driver=False, logging_level="ERROR", **local_options)
    try:
        yield from _run_on_actors(ray, jobs, backend)
    finally:
        ray.shutdown()


def _run_on_actors(ray: Any, jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    """Run jobs on actors, which keep their libraries and their device: a GPU or a share of one, if there are any."""
    resources = ray.cluster_resources()
    holds_gpu = bool(backend.device and resources.get(GPU))
    passes = passes_on_each(backend.device)
    size = int(resources[GPU] * passes if holds_gpu else resources.get("CPU", 1))
    # Lost actors start again, and what they ran is run again.
    share = 1 / passes if holds_gpu else 0
    options = {"num_cpus": 1, "num_gpus": share, "max_restarts": -1, "max_task_retries": MAX_TRIES}
    actor_class = ray.remote(**options)(_Actor)
    actors = [actor_class.remote() for _ in range(max(1, min(size, len(jobs))))]
    waiting = list(enumerate(jobs))[::-1]
    running: dict[Any, tuple[int, Any]] = {}
    while waiting or running:
        while waiting and actors:
            index, job = waiting.pop()
            actor = actors.pop()
            running[actor.run.remote(job)] = index, actor
        (ready,), _ = ray.wait(list(running))
        index, actor = running.pop(ready)
        actors.append(actor)
        try:
            yield index, ray.get(ready)
        except ray.exceptions.RayError:
            yield index, LOST


class _Actor:
    """Process of Ray that runs one job at a time."""

    def run(self, job: Job) -> Any:
        """Run a job."""
        return job()


def _slurm(jobs: Sequence[Job], backend: Backend) -> Iterator[tuple[int, Any]]:
    try:
        import submitit
    except ImportError as error:
        raise _missing_library("slurm", "submitit") from error
    options = {"cluster": "slurm", "folder": str(cache_folder().resolve() / "submitit"), **backend.options}
    if backend.device.startswith("cuda"):
        # SLURM shows a task its own devices alone.
        options = {"gpus_per_node": 1, **options}
    try:
        executor = submitit.AutoExecutor(
            folder=options.pop("folder"),
            cluster=options.pop("cluster"),
            slurm_max_num_timeout=options.pop("slurm_max_num_timeout", MAX_REQUEUES),
        )
        executor.update_parameters(**options)
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        raise UsageError(f"submitit cannot use SLURM with these --cluster options: {first_line(error)}") from error
    remaining = dict(enumerate(jobs))
    for _ in range(MAX_TRIES):
        for index, result in _run_array(executor, remaining):
            del remaining[index]
            yield index, result
    yield from ((index, LOST) for index in remaining)


def _run_array(executor: Any, jobs: Mapping[int, Job]) -> Iterator[tuple[int, Any]]:
    """Yield the results of an array of tasks, except those of lost tasks. A task may run several jobs."""
    import submitit

    bundle_size = -(-len(jobs) // MAX_TASKS) or 1
    items = list(jobs.items())
    bundles = [items[start : start + bundle_size] for start in range(0, len(items), bundle_size)]
    try:
        tasks = executor.map_array(_Bundle(), bundles) if bundles else []
    except submitit.core.utils.FailedSubmissionError as error:
        raise UsageError(f"SLURM rejected the jobs: {first_line(error)}") from error
    for task in tasks:
        with contextlib.suppress(submitit.core.utils.UncompletedJobError):
            yield from task.result()


class _Bundle:
    """Task of SLURM that runs several jobs, and that SLURM starts again if its time runs out or its machine is taken.

    What is finished by then comes from the cache.
    """

    def __call__(self, jobs: Sequence[tuple[int, Job]]) -> list[tuple[int, Any]]:
        """Run the jobs, and return their numbers and results."""
        return [(index, job()) for index, job in jobs]

    def checkpoint(self, jobs: Sequence[tuple[int, Job]]) -> Any:
        """Return the task that submitit sends to the queue before it is stopped."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, jobs)


BACKENDS: dict[str, Callable[[Sequence[Job], Backend], Iterator[tuple[int, Any]]]] = {
    "serial": _serial,
    "loky": _loky,
    "dask": _dask,
    "ray": _ray,
    "slurm": _slurm,
}
