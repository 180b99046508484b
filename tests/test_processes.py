"""Two processes on the CPU, joined by accelerate, against one with the same batches."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modgap.training.methods import method_names
from modgap.training.placement import Processes
from tests.training import surrogate_file, target_file
from tests.two_processes import train_all

SETTINGS = (
    "precision=float64", "stage1.epochs=1", "stage2.epochs=2", "stage1.batch_size=10", "stage2.batch_size=5",
    "stage2.gradient_accumulation=2", "stage1.surrogate_batch=9", "stage2.choose=last", "stage2.learning_rate=1e-3",
    "stage1.learning_rate=1e-3", "class_weights=balanced", "label_smoothing=0.1", "stage2.ema_decay=0.9",
)  # fmt: skip
SOURCE = "random:timm:test_vit"


def runs(folder: Path, name: str, methods: Sequence[str]) -> list[dict]:
    """Return a run of each method; test_vit is trained at 32 pixels, because it has five times the tokens at 160."""
    target, surrogate = target_file(folder, "classification", samples=70), surrogate_file(folder)
    settings = [*SETTINGS, f"stage1.surrogate={surrogate}"]
    return [
        {
            "method": item,
            "source": SOURCE,
            "target": str(target),
            "settings": settings,
            "input_size": 32,
            "out": str(folder / name / item),
        }
        for item in methods
    ]


def start_two(listed: Path) -> subprocess.Popen:
    """Start the runs that a file lists, in two processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MODGAP_CACHE": str(listed.parent / "cache")}
    script = Path(__file__).with_name("two_processes.py")
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script), str(listed)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=script.parents[1],
    )  # fmt: skip


@pytest.mark.long
def test_two_processes_train_as_one_does(tmp_path_factory):
    pytest.importorskip("accelerate")
    folder, methods = tmp_path_factory.mktemp("processes"), method_names()
    (folder / "two.json").write_text(json.dumps(runs(folder, "two", methods)))
    two = start_two(folder / "two.json")
    train_all(runs(folder, "one", methods))
    errors = two.communicate(timeout=900)[1]
    assert two.returncode == 0, errors[-3000:]
    distances = {}
    for name in methods:
        first, second = (load_file(folder / item / name / "model.safetensors") for item in ("one", "two"))
        distances[name] = max(float((first[n] - second[n]).abs().max()) for n in first)
        records = [json.loads((folder / item / name / "run.json").read_text())["result"] for item in ("one", "two")]
        assert records[0]["updates"] == records[1]["updates"] >= 10
        assert records[0]["test"] == pytest.approx(records[1]["test"], rel=1e-6)
    assert max(distances.values()) < 1e-8, distances


def test_one_process_shares_with_nobody():
    alone, rows = Processes(), np.arange(7)
    assert list(alone.interleaved_share(rows)) == list(alone.contiguous_share(rows)) == list(rows)
    z = torch.randn(3, 2, requires_grad=True)
    assert alone.gather(z, 3) is z
    assert alone.sum([z]) == [z]


class Twins(Processes):
    """As if a second process had the values plus 2."""

    def sum(self, tensors):
        return [2 * tensor + 2 for tensor in tensors]


def test_statistics_of_batch_normalization_are_their_mean():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3, affine=False)
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Processes().average_batch_statistics(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    Twins(0, 2).average_batch_statistics(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] + (1 if "running" in name else 0))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shares_and_blocks_cover_each_row_once(size):
    rows, several = np.arange(11), [Processes(rank, size) for rank in range(size)]
    assert sorted(np.concatenate([item.interleaved_share(rows) for item in several])) == list(rows)
    assert list(np.concatenate([item.contiguous_share(rows) for item in several])) == list(rows)
