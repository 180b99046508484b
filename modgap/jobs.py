"""Independent jobs: run in this process, in processes of this machine, or by Dask. Their results are in the cache.

A job is a picklable callable without arguments, which returns a `Failure` in place of raising an error. It stores what
it computes in the cache, which all machines share, so that a job that is run again computes nothing.
"""

import contextlib
import math
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from types import ModuleType
from typing import Any, TypeVar

from modgap.errors import InputError, UsageError, check_minimum, first_line
from modgap.process.end import end_with_parent
from modgap.process.installed_packages import import_optional
from modgap.process.resources import available_cores, choose_device, share_heap
from modgap.storage.locks import lock_first_free, unlock
from modgap.storage.paths import cache_folder

Result = TypeVar("Result")
Job = Callable[[], Result]
SECONDS_HERE = 3.0
"""Time for which short jobs run in this process before others are started, whose start takes about as long."""
MAX_TRIES = 3
"""Most times that a job is run beside others if its worker is lost. Then it is run again by itself."""
THREADS = 1
"""Threads of every job. The number is fixed because it changes the last bits of sums."""
GPU = "GPU"
"""Name under which workers of Dask declare GPUs."""
TIMES = "*"
"""Sign before the number of passes that may run on each device at a time."""
MOST_PASSES = 16
"""Largest number of passes on one device at a time."""
_job_lock = threading.Lock()
"""Lock that keeps the threads of a Dask worker apart."""


@dataclass(frozen=True)
class Failure:
    """Result of a job that failed.

    Attributes:
        reason: Reason of the failure in one line.
        is_result: True if there is nothing to compute, such as a score that is not defined on the samples. This is a
            result like any other, and not an error.
    """

    reason: str
    is_result: bool = False


Outcomes = Iterator[tuple[int, Result | Failure]]
LOST = Failure(
    "The worker process of this job was lost every time, as happens when memory runs out. Pass a smaller `limit` or "
    "fewer `jobs`."
)


