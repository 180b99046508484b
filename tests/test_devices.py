"""Every engine gives a pass one device that no other pass holds; devices of the CPU stand for GPUs."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import time
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pytest
import torch

from modgap.errors import UsageError
from modgap.forward.inference_setup import LogitsRequest
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend, hold_device, list_devices
from modgap.process.devices import map_tensors
from modgap.ranking.jobs import ExtractJob
from modgap.ranking.source_outputs import load_source_outputs
from modgap.targets import TargetRequest
from tests.backend_jobs import TWO, Environment, Pass, dask_cluster

FORK = multiprocessing.get_context("fork")
"""Processes that import nothing again."""


def overlaps(passes):
    """Return pairs of passes that held one device at the same time."""
    by_device = defaultdict(list)
    for device, start, end in passes:
        by_device[device].append((start, end))
    return [
        (one, other)
        for spans in by_device.values()
        for one, other in zip(sorted(spans)[:-1], sorted(spans)[1:], strict=True)
        if other[0] < one[1]
    ]


@pytest.mark.parametrize("engine", ["loky", pytest.param("dask", marks=pytest.mark.long)])
def test_two_devices_and_four_passes(engine, tmp_path, own_cache):
    (tmp_path / "met").mkdir()
    jobs = [Pass(folder=tmp_path / "met", size=2)] * 4
    # More processes than devices would run side by side if nothing held them apart.
    with dask_cluster(4) if engine == "dask" else contextlib.nullcontext() as address:
        passes = dict(Backend(address=address).run(jobs, device=TWO))
    devices = sorted(device for device, _, _ in passes.values())
    print(f"{engine}: {devices}")  # noqa: T201 - a figure to quote
    assert len(passes) == 4
    assert overlaps(passes.values()) == []
    assert set(devices) == {"cpu:0", "cpu:1"}


def send_pass(connection):
    """Send the device and the times of a pass."""
    connection.send(Pass(seconds=1.0)())


def test_unrelated_processes_hold_different_devices(own_cache):
    pipes = [FORK.Pipe() for _ in range(3)]
    processes = [FORK.Process(target=send_pass, args=(sender,)) for _, sender in pipes]
    for process in processes:
        process.start()
    passes = [receiver.recv() for receiver, _ in pipes]
    for process in processes:
        process.join()
    assert overlaps(passes) == []
    assert {device for device, _, _ in passes} == {"cpu:0", "cpu:1"}


def hold_until_killed(connection):
    """Hold a device, and say so."""
    with hold_device(TWO):
        connection.send("holds")
        time.sleep(60)


def test_the_device_of_a_killed_process_is_free(own_cache):
    receiver, sender = FORK.Pipe()
    holder = FORK.Process(target=hold_until_killed, args=(sender,))
    holder.start()
    assert receiver.recv() == "holds"
    holder.kill()
    holder.join()
    with hold_device(TWO) as device:
        assert device == "cpu:0"


def test_several_passes_share_a_device_where_they_may(own_cache):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(hold_device(f"{TWO}*2")) for _ in range(4)]
    assert held == ["cpu:0", "cpu:1", "cpu:0", "cpu:1"]


def test_four_passes_on_two_devices_run_at_a_time(own_cache, tmp_path):
    jobs = [Pass(f"{TWO}*2", folder=tmp_path, size=4)] * 4
    passes = [result for _, result in Backend().run(jobs, device=f"{TWO}*2")]
    assert sorted(device for device, *_ in passes) == ["cpu:0", "cpu:0", "cpu:1", "cpu:1"]
    assert len(overlaps(passes)) == 2


@pytest.mark.parametrize("name", ["cpu:0*", "cpu:0*0", "cpu:0*17", "cpu*x", "cpu:0*2*2", "cpu:0*-1"])
def test_a_number_of_passes_is_from_1_to_16(name):
    with pytest.raises(UsageError, match="the number of passes on each device"):
        list_devices(name)


@pytest.mark.parametrize("name", ["cpu:0,cpu:0", "cpu:0, cpu:1,cpu:0*2", "auto,cpu:1", "cpu:0,auto"])
def test_a_list_has_each_device_once_and_not_auto(name):
    with pytest.raises(UsageError, match="must have each device once, and no auto"):
        list_devices(name)


class Pair(NamedTuple):
    """A named tuple, as third-party models return them."""

    tensor: torch.Tensor
    number: int


def test_tensors_are_mapped_in_values_of_all_kinds():
    value = {"pair": Pair(torch.zeros(2), 3), "list": [torch.zeros(1), "text"]}
    mapped = map_tensors(value, torch.ones_like)
    assert mapped["pair"].tensor.tolist() == [1, 1]
    assert (type(mapped["pair"]), mapped["pair"].number) == (Pair, 3)
    assert mapped["list"] == [torch.ones(1), "text"]


def test_devices_are_held_where_only_files_open_for_writing_can_be_locked(own_cache, monkeypatch):
    """As on network file systems, where the system makes such a lock of one of a range of bytes."""
    lock = fcntl.flock

    def strict_lock(descriptor, operation):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", strict_lock)
    with hold_device(TWO) as first, hold_device(TWO) as second:
        assert (first, second) == ("cpu:0", "cpu:1")


def test_a_pass_without_file_locks_takes_the_first_device(own_cache, monkeypatch):
    monkeypatch.setattr("modgap.storage.locks.HAS_FILE_LOCKS", False)
    with hold_device(TWO) as first, hold_device(TWO) as second:
        assert (first, second) == ("cpu:0", "cpu:0")


def test_passes_on_the_cpu_hold_nothing(own_cache):
    assert list_devices("cpu") == ()
    with hold_device("cpu") as device:
        assert device == "cpu"
    assert not (own_cache / "devices").exists()


def test_devices_that_are_absent_are_named(own_cache):
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    for name in ("cuda", "cpu:0,cuda:1"):
        with pytest.raises(UsageError, match=r"Device .cuda.* is not available on this machine"):
            list_devices(name)
    with pytest.raises(UsageError, match="Device 'cpu:x' is not available"):
        list_devices("cpu:x")


def test_dask_workers_that_declare_gpus_run_the_passes(own_cache):
    """Workers without a GPU get none of the passes, and a worker with one GPU runs one at a time."""
    from dask import distributed

    specification = {
        number: {"cls": distributed.Nanny, "options": {"nthreads": 2, "resources": resources, "env": environment}}
        for number, (resources, environment) in enumerate([({"GPU": 1}, {"SEEN": "a"}), ({}, {"SEEN": "none"})])
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False, "port": 0}}
    with (
        distributed.SpecCluster(workers=specification, scheduler=scheduler) as cluster,
        Backend(address=cluster.scheduler_address) as backend,
    ):
        seen = [result for _, result in backend.run([Environment("SEEN")] * 4, device="auto")]
        assert seen == ["a"] * 4
        # Scores need no device, and run everywhere.
        seen = {result for _, result in backend.run([Environment("SEEN", 0.3)] * 6, short=True)}
        assert seen == {"a", "none"}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_passes_on_two_devices_have_the_outputs_of_the_cpu(tmp_path, own_cache, monkeypatch, workers):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "small.npz", x=rng.random((40, 1, 12, 12), np.float32), y=np.arange(40) % 2)
    names = ["random:timm:test_vit", "random:timm:test_resnet"]
    found = {}
    for device, n_workers in (("cpu", 1), (TWO, workers)):
        monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / device))
        request = LogitsRequest(SampleRequest(input_size=32, device=device), head="auto")
        jobs = [ExtractJob(source, TargetRequest(str(tmp_path / "small.npz")), request) for source in names]
        results = dict(Backend(n_workers).run(jobs, device=device))
        found[device] = [load_source_outputs(results[number].key) for number in range(2)]
    for one, other in zip(found["cpu"], found[TWO], strict=True):
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.logits, other.logits)


@pytest.mark.skipif(torch.cuda.device_count() < 1, reason="needs a CUDA device")
def test_cuda_devices_are_listed_one_by_one(own_cache):
    devices = list_devices("cuda")
    assert devices == tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    with hold_device("cuda") as device:
        assert torch.zeros(1, device=device).device.type == "cuda"
    assert len(list((own_cache / "devices").rglob("*.lock"))) == 1
