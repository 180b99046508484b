"""Batch normalization in training: whose statistics it uses, and what must not change them."""

import pytest
import torch
from safetensors.torch import load_file

from modgap.sources import open_source
from tests.training import run, surrogate_file, target_file

SOURCE = "random:timm:test_efficientnet"


def source_statistics():
    """The running statistics of the source's encoder, by their names in a model."""
    encoder = open_source(SOURCE).load(32, head=False).split().encoder
    return {f"encoder.{name}": value for name, value in encoder.named_buffers() if "running_" in name}


@pytest.mark.parametrize(
    ("method", "holds"), [("lora", True), ("l2-sp", True), ("replay", True), ("frozen", True), ("finetune", False)]
)
def test_methods_that_hold_the_source_hold_its_running_statistics(tmp_path, method, holds):
    target, surrogate = target_file(tmp_path, "classification"), surrogate_file(tmp_path)
    after = load_file(run(tmp_path / "run", method, SOURCE, target, surrogate, input_size=32).weights)
    statistics = source_statistics()
    assert statistics
    assert all(torch.equal(after[name], value) == holds for name, value in statistics.items())
