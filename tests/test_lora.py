"""LoRA: its changes of the encoder, their merging, and runs of the method."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modgap.errors import UsageError
from modgap.sources import open_source
from modgap.targets import open_target
from modgap.training.methods import get_method
from modgap.training.methods.lora import add_low_rank_changes, low_rank_parameters, merge_low_rank_changes
from modgap.training.recipe import FullStage, resolve_recipe
from modgap.training.train import build_model
from modgap.training.training_data import read_target_data
from tests.commands import run_in_process
from tests.training import target_file

SOURCES = {"transformer": "vit-fashion", "convolutional": "random:timm:test_efficientnet"}


def untrained_model(source: str) -> nn.Module:
    data = read_target_data(open_target("digits"), limit=20)
    return build_model(
        open_source(source).load(None, head=False),
        data,
        resolve_recipe(data.target.manifest),
        get_method("lora"),
        seed=0,
    ).eval()


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_changes_start_at_zero_and_merge_to_the_layers_they_stand_for(source):
    model = untrained_model(source)
    before = copy.deepcopy(model)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    add_low_rank_changes(model, FullStage(lora_rank=3, lora_alpha=6))
    with torch.no_grad():
        assert torch.equal(model(x), before(x))
        changes = {name: value for name, value in model.named_parameters() if ".lora_" in name}
        assert changes
        for value in changes.values():
            value.normal_(0, 0.1)
        expected = {}
        for name, module in before.encoder.named_modules():
            a = changes.get(f"encoder.{name}.lora_A.default.weight")
            if a is not None and isinstance(module, nn.Linear):
                b = changes[f"encoder.{name}.lora_B.default.weight"]
                # W + alpha / rank * B A
                expected[f"encoder.{name}.weight"] = module.weight + 2 * b @ a
        unmerged = model(x)
        merge_low_rank_changes(model)
        torch.testing.assert_close(model(x), unmerged, rtol=1e-4, atol=1e-5)
    after, original = model.state_dict(), before.state_dict()
    assert after.keys() == original.keys()
    for name, value in expected.items():
        torch.testing.assert_close(after[name], value)
    assert expected or source != SOURCES["transformer"]


def test_only_embedder_predictor_and_changes_are_trained():
    model = untrained_model("vit-fashion")
    add_low_rank_changes(model, FullStage(lora_targets=("qkv",)))
    trained = low_rank_parameters(model)
    assert all(name.startswith(("embedder.", "predictor.")) or ".attn.qkv.lora_" in name for name in trained)
    blocks = {name.split(".attn.qkv")[0] for name, _ in model.named_modules() if ".attn.qkv" in name}
    assert sum(".lora_" in name for name in trained) == 2 * len(blocks) > 0


def test_unknown_layers_are_refused_with_the_names_of_those_there_are():
    model = untrained_model("vit-fashion")
    with pytest.raises(UsageError, match=r"No layer of the encoder is named query. It has fc1, fc2, proj, qkv."):
        add_low_rank_changes(model, FullStage(lora_targets=("query",)))


def test_missing_peft_is_a_message(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UsageError, match=r"pip install 'modgap\[lora\]'"):
        add_low_rank_changes(untrained_model("vit-fashion"), FullStage())


@pytest.fixture(scope="module", name="train")
def train_command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    target = target_file(folder, "classification", samples=60)

    def train(out, *more: str):
        return run_in_process(
            "train", "--method=lora", "--source=vit-fashion", f"--target={target}", "--set=stage2.batch_size=8",
            "--set=stage2.epochs=3", "--set=stage2.decay_epochs=9", "--set=stage2.learning_rate=3e-3", f"--out={out}",
            *more, MODGAP_CACHE=str(folder / "cache"),
        )  # fmt: skip

    return train


@pytest.fixture(scope="module", name="trained")
def run_of_three_epochs(train, tmp_path_factory):
    """The folder of a run that has its epochs; tests must not write to it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    done = train(folder, "--set=stage2.keep_epochs=[1,2,3]")
    assert done.returncode == 0, done.stderr
    return folder


def test_run_leaves_merged_weights_and_can_have_more_epochs(trained):
    chosen = load_file(trained / "model.safetensors")
    source = open_source("vit-fashion").load(None).split().encoder.state_dict()
    assert {name.removeprefix("encoder.") for name in chosen if name.startswith("encoder.")} == set(source)
    changed = [name for name, value in source.items() if not torch.equal(chosen[f"encoder.{name}"], value)]
    assert changed
    assert all(name.endswith("weight") and "norm" not in name for name in changed)
    for name in changed:
        ranks = torch.linalg.matrix_rank(chosen[f"encoder.{name}"] - source[name], atol=1e-5)
        assert int(ranks) <= 8
    epoch = json.loads((trained / "run.json").read_text())["result"]["epoch"]
    saved = load_file(trained / "epochs" / f"{epoch:05d}.safetensors")
    assert saved.keys() == chosen.keys()
    assert all(torch.equal(saved[name], chosen[name]) for name in chosen)


@pytest.mark.long
def test_more_epochs_equal_those_from_the_start(train, trained, tmp_path):
    more = ("--set=stage2.epochs=4", "--set=stage2.keep_epochs=[1,2,3]")
    assert train(tmp_path / "once", *more).returncode == 0
    shutil.copytree(trained, tmp_path / "twice")
    assert train(tmp_path / "twice", *more, "--resume").returncode == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("once", "twice")]
    assert weights[0] == weights[1]


def test_distortion_measures_a_run(trained, tmp_path):
    done = run_in_process(
        "distortion", "--source=vit-fashion", f"--run={trained}", "--surrogate=digits", "--limit=100",
        "--quiet", MODGAP_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lora" in done.stdout
