"""Replay: the gradient of both losses, what the surrogate must not change, and that the source's knowledge stays."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from modgap.errors import InputError, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.sources import open_source
from modgap.storage.json_records import read_json
from modgap.targets import TargetRequest, open_target
from modgap.training.losses import task_loss
from modgap.training.method import Objective
from modgap.training.methods import find_unused_settings, get_method
from modgap.training.methods.replay import ReplayObjective, _probe_loss
from modgap.training.run_folder import write_record
from modgap.training.task_loss import MicroBatch
from modgap.training.train import train
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import read_target_data
from tests.commands import run_in_process
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.training import run, surrogate_file, target_file, training_of


@pytest.fixture(scope="module")
def step():
    """The objective of a run of replay in double precision."""
    return replay("stage1.surrogate_samples=60", "stage1.surrogate_batch=20", "stage2.replay=0.7", "precision=float64")


def replay(*settings, limit=100):
    source = open_source("vit-fashion").load(None, head=False)
    training = training_of("replay", source, read_target_data(open_target("digits"), limit=limit), *settings)
    return ReplayObjective(training, training.method.stages[0], 0)


def test_the_probe_ignores_a_feature_that_hardly_varies():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4))
    features[:, 2] = 1 + 1e-6 * np.arange(60)
    surrogate = SimpleNamespace(of_source=lambda: torch.from_numpy(features), labels=np.arange(60) % 3)
    loss = _probe_loss(surrogate, torch.device("cpu"), torch.float64)
    z = torch.from_numpy(features).requires_grad_()
    loss(z, torch.from_numpy(surrogate.labels)).backward()
    assert z.grad[:, 2].abs().max() == 0
    assert z.grad[:, [0, 1, 3]].abs().max() > 0


def test_the_gradient_is_that_of_both_losses(step):
    model, data = step.model, step.training.data
    x = torch.randn(8, *data.transform.shape, generator=torch.Generator().manual_seed(0)).double()
    part = MicroBatch(x, torch.arange(8) % 10)
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = step.gradient([part], np.arange(8), 3)
    assert model.encoder.training
    model.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = task_loss(data.target.manifest)(model(x), part.y, None).mean()
    batch = step.surrogate.loss(step.probe_loss, 3)
    model.encoder.eval()
    replayed = step.probe_loss(batch.features[0](model), batch.labels)
    (loss + 0.7 * replayed).backward()
    parameters = dict(model.named_parameters())
    assert found.loss == pytest.approx(float(loss))
    assert found.scalars["replay"] == pytest.approx(float(replayed))
    assert set(found.gradient) == set(get_method("replay").stages[0].select_parameters(model))
    for name, value in found.gradient.items():
        torch.testing.assert_close(value, parameters[name].grad, rtol=1e-8, atol=1e-12)


def test_the_probe_is_fitted_on_the_features_of_the_source(step):
    loss = step.probe_loss
    batch = step.surrogate.loss(loss, 0)
    values, labels = batch.features[0](step.model), batch.labels
    with torch.no_grad():
        of_source = loss(values, labels)
        shuffled = loss(values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))], labels)
    assert of_source < 0.2 < 1 < shuffled
    assert len(labels) == 20
    assert cross_entropy(torch.zeros(1, 10), torch.tensor([0])) > of_source


def test_without_weight_it_is_fine_tuning_bit_for_bit(hub, tmp_path):
    hub("vit")
    target, surrogate = target_file(tmp_path, "classification"), surrogate_file(tmp_path)
    weights = [
        load_file(run(tmp_path / name, name, "hf:small/vit", target, surrogate, *settings).weights)
        for name, settings in (("replay", ("stage2.replay=0",)), ("finetune", ()))
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.long
def test_it_holds_more_of_the_source_than_fine_tuning(tmp_path):
    settings = (
        "stage2.epochs=3",
        "stage2.learning_rate=1e-3",
        "stage2.warmup_epochs=0",
        "stage1.surrogate_samples=300",
    )
    ends = {}
    for method in ("finetune", "replay"):
        request = TrainRequest(
            method, "vit-fashion", TargetRequest("digits"), settings, samples=SampleRequest(limit=120)
        )
        done = train(request, tmp_path / method)
        ends[method] = load_file(done.weights)
    lines = [json.loads(line) for line in (tmp_path / "replay" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["replay"]) for line in lines)
    losses = {}
    measured = replay(settings[3], limit=120)
    for method, state in ends.items():
        measured.model.load_state_dict(state)
        measured.model.eval()
        with torch.no_grad():
            batches = [measured.surrogate.loss(measured.probe_loss, step) for step in range(4)]
            values = [measured.probe_loss(batch.features[0](measured.model), batch.labels) for batch in batches]
            losses[method] = np.mean([float(value) for value in values])
    assert losses["replay"] < 0.8 * losses["finetune"]


def test_an_update_has_both_batches(step):
    """The plan of an epoch is that of fine-tuning."""
    plain = Objective(step.training, get_method("replay").stages[0], 0)
    for ours, theirs in zip(step.plan_epoch(1), plain.plan_epoch(1), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_missing_surrogate_is_noticed_before_the_training(tmp_path):
    request = TrainRequest(
        "replay",
        "vit-fashion",
        TargetRequest("digits"),
        ("stage1.surrogate=conll2003",),
        samples=SampleRequest(limit=60),
    )
    with pytest.raises(InputError, match="conll2003, the surrogate of stage 1"):
        train(request, tmp_path / "run")
    assert not (tmp_path / "run").exists() or not (tmp_path / "run" / "run.json").exists()


def test_its_settings_are_listed_and_accepted():
    shown = run_in_process("methods", "replay").stdout
    for name in ("stage2.replay", "stage1.surrogate", "stage1.surrogate_samples"):
        assert name in shown
    assert "stage1.alpha" not in shown
    overrides = ("stage1.surrogate=x", "stage1.alpha=1", "stage2.replay=2")
    assert find_unused_settings(overrides, get_method("replay")) == ["stage1.alpha"]
    assert find_unused_settings(overrides, get_method("finetune")) == [
        "stage1.surrogate",
        "stage1.alpha",
        "stage2.replay",
    ]


@pytest.mark.parametrize("method", ["replay", "mona"])
def test_a_run_is_not_resumed_with_a_changed_surrogate(hub, tmp_path, method):
    hub("vit")
    target, surrogate = target_file(tmp_path, "classification"), surrogate_file(tmp_path)
    done = run(tmp_path / "run", method, "hf:small/vit", target, surrogate)
    record = json.loads((done.folder / "run.json").read_text())
    assert record["provenance"]["surrogate"]["samples"] > 10
    assert {"python", "system", "device", "gpu", "threads"} == record["environment"].keys()
    # The environment may differ.
    record["environment"]["python"] = "2.7"
    write_record(done.folder, record)
    record = read_json(done.folder / "run.json")
    assert run(tmp_path / "run", method, "hf:small/vit", target, surrogate, resume=True).finished
    with np.load(surrogate) as file:
        np.savez(surrogate, x=file["x"] + 1, y=file["y"])
    with pytest.raises(UsageError, match=r"has other settings: provenance\.surrogate\.data\.files"):
        run(tmp_path / "run", method, "hf:small/vit", target, surrogate, resume=True)
    assert read_json(done.folder / "run.json") == record


def test_methods_without_a_surrogate_record_none(hub, tmp_path):
    hub("vit")
    done = run(tmp_path / "run", "finetune", "hf:small/vit", target_file(tmp_path, "classification"), tmp_path / "none")
    assert done.record["provenance"]["surrogate"] is None