@dataclass
class Backend:
    """Where jobs run: in this process, in others of this machine, or on a cluster of Dask. All give the same results.

    The first jobs that need the cluster connect to it. As a context manager, a backend keeps the connection until the
    end of the block.

    Attributes:
        workers: Number of processes on this machine. With 1, all jobs run in this process, one after the other. None
            for one process on each core. Jobs that hold devices of this machine run in as many processes as these
            devices can serve, whatever this number is, unless it is 1.
        address: Address of the scheduler of a running cluster of Dask, such as `tcp://10.0.0.1:8786`. None to run jobs
            on this machine.
    """

    workers: int | None = None
    address: str | None = None
    # The client of Dask, once it is connected; the number of open `with` blocks; and the stack that closes the client.
    _client: Any = field(default=None, init=False, repr=False, compare=False)
    _open_blocks: int = field(default=0, init=False, repr=False, compare=False)
    _exit_stack: contextlib.ExitStack = field(
        default_factory=contextlib.ExitStack, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Raise if there is no process to run jobs, or if both a number of processes and a cluster are named."""
        check_minimum("jobs", self.workers, 1)
        if self.workers and self.address:
            raise UsageError(
                "`jobs` is the number of processes on this machine, and with `address` all jobs run on a cluster, "
                "whose workers are started apart. Remove one of the two."
            )

    def __enter__(self) -> "Backend":
        """Keep the connection to a cluster, once there is one, until the end of the outermost block."""
        self._open_blocks += 1
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection at the end of the outermost block."""
        self._open_blocks -= 1
        if not self._open_blocks:
            self._client = None
            self._exit_stack.close()

    def devices(self, device: str) -> tuple[str, ...]:
        """Return the devices of this machine of which each job holds one.

        Args:
            device: Name of the devices, as for `list_devices`. Empty for jobs that need none.

        Returns:
            Names of the devices; empty if devices do not limit the number of jobs that this machine runs at a time.
        """
        return list_devices(device) if device and not self.address else ()

    def processes(self, device: str = "") -> int:
        """Return how many processes run here: one for each pass on the devices, or else `workers`, or one per core."""
        if self.workers == 1:
            return 1
        return len(self.devices(device)) * passes_on_each(device) or self.workers or available_cores()

    def side_by_side(self, n_jobs: int, device: str) -> int:
        """Return how many of `n_jobs` jobs run at a time on this machine, at least 1."""
        return max(1, min(n_jobs, self.processes(device)))

    def idle_cores(self, n_jobs: int, device: str) -> int:
        """Return how many cores each of `n_jobs` jobs can use; 1 if they hold devices or run on workers of Dask."""
        if self.address or self.devices(device):
            return 1
        return max(1, self.processes(device) // self.side_by_side(n_jobs, device))

    def run(self, jobs: Sequence[Job[Result]], *, device: str = "", short: bool = False) -> Outcomes[Result]:
        """Run independent jobs. If a worker is lost, its jobs are run again elsewhere.

        Args:
            jobs: The jobs. They must be picklable unless all run in this process.
            device: Name of the devices of which each job holds one, as for `list_devices`. One such job alone runs in
                this process, beside which no other would run. Empty for jobs that need none.
            short: True for jobs that may be shorter than the start of a process, and that cannot take this process with
                them. The first of them run in this process in place of others on this machine.

        Yields:
            Index and result of each job as soon as it is finished, in any order.

        Raises:
            UsageError: If Dask is not installed, or no scheduler answers at the address.
        """
        deadline = time.monotonic() + self._seconds_here(len(jobs), device, short=short)
        n_here = 0
        with _restored_threads():
            while n_here < len(jobs) and time.monotonic() < deadline:
                yield n_here, jobs[n_here]()
                n_here += 1
        if elsewhere := jobs[n_here:]:
            folder = str(cache_folder().resolve())
            packed = [partial(_with_cache, job, folder) for job in elsewhere]
            if self.address:
                results = self._run_on_dask(packed, device)
            else:
                results = _run_in_processes(packed, self.processes(device))
            yield from ((n_here + index, result) for index, result in results)

    def _seconds_here(self, n_jobs: int, device: str, *, short: bool) -> float:
        """Return for how many seconds jobs are started in this process; infinity if all of them run in it."""
        if self.address:
            return 0.0
        if (n_jobs == 1 and device) or self.processes(device) == 1:
            return math.inf
        return SECONDS_HERE if short else 0.0

    def _run_on_dask(self, jobs: Sequence[Job[Result]], device: str) -> Outcomes[Result]:
        """Run jobs on the workers of the cluster, and run jobs whose workers were lost each time again, one by one."""
        with self:
            client = self._connect()
            # A job on a device needs one of the GPUs that workers declare, if any does.
            workers = client.scheduler_info(n_workers=-1)["workers"].values() if device else ()
            resources = {GPU: 1} if any(worker.get("resources", {}).get(GPU) for worker in workers) else None
            lost = []
            for index, result in _run_on_workers(client, jobs, resources):
                if isinstance(result, Failure) and result == LOST:
                    lost.append(index)
                else:
                    yield index, result
            # One of these kills its workers, and with them the jobs that wait there.
            for index in lost:
                for _, result in _run_on_workers(client, [jobs[index]], resources):
                    yield index, result

    def _connect(self) -> Any:
        """Return the client of Dask, which is connected once."""
        if self._client is None:
            distributed = _import_dask()
            try:
                self._client = self._exit_stack.enter_context(distributed.Client(self.address))
            except (OSError, ValueError) as error:
                raise UsageError(f"No scheduler of Dask answers at {self.address} ({first_line(error)}).") from error
        return self._client


# A job in its process: threads


def without_raising(run: Callable[..., Result]) -> Callable[..., Result | Failure]:
    """Return a function that runs a job with the number of threads of every job, and returns a `Failure` if it fails.

    Models, scores and baselines of others may fail in any way.
    """

    @wraps(run)
    def call(*arguments: Any) -> Result | Failure:
        fix_threads()
        try:
            return run(*arguments)
        except InputError as error:
            return Failure(str(error))
        except Exception as error:
            return Failure(f"{type(error).__name__}: {first_line(error)}")

    return call


def fix_threads() -> None:
    """Set the number of threads of this process to that of every process that runs jobs."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(THREADS)
    # The limit is not undone here, because a worker process runs nothing but these jobs.
    threadpool_limits(THREADS)


@contextlib.contextmanager
def _restored_threads() -> Iterator[None]:
    """Restore the numbers of threads of this process, which may be a user's notebook, after jobs that ran in it.

    A library that was loaded by a job, and so had no number before, gets a thread for each core.
    """
    import torch
    from threadpoolctl import ThreadpoolController

    before = {library.filepath: library.get_num_threads() for library in ThreadpoolController().lib_controllers}
    torch_threads = torch.get_num_threads()
    try:
        yield
    finally:
        for library in ThreadpoolController().lib_controllers:
            library.set_num_threads(before.get(library.filepath, available_cores()))
        torch.set_num_threads(torch_threads)


def _with_cache(job: Job[Result], folder: str) -> Result:
    """Run a job with the cache folder of the process that submitted it. Other machines must share this folder."""
    os.environ["MODGAP_CACHE"] = folder
    return job()


# Processes of this machine, which serve all jobs of a command


def _run_in_processes(jobs: Sequence[Job[Result]], processes: int) -> Outcomes[Result]:
    """Yield index and result of each job as soon as it is finished; `LOST` if its worker was lost each time."""
    remaining = dict(enumerate(jobs))
    for _ in range(MAX_TRIES):
        for index, result in _run_until_worker_lost(remaining, processes):
            del remaining[index]
            yield index, result
        if not remaining:
            return
    # One of these kills its worker, and with it the jobs that run beside it. So each is run by itself, in a pool of two
    # processes, because joblib would run it in this process if the pool had one.
    for index, job in list(remaining.items()):
        yield index, next((result for _, result in _run_until_worker_lost({index: job}, 2)), LOST)


def _run_until_worker_lost(jobs: Mapping[int, Job[Result]], processes: int) -> Iterator[tuple[int, Result]]:
    """Yield index and result of each job until all jobs are finished or a worker is lost."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with parallel_config("loky", n_jobs=processes, initializer=_start_worker, initargs=(os.getpid(),)):
        parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")
    with warnings.catch_warnings():
        # Loky warns when it replaces a worker whose memory has grown, but that worker's jobs are finished.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        try:
            variables = dict(os.environ)
            yield from parallel(delayed(_run_indexed)(index, job, variables) for index, job in dict(jobs).items())
        except TerminatedWorkerError:
            return


def _start_worker(parent: int) -> None:
    share_heap()
    end_with_parent(parent)


def _run_indexed(index: int, job: Job[Result], variables: Mapping[str, str]) -> tuple[int, Result]:
    """Run a job with the environment variables that its parent has now, and return its index and result.

    A worker may have been started before they were set. Numbers of threads stay those that joblib set in the worker.
    """
    for name in {name for name in os.environ if name.startswith("MODGAP_")} - set(variables):
        del os.environ[name]
    os.environ.update({name: value for name, value in variables.items() if not name.endswith("_NUM_THREADS")})
    return index, job()


# Workers of Dask


def _import_dask() -> ModuleType:
    """Import Dask, of the extra `distributed`, which has no type annotations."""
    return import_optional("dask.distributed", "A cluster of Dask needs dask.distributed", "distributed")


def _run_on_workers(client: Any, jobs: Sequence[Job[Result]], resources: dict[str, int] | None) -> Outcomes[Result]:
    """Yield index and result of each job; Dask runs a job again whose worker is lost."""
    distributed = _import_dask()
    with warnings.catch_warnings():
        # All jobs are sent at once, so that none waits for this process.
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        futures = client.map(_run_locked, jobs, pure=False, resources=resources)
    indices = {future.key: index for index, future in enumerate(futures)}
    for batch in distributed.as_completed(futures).batches():
        # A result whose worker was lost meanwhile is computed again.
        while missing := [future for future in batch if future.status not in ("error", "finished")]:
            if client.status != "running" or any(future.status == "cancelled" for future in missing):
                raise InputError(
                    "The scheduler of Dask was lost. Run the same command again: what is finished comes from the cache."
                )
            distributed.wait(missing)
        failed = [future for future in batch if future.status == "error"]
        finished = [future for future in batch if future.status == "finished"]
        # All results of a batch come in one message. Once released, they are not computed again if a worker is lost.
        for future, result in zip(finished, client.gather(finished), strict=True):
            future.release()
            yield indices[future.key], result
        for future in failed:
            error = future.exception()
            is_lost = isinstance(error, distributed.KilledWorker)
            yield indices[future.key], LOST if is_lost else Failure(f"{type(error).__name__}: {first_line(error)}")


def _run_locked(job: Job[Result]) -> Result:
    """Run a job while no other thread of this process runs one.

    A worker of a running cluster may have several threads, which share the number of threads that a job fixes.
    """
    with _job_lock:
        return job()


# Devices: each pass of samples through a source holds one. No two passes hold the same device at a time, unless the
# user allows several on each.
#
# What starts a worker of Dask decides which devices the worker sees. Among those that it sees, a pass takes one that no
# other process of this machine holds. A file lock, which ends with its process, marks each pass on a device.


def passes_on_each(name: str) -> int:
    """Return how many passes may run on each device at a time: the number after a star, else 1.

    Args:
        name: Names of devices, such as `cuda` or `cuda:0,cuda:1*4`. The number applies to each of them.

    Raises:
        UsageError: If there is no number from 1 to 16 after the star.
    """
    _, star, number = name.partition(TIMES)
    if not star:
        return 1
    if not number.strip().isdecimal() or not 1 <= int(number) <= MOST_PASSES:
        raise UsageError(
            f"`device` is {name!r}, but after {TIMES} it must have the number of passes on each device, from 1 to "
            f"{MOST_PASSES}."
        )
    return int(number)


def list_devices(name: str) -> tuple[str, ...]:
    """Return the devices that passes in this process may hold.

    Args:
        name: `auto`, `cpu`, `cuda`, `mps`, the name of one device such as `cuda:1`, or several with commas between;
            with `*4` after them for four passes on each at a time.

    Returns:
        The names; empty if the passes run on the CPU, which any number of processes can share.

    Raises:
        UsageError: If this machine does not have the device, or one of several is `auto` or is named twice.
    """
    import torch

    passes_on_each(name)
    names = tuple(part.strip() for part in name.partition(TIMES)[0].split(","))
    devices = [choose_device(part) for part in names]
    if len(names) > 1:
        if "auto" in names or len(set(names)) < len(names):
            raise UsageError(
                f"`device` is {name!r}, but a list must have each device once, and no auto. For several passes on each "
                f"device, write their number after {TIMES}, as in cuda:0,cuda:1*2."
            )
        return names
    device = devices[0]
    if device.type == "cpu":
        return ()
    if str(device) == "cuda":
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return (str(device),)


@contextlib.contextmanager
def hold_device(name: str) -> Iterator[str]:
    """Hold one of the devices that this process sees within a block, and wait until one is free.

    Where file locks do not work, a block starts at once on the first device.

    Args:
        name: Name of the devices, as for `list_devices`.

    Yields:
        Name of the device.
    """
    devices = list_devices(name)
    if not devices:
        yield name.partition(TIMES)[0]
        return
    passes = range(passes_on_each(name))
    # The order of the locks is that in which they are tried, so each device has one pass before any has a second one.
    folder = cache_folder() / "devices" / socket.gethostname()
    locks = {folder / f"{_lock_name(device)}-{number}.lock": device for number in passes for device in devices}
    path, descriptor = lock_first_free(list(locks))
    try:
        yield locks[path]
    finally:
        unlock(descriptor)


def _lock_name(device: str) -> str:
    """Return a name of the device that is the same in every process, whichever devices the process sees."""
    import torch

    if not device.startswith("cuda"):
        return device.replace(":", "-")
    properties = torch.cuda.get_device_properties(torch.device(device))
    return str(getattr(properties, "uuid", f"{os.environ.get('CUDA_VISIBLE_DEVICES', '')}-{device}")).replace(":", "-")
