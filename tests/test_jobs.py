"""Workers of Dask and of schedulers: every result once, whoever is killed, and the job scripts that schedulers get."""

import contextlib
import os
import time
import warnings

import dask_jobqueue
import numpy as np
import pytest
from dask import distributed
from dask_jobqueue.local import LocalCluster

from modgap import jobs as engine
from modgap.errors import UsageError
from modgap.jobs import LOST, Backend, Failure
from tests.backend_jobs import Killer, Square, WorkerProcess


class Zeros:
    """A job that returns an array, which cannot be compared with a failure."""

    def __call__(self):
        return np.zeros(2)


class Large:
    """A job of more bytes than Dask sends without a warning."""

    def __init__(self):
        self.content = os.urandom(11 << 20)

    def __call__(self):
        return len(self.content)


class Raiser:
    """A job that raises an error in place of returning a failure."""

    def __call__(self):
        raise RuntimeError("first\nsecond")


@pytest.fixture(name="queue")
def local_queue(monkeypatch, own_cache):
    """A scheduler that starts the workers of SLURM on this machine."""
    monkeypatch.setattr(dask_jobqueue, "SLURMCluster", LocalCluster)


def test_one_cluster_of_dask_serves_all_jobs_of_a_command_quickly_and_replaces_a_lost_worker(
    tmp_path, monkeypatch, capfd
):
    started = []
    plain = distributed.LocalCluster
    monkeypatch.setattr(distributed, "LocalCluster", lambda **options: started.append(options) or plain(**options))
    jobs = [Square(1), Killer(tmp_path / "once"), Square(2), Raiser()]
    with Backend("dask", 2) as backend:
        assert started == []
        first = {result for _, result in backend.run([WorkerProcess()] * 4)}
        began = time.perf_counter()
        assert dict(backend.run([Square(number) for number in range(200)])) == {n: n**2 for n in range(200)}
        seconds = time.perf_counter() - began
        assert dict(backend.run(jobs)) == {0: 1, 1: "survived", 2: 4, 3: Failure("RuntimeError: first")}
        ((_, array),) = backend.run([Zeros()])
        assert array.tolist() == [0, 0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert dict(backend.run([Large()])) == {0: 11 << 20}
    assert "distributed" not in capfd.readouterr().err
    print(f"{1000 * seconds / 200:.3f} ms for a short job")  # noqa: T201 - a figure to quote
    assert seconds < 12
    assert os.getpid() not in first
    assert len(started) == 1


@pytest.mark.long
def test_a_job_that_kills_every_worker_of_dask_costs_only_itself(tmp_path):
    jobs = [Square(1), Killer(tmp_path / "always", always=True), Square(2), Square(3)]
    assert dict(Backend("dask", 2).run(jobs)) == {0: 1, 1: LOST, 2: 4, 3: 9}


def test_an_address_without_a_scheduler_is_named():
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}),
        pytest.raises(UsageError, match=r"No scheduler of Dask answers at 127\.0\.0\.1:9"),
    ):
        list(Backend("dask", address="127.0.0.1:9").run([Square(1)]))


def test_a_cluster_of_this_machine_that_does_not_answer_has_no_address(monkeypatch):
    def fail(cluster):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "LocalCluster", lambda **options: contextlib.nullcontext("cluster"))
    monkeypatch.setattr(distributed, "Client", fail)
    with pytest.raises(UsageError, match=r"No scheduler of Dask answers on this machine \(.*timed out\)"):
        list(Backend("dask", 2).run([Square(1)]))


def test_workers_that_a_scheduler_starts_run_all_jobs(queue, caplog):
    backend = Backend("slurm", 1, options={"memory": "2GB"})
    assert dict(backend.run([Square(number) for number in range(5)])) == {number: number**2 for number in range(5)}
    assert "distributed.cli.dask_worker" in caplog.text


@pytest.mark.long
def test_a_worker_that_the_scheduler_ends_is_replaced(queue, tmp_path):
    backend = Backend("slurm", 1, options={"memory": "2GB"})
    assert dict(backend.run([Killer(tmp_path / "once"), Square(3)])) == {0: "survived", 1: 9}


@pytest.mark.parametrize(
    ("name", "options", "lines"),
    [
        ("slurm", {"queue": "gpu", "walltime": "01:00:00"}, ["#SBATCH -p gpu", "#SBATCH -t 01:00:00", "#SBATCH -n 1"]),
        ("pbs", {"queue": "long"}, ["#PBS -q long", "#PBS -l select=1:ncpus=1:mem="]),
        ("lsf", {"queue": "short"}, ["#BSUB -q short", "#BSUB -n 1"]),
    ],
)
def test_job_scripts_have_the_options(name, options, lines, own_cache, monkeypatch, caplog):
    monkeypatch.setattr(engine.shutil, "which", lambda _: None)
    if name == "lsf":
        monkeypatch.setattr("dask_jobqueue.lsf.lsf_detect_units", lambda: "mb")
    with pytest.raises(UsageError, match=f"`backend='{name}'` sends jobs with .*, which is not on this machine."):
        list(Backend(name, options={"memory": "3GB", **options}).run([Square(1)]))
    script = caplog.text
    assert "Workers are started with this script:" in script
    assert all(line in script for line in lines), script
    assert str(own_cache / "worker_logs") in script
    assert "--nthreads 1" in script


def test_a_worker_of_slurm_asks_for_one_gpu_unless_the_options_say_more(own_cache, monkeypatch, caplog):
    monkeypatch.setattr(engine.shutil, "which", lambda _: None)
    for device, options, expected in (
        ("cuda", {}, "#SBATCH --gpus-per-node=1"),
        ("cuda", {"job_extra_directives": ["--gres=gpu:2"]}, "#SBATCH --gres=gpu:2"),
        ("auto", {}, ""),
    ):
        caplog.clear()
        with pytest.raises(UsageError):
            list(Backend("slurm", options={"memory": "3GB", **options}).run([Square(1)], device=device))
        found = [line for line in caplog.text.splitlines() if "gpu" in line]
        assert found == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "You must specify how much cores and memory"), ({"memory": "1GB", "partition": "gpu"}, "partition")],
)
def test_options_that_the_library_rejects_are_told(options, message, own_cache):
    with pytest.raises(UsageError, match=rf"cannot use slurm with these options of the cluster: .*{message}"):
        list(Backend("slurm", options=options).run([Square(1)]))


def test_missing_libraries_are_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dask_jobqueue", None)
    with pytest.raises(UsageError, match=r"The backend pbs needs dask_jobqueue, .*pip install 'modgap\[distributed\]'"):
        list(Backend("pbs").run([Square(1)]))
