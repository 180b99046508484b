"""Workers of Dask: every result once, whoever is killed, and addresses where no scheduler answers."""

import os
import time
import warnings

import numpy as np
import pytest

from modgap.errors import UsageError
from modgap.jobs import LOST, Backend, Failure
from tests.backend_jobs import Killer, Square, WorkerProcess, dask_cluster


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


def test_one_client_of_dask_serves_all_jobs_of_a_command_quickly_and_a_lost_worker_costs_nothing(
    tmp_path, monkeypatch, capfd
):
    from dask import distributed

    connected = []
    plain = distributed.Client
    jobs = [Square(1), Killer(tmp_path / "once"), Square(2), Raiser()]
    with dask_cluster() as address, Backend(address=address) as backend:
        monkeypatch.setattr(distributed, "Client", lambda one: connected.append(one) or plain(one))
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
    assert connected == [address]


@pytest.mark.long
def test_a_job_that_kills_every_worker_of_dask_costs_only_itself(tmp_path):
    jobs = [Square(1), Killer(tmp_path / "always", always=True), Square(2), Square(3)]
    with dask_cluster() as address:
        assert dict(Backend(address=address).run(jobs)) == {0: 1, 1: LOST, 2: 4, 3: 9}


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1"])
def test_an_address_without_a_scheduler_is_named(address):
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}),
        pytest.raises(UsageError, match=f"No scheduler of Dask answers at {address}"),
    ):
        list(Backend(address=address).run([Square(1)]))


def test_processes_of_this_machine_and_a_cluster_exclude_each_other():
    with pytest.raises(UsageError, match="`jobs` is the number of processes on this machine, and with `address` all"):
        Backend(2, "127.0.0.1:9")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dask.distributed", None)
    with pytest.raises(
        UsageError, match=r"A cluster of Dask needs dask.distributed, .*pip install 'modgap\[distributed\]'"
    ):
        list(Backend(address="127.0.0.1:9").run([Square(1)]))
