"""Files that are read at once are compared with the memory that is left, before they are read."""

import os
import subprocess
import sys

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.storage import limits
from modgap.storage.limits import available_memory, check_memory
from modgap.targets import CustomData, open_target


@pytest.fixture
def little_memory(monkeypatch):
    """Leave 1 kB, and compare files of any size."""
    monkeypatch.setattr(limits, "available_memory", lambda: 1000)
    monkeypatch.setattr(limits, "UNCHECKED_BYTES", 0)


def write(path):
    values = np.random.default_rng(0).random((40, 1, 8, 8))
    labels = np.arange(40) % 2
    if path.suffix == ".npz":
        np.savez_compressed(path, x=values, y=labels)
    elif path.suffix == ".csv":
        path.write_text("a,label\n" + "".join(f"{number / 7:.15f},{number % 2}\n" for number in range(100)))
    elif path.suffix == ".parquet":
        import pandas as pd

        pd.DataFrame({"a": values[:, 0, 0, 0].repeat(9), "label": labels.repeat(9)}).to_parquet(path)
    else:
        import torch

        torch.save({"logits": torch.from_numpy(values[:, 0, 0]), "labels": torch.from_numpy(labels)}, path)


@pytest.mark.parametrize("name", ["data.npz", "data.csv", "data.parquet"])
def test_a_file_that_does_not_fit_is_refused_before_it_is_read(tmp_path, little_memory, name):
    write(tmp_path / name)
    kind = None if name == "data.npz" else CustomData(kind="table")
    with pytest.raises(InputError, match=rf"{name} takes at least .* of memory, and 1.0 kB are left\. Use fewer"):
        open_target(str(tmp_path / name), custom_data=kind).read()


def test_logits_of_torch_that_do_not_fit_are_refused(tmp_path, modgap, little_memory):
    write(tmp_path / "logits.pt")
    done = modgap("discrepancy", "--logits", tmp_path / "logits.pt")
    assert done.returncode == 1
    assert "logits.pt takes at least" in done.stderr


def test_the_memory_that_is_left_is_the_smallest_of_machine_container_and_limit(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:  500 kB\n")
    monkeypatch.setattr(limits, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(limits, "CGROUP", tmp_path)
    monkeypatch.setattr(limits, "PROCESS", tmp_path / "statm")
    assert available_memory() == 512_000
    (tmp_path / "memory.max").write_text("700000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert available_memory() == 300_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() == 512_000
    (tmp_path / "statm").write_text("2 1 1\n")
    monkeypatch.setattr("resource.getrlimit", lambda _: (os.sysconf("SC_PAGE_SIZE"), -1))
    assert available_memory() == 0
    (tmp_path / "meminfo").unlink()
    (tmp_path / "statm").unlink()
    assert available_memory() is None
    check_memory("x", 10**18)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the address space")
def test_a_limit_of_address_space_counts():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); "
        "from modgap.storage.limits import available_memory; print(available_memory() < 1 << 30)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr
