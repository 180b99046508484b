"""`modgap train --resume` with more epochs of stage 2 than before."""

import json
from pathlib import Path

import pytest

from modgap import load_run
from modgap.distortion.encoders import Encoder
from modgap.errors import InputError
from modgap.sources import open_source
from modgap.training.adapted_embedder import _check_embedder as check_embedder
from modgap.training.run_folder import open_run, write_record
from tests.commands import run_in_process
from tests.training import target_file


@pytest.fixture(scope="module", name="train")
def train_command(tmp_path_factory):
    """Return a function that trains a small model for some epochs."""
    folder = tmp_path_factory.mktemp("data")
    target = target_file(folder, "classification", samples=60)

    def train(out: Path, epochs: int, *more: str):
        return run_in_process(
            "train", "--method=finetune", "--source=random:timm:test_vit", "--input-size=32", f"--target={target}",
            "--set=stage2.batch_size=8", f"--set=stage2.epochs={epochs}", f"--out={out}", *more,
            MODGAP_CACHE=str(folder / "cache"),
        )  # fmt: skip

    return train


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize("choose", ["best", pytest.param("last", marks=pytest.mark.long)])
def test_finished_run_with_more_epochs_equals_one_that_had_them_from_the_start(train, tmp_path, choose):
    fixed = ["--set=stage2.decay_epochs=9", f"--set=stage2.choose={choose}", "--set=stage2.learning_rate=1e-3"]
    assert train(tmp_path / "once", 5, *fixed).returncode == 0
    assert train(tmp_path / "twice", 2, *fixed).returncode == 0
    done = train(tmp_path / "twice", 5, "--resume", *fixed)
    assert done.returncode == 0
    assert "The run continues with 5 epochs of stage 2 in place of 2." in done.stderr
    once, twice = record(tmp_path / "once"), record(tmp_path / "twice")
    assert twice["extended_from"] == [2]
    assert {**twice["result"], "seconds": 0} == {**once["result"], "seconds": 0}
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("once", "twice")]
    assert weights[0] == weights[1]
    assert len((tmp_path / "twice" / "metrics.jsonl").read_text().splitlines()) == 5


def test_best_epoch_of_the_first_part_is_kept_if_no_later_one_is_better(train, tmp_path):
    # The learning rate is so high that the later epochs only do harm.
    wild = ["--set=stage2.decay_epochs=90", "--set=stage2.learning_rate=0.3", "--set=stage2.warmup_epochs=3"]
    assert train(tmp_path / "run", 2, *wild).returncode == 0
    before = record(tmp_path / "run")["result"]
    assert train(tmp_path / "run", 4, "--resume", *wild).returncode == 0
    after = record(tmp_path / "run")["result"]
    assert after["validation"] <= before["validation"]
    if after["epoch"] == before["epoch"]:
        assert after["test"] == before["test"]


def test_default_decay_follows_the_epochs(train, tmp_path):
    assert train(tmp_path / "run", 3).returncode == 0
    done = train(tmp_path / "run", 4, "--resume")
    assert "The decay of the learning rate now ends with the last of these epochs." in done.stderr
    assert record(tmp_path / "run")["recipe"]["stage2"]["decay_epochs"] == 4


def test_fewer_epochs_and_other_settings_are_refused(train, tmp_path):
    assert train(tmp_path / "run", 3).returncode == 0
    assert "recipe.stage2.epochs is 3, not 2" in train(tmp_path / "run", 2, "--resume").stderr
    both = train(tmp_path / "run", 4, "--resume", "--set=stage2.weight_decay=0.5")
    assert both.returncode == 2
    assert "recipe.stage2.weight_decay is 0.05, not 0.5" in both.stderr


def test_run_without_checkpoint_cannot_have_more_epochs(train, tmp_path):
    without = "--set=keep_checkpoint=false"
    assert train(tmp_path / "run", 2, without).returncode == 0
    assert not (tmp_path / "run" / "checkpoints").exists()
    before = record(tmp_path / "run")
    done = train(tmp_path / "run", 3, without, "--resume")
    assert done.returncode == 2
    assert "is finished and has no checkpoint" in done.stderr
    assert record(tmp_path / "run") == before


def test_extended_run_that_was_not_continued_does_not_predict(train, tmp_path):
    """Its weights are those of the epochs before, which it may not choose again."""
    assert train(tmp_path / "run", 2).returncode == 0
    assert load_run(tmp_path / "run").classes
    found = open_run(tmp_path / "run").record
    write_record(tmp_path / "run", {**found, "extended_from": [2], "result": None})
    with pytest.raises(InputError, match=r"has no chosen weights, because it was not finished\. Repeat its command"):
        load_run(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.weights.exists()
    parts = open_source("random:timm:test_vit").load(32, head=False).split()
    with pytest.raises(InputError, match="because it was not finished"):
        Encoder(run, None).load(parts)
    with pytest.raises(InputError, match="because it was stopped before"):
        check_embedder(run)
