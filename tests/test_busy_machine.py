"""A loaded machine: threads yield, and no command is silent for long."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from modgap.cli import output
from modgap.discrepancy import estimate, permutation_test
from modgap.process import resources


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Set the cores, the load and the limit of a container: `machine(8, 5.0)`."""

    def describe(affinity, load, limit="max 100000"):
        (tmp_path / "cpu.max").write_text(limit)
        monkeypatch.setattr(resources, "CGROUP_LIMIT", tmp_path / "cpu.max")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(affinity)), raising=False)
        monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load), raising=False)
        monkeypatch.setattr(resources, "_load_of_this_process", lambda: 0.0)

    return describe


@pytest.mark.parametrize(
    ("affinity", "load", "limit", "idle"),
    [
        (8, 0.0, "max 100000", 8),
        (8, 5.0, "max 100000", 3),
        (8, 37.0, "max 100000", 1),
        (8, 0.0, "150000 100000", 2),
        (8, 0.0, "damaged", 8),
        (2, 0.0, "1000 100000", 1),
    ],
)
def test_threads_are_as_many_as_cores_are_idle(machine, affinity, load, limit, idle):
    machine(affinity, load, limit)
    assert resources.idle_cores() == idle


def test_own_work_is_no_load_of_others(machine, monkeypatch):
    machine(2, 2.0)
    monkeypatch.setattr(resources, "_load_of_this_process", lambda: 2.0)
    assert resources.idle_cores() == 2


@pytest.mark.parametrize("has_ended", [True, False])
def test_the_work_of_children_is_no_load_of_others(has_ended):
    script = "import sys, time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\nsys.stdin.read()"
    before = resources._load_of_this_process() * (time.time() - resources._STARTED)
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        if has_ended:
            child.communicate()
        elif not Path(f"/proc/{child.pid}/stat").exists():
            pytest.skip("the times of running children are known on Linux only")
        after = resources._load_of_this_process() * (time.time() - resources._STARTED)
    assert after - before > 0.4


@pytest.mark.parametrize("load", [0.0, 37.0])
def test_the_load_chooses_the_threads_and_changes_no_result(machine, monkeypatch, caplog, load):
    machine(2, load)
    monkeypatch.setattr(permutation_test, "ANNOUNCED_SECONDS", -1)
    logits = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    labels = np.arange(60) % 3
    with caplog.at_level("INFO", "modgap"):
        result = estimate(logits, labels, estimators=["search"], splits=2, permutations=9)
    threads = "2 threads" if load == 0 else "1 thread"
    assert f"with {threads} on a machine with 2 cores and a load of {load}" in caplog.text
    fixed = estimate(logits, labels, estimators=["search"], splits=2, permutations=9, threads=1)
    assert result.estimates.keys() == fixed.estimates.keys()
    assert result.held_out_confusion.tolist() == fixed.held_out_confusion.tolist()


def test_waiting_openmp_threads_do_not_spin():
    script = (
        "import os, sys; sys.argv = ['modgap', '--version']\n"
        "import modgap.__main__\n"
        "try:\n    modgap.__main__.main()\nfinally:\n    print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.splitlines()[-1] == "PASSIVE"


def test_a_command_without_a_terminal_says_how_far_it_is(monkeypatch, caplog):
    monkeypatch.setattr(output, "INTERVAL_SECONDS", 0.01)
    with caplog.at_level("INFO", "modgap"), output.progress_bars(quiet=False) as progress:
        while "still at work after 0 s" not in caplog.text:
            time.sleep(0.01)
        progress("permutations", 0.25)
        progress("permutations", 0.25)
        while "permutations: 50% done after 0 s" not in caplog.text:
            time.sleep(0.01)
    with output.progress_bars(quiet=True) as progress:
        assert progress is None


def test_too_many_threads_are_refused(modgap, own_logits):
    done = modgap("discrepancy", "--logits", own_logits, "--threads", "100000")
    assert (done.returncode, done.stderr) == (2, "modgap: --threads is 100000, but it must be at most 256.\n")
