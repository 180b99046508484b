"""The choice of the epoch whose weights a run ends with, its report, and the weights kept on disk meanwhile."""

import json
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modgap.training import evaluation
from modgap.training import loop as loops
from modgap.training.checkpoint import BestEpoch, Position, RunFiles, best_epochs, latest_checkpoint
from tests.training import run, target_file

VIT = "vit-fashion"


@pytest.fixture(scope="module", name="target")
def small_target(tmp_path_factory):
    return target_file(tmp_path_factory.mktemp("data"), "classification")


def trained(folder, target, *settings):
    return run(folder, "finetune", VIT, target, folder, *settings)


def log_of(done):
    return [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]


def test_last_epoch_is_reported_if_requested(target, tmp_path):
    # So fast that the last epoch is no better than an earlier one, which "best" would have chosen.
    settings = ("stage2.epochs=6", "stage2.learning_rate=0.3", "stage2.keep_epochs=[6]")
    done = trained(tmp_path / "last", target, *settings, "stage2.choose=last")
    errors = [line["validation_error"] for line in log_of(done)]
    assert 1 + errors.index(min(errors)) < 6
    result = done.record["result"]
    assert (result["epoch"], result["validation"]) == (6, errors[-1])
    assert "last epoch" in result["chosen_by"]
    saved, whole = load_file(done.folder / "epochs" / "00006.safetensors"), load_file(done.weights)
    assert all(torch.equal(saved[name], whole[name]) for name in whole)


def test_last_epoch_is_best_if_the_metric_is_undefined(tmp_path, caplog):
    """No validation sample has a label, so there is no average precision."""
    rng = np.random.default_rng(0)
    splits, several = np.repeat([0, 1, 2], [24, 8, 8]), rng.integers(0, 2, (40, 3))
    several[splits == 1] = 0
    path = tmp_path / "labels.npz"
    np.savez(path, x=rng.standard_normal((40, 1, 12, 10)).astype(np.float32), y=several, splits=splits)
    with caplog.at_level(logging.WARNING, "modgap"):
        done = trained(tmp_path / "run", path, "stage2.epochs=3", "stage2.keep_epochs=[3]")
    assert [line["validation_error"] for line in log_of(done)] == [None] * 3
    assert (done.record["result"]["epoch"], done.record["result"]["validation"]) == (3, None)
    assert np.isfinite(done.record["result"]["test"])
    saved, whole = load_file(done.folder / "epochs" / "00003.safetensors"), load_file(done.weights)
    assert all(torch.equal(saved[name], whole[name]) for name in whole)
    assert [record.message for record in caplog.records if "not defined" in record.message] != []


def test_weights_of_former_best_epochs_do_not_pile_up(target, tmp_path, monkeypatch):
    seen, plain = [], loops._StageLoop._finish_epoch

    def watched(self, position, seconds):
        position = plain(self, position, seconds)
        seen.append({path.name for path in self.training.files.folder.glob("best-*")})
        return position

    monkeypatch.setattr(loops._StageLoop, "_finish_epoch", watched)
    falling = iter(np.linspace(90, 10, 9))
    monkeypatch.setattr(evaluation.Evaluator, "error", lambda self, model, rows: float(next(falling)))
    # A checkpoint would keep the best epoch that it refers to.
    done = trained(tmp_path / "run", target, "stage2.epochs=9", "checkpoint_seconds=100000")
    assert seen == [{f"best-{epoch:05d}.safetensors"} for epoch in range(1, 10)]
    assert done.record["result"]["epoch"] == 9
    assert list(done.folder.glob("best-*")) == []


def test_weights_that_a_checkpoint_needs_are_kept(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    for total, best in ((3, BestEpoch(1, 0.5)), (6, BestEpoch(4, 0.25)), (9, BestEpoch(4, 0.25)), (2, None)):
        RunFiles(tmp_path).save_checkpoint(Position(0, total, 0, total, best=best), model, optimizer)
    assert best_epochs(tmp_path) == {4}
    assert latest_checkpoint(tmp_path)[0].best == BestEpoch(4, 0.25)
    RunFiles(tmp_path).save_checkpoint(Position(0, 12, 0, 12, best=BestEpoch(11, None)), model, optimizer)
    assert best_epochs(tmp_path) == {4, 11}
    assert latest_checkpoint(tmp_path)[0].best == BestEpoch(11, None)
