"""Batch normalization in training: whose statistics it uses, and what must not change them."""

import pytest
import torch
from safetensors.torch import load_file

from modgap.errors import InputError
from modgap.sources import open_source
from modgap.training import loop
from tests.training import run, surrogate_file, target_file

SOURCE = "random:timm:test_efficientnet"


def source_statistics():
    """The running statistics of the source's encoder, by their names in a model."""
    encoder = open_source(SOURCE).load(32, head=False).split().encoder
    return {f"encoder.{name}": value for name, value in encoder.named_buffers() if "running_" in name}


@pytest.mark.parametrize(
    ("method", "holds"),
    [("lora", True), ("l2-sp", True), ("replay", True), ("frozen", True), ("finetune", False), ("lp-ft", True)],
)
def test_methods_that_hold_the_source_hold_its_running_statistics(tmp_path, method, holds):
    target, surrogate = target_file(tmp_path, "classification"), surrogate_file(tmp_path)
    after = load_file(run(tmp_path / "run", method, SOURCE, target, surrogate, input_size=32).weights)
    statistics = source_statistics()
    assert statistics
    assert all(torch.equal(after[name], value) == holds for name, value in statistics.items())


@pytest.mark.parametrize(
    "settings", [("stage2.batch_size=64",), ("stage2.batch_size=8", "stage2.gradient_accumulation=8")]
)
def test_last_batch_of_one_sample_is_joined_to_the_one_before(tmp_path, settings):
    """The map of this source is a single pixel, of which one sample has no variance."""
    done = run(tmp_path / "run", "finetune", SOURCE, "digits", tmp_path, *settings, limit=65, input_size=32)
    assert done.record["samples"]["train"] == 65
    assert done.record["result"]["updates"] == 1


def test_batches_of_one_sample_are_refused_where_they_have_no_variance(tmp_path):
    message = r'needs more than one sample in each batch.* a larger `settings\["stage2\.batch_size"\]`; here it is 1'

    with pytest.raises(InputError, match=message):
        run(tmp_path / "run", "finetune", SOURCE, "digits", tmp_path, "stage2.batch_size=1", limit=20, input_size=32)


def test_only_batch_normalization_that_trains_joins_batches(tmp_path):
    done = run(tmp_path / "run", "lora", "vit-fashion", "digits", tmp_path, "stage2.batch_size=8", limit=65)
    assert done.record["result"]["updates"] == 9


@pytest.mark.parametrize(("method", "expected"), [("finetune", 0), ("emb", 1)])
def test_batches_are_never_divided_where_they_have_statistics(tmp_path, monkeypatch, method, expected):
    """Stage 1 uses the running statistics, so it may divide its batches."""
    asked = []
    monkeypatch.setattr(loop, "fitting_batch", lambda _model, one: asked.append(one) or 1)
    run(tmp_path / "run", method, SOURCE, target_file(tmp_path, "classification"), tmp_path, input_size=32)
    assert len(asked) == expected


def test_gradient_checkpointing_counts_each_batch_once(tmp_path):
    target = target_file(tmp_path, "classification")
    runs = [
        load_file(
            run(
                tmp_path / value, "finetune", SOURCE, target, tmp_path, f"gradient_checkpointing={value}", input_size=32
            ).weights
        )
        for value in ("false", "true")
    ]
    assert any("num_batches_tracked" in name for name in runs[0])
    assert all(torch.equal(runs[1][name], value) for name, value in runs[0].items())
