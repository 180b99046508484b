"""A run that is killed at random moments and taken up again ends in the bits of one that was not."""

import hashlib
import itertools
import json
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from modgap.errors import UsageError
from modgap.training import loop as loops
from modgap.training.checkpoint import latest_checkpoint
from modgap.training.evaluation import Evaluator
from tests.commands import run_in_process
from tests.forked_commands import ForkedCommand
from tests.training import run, surrogate_file, target_file

VIT = "random:timm:test_vit"
LAST_UPDATE = 20
"""Number of updates, of about 30 in two stages, after which a run is stopped in the process of the tests."""
KILLS = int(os.environ.get("MODGAP_TEST_KILLS", "2"))
SETTINGS = (
    "stage1.epochs=1", "stage2.epochs=2", "stage1.batch_size=4", "stage2.batch_size=4", "stage1.surrogate_batch=8",
    "checkpoint_seconds=0.1", "loader_workers=1", "stage2.learning_rate=1e-3", "stage1.learning_rate=1e-3",
)  # fmt: skip


@pytest.fixture(scope="module", name="arguments")
def train_arguments(tmp_path_factory) -> list[str]:
    """The arguments of a run of mona on a small model with dropout."""
    folder = tmp_path_factory.mktemp("data")
    target, surrogate = target_file(folder, "classification", samples=60), surrogate_file(folder)
    settings = [f"--set={setting}" for setting in (*SETTINGS, f"stage1.surrogate={surrogate}")]
    options = ["--method=mona", "--source=random:timm:test_vit", "--input-size=32", f"--target={target}", "--quiet"]
    return ["train", *options, *settings]


@pytest.fixture(name="command")
def train_command(arguments, tmp_path_factory):
    """Start the run in a process that can be killed."""

    def start(out: Path, *more: str) -> ForkedCommand:
        folder = tmp_path_factory.mktemp("command")
        return ForkedCommand(
            [*arguments, f"--out={out}", *more], {"MODGAP_CACHE": str(folder / "cache")}, folder / "output"
        )

    return start


@pytest.fixture(scope="module", name="run_here")
def run_on_one_thread(arguments, tmp_path_factory):
    """Start the run in this process, with one thread as in the others."""
    folder = tmp_path_factory.mktemp("here")

    def start(out: Path, *more: str):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return run_in_process(*arguments, f"--out={out}", *more, MODGAP_CACHE=str(folder / "cache"))
        finally:
            torch.set_num_threads(threads)

    return start


@pytest.fixture(scope="module")
def uninterrupted(run_here, tmp_path_factory) -> Path:
    """The folder of a run in this process that was never stopped, which the others have to equal."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    done = run_here(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def stopped(run_here, tmp_path, monkeypatch) -> Path:
    """The folder of a run in this process that was stopped in its second stage, with the checkpoints that it wrote."""
    updates, step = itertools.count(), loops._StageLoop._step

    def stop(self, *arguments):
        if next(updates) == LAST_UPDATE:
            raise KeyboardInterrupt
        step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loops._StageLoop, "_step", stop)
        assert run_here(tmp_path / "broken").returncode != 0
    assert checkpoints(tmp_path / "broken")
    return tmp_path / "broken"


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").glob("[0-9]*")}


def killed_after_progress(process, out: Path, wait: float) -> bool:
    """Kill the process some time after it has written a checkpoint of its own; whether it was still running."""
    before, deadline = checkpoints(out), time.monotonic() + 120
    while process.poll() is None and checkpoints(out) <= before and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(wait)
    if process.poll() is not None:
        return False
    process.kill()
    return True


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.long
def test_runs_killed_several_times_end_in_the_same_bits(command, uninterrupted, tmp_path):
    broken = tmp_path / "broken"
    moments, kills, ends = random.Random(0), 0, set()
    while kills < KILLS:
        process = command(broken, "--resume")
        if not killed_after_progress(process, broken, moments.uniform(0, 0.4)):
            # It came to its end before it was killed: begin another one.
            process.finish()
            ends.add(digest(broken / "model.safetensors"))
            broken = tmp_path / f"broken-{kills}"
            continue
        kills += 1
    command(broken, "--resume").finish()
    ends.add(digest(broken / "model.safetensors"))
    assert ends == {digest(uninterrupted / "model.safetensors")}
    assert_same_run(broken, uninterrupted)


def assert_same_run(resumed: Path, uninterrupted: Path) -> None:
    """Check that a run has the weights and the log of another one, and one checkpoint."""
    for name in ("model.safetensors", "stage1.safetensors"):
        assert digest(resumed / name) == digest(uninterrupted / name)
    assert without_times(resumed) == without_times(uninterrupted)
    assert len(checkpoints(resumed)) == 1


def without_times(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_stopped_run_with_a_damaged_checkpoint_ends_in_the_same_bits(stopped, run_here, uninterrupted):
    """Without the damage, checkpoints hold no pickles."""
    names = {path.suffix for path in stopped.rglob("*") if path.is_file()} - {".part", ".lock"}
    assert names <= {".safetensors", ".json", ".jsonl"}
    newest = stopped / "checkpoints" / max(checkpoints(stopped))
    position = json.loads((newest / "position.json").read_text())
    assert np.isfinite(position["total_updates"])
    data = (newest / "model.safetensors").read_bytes()
    (newest / "model.safetensors").write_bytes(data[: len(data) // 2])
    checkpoint = latest_checkpoint(stopped)
    assert checkpoint is None or checkpoint[0].total_updates < int(newest.name.split("-")[0])
    done = run_here(stopped, "--resume")
    assert done.returncode == 0, done.stderr
    assert_same_run(stopped, uninterrupted)


def test_log_of_a_run_that_is_resumed_at_the_end_of_an_epoch_has_its_rate(tmp_path, monkeypatch):
    """The last checkpoint is that after the last update, so that the resumed run makes no update in the epoch."""
    data = target_file(tmp_path, "classification"), tmp_path / "none"
    settings = ("stage2.epochs=2", "checkpoint_seconds=0", "stage2.warmup_epochs=0")

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "error", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", "finetune", VIT, *data, *settings, input_size=32)
    run(tmp_path / "stopped", "finetune", VIT, *data, *settings, input_size=32, resume=True)
    run(tmp_path / "whole", "finetune", VIT, *data, *settings, input_size=32)
    assert without_times(tmp_path / "stopped") == without_times(tmp_path / "whole")


@pytest.mark.parametrize("epoch", [0, 3])
def test_epochs_that_do_not_exist_cannot_be_kept(tmp_path, epoch):
    data = target_file(tmp_path, "classification"), tmp_path / "none"
    settings = ("stage2.epochs=2", f"stage2.keep_epochs=[1, {epoch}]")
    with pytest.raises(UsageError, match=f"names epoch {epoch}, and stage 2 has 2 epochs, numbered from 1"):
        run(tmp_path / "run", "finetune", VIT, *data, *settings, input_size=32)
