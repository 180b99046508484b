"""Batches of an update: together or in parts, halved when the memory does not suffice, and in reduced precision."""

import functools
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modgap.errors import InputError
from modgap.forward.sample_request import SampleRequest
from modgap.models import TargetModel
from modgap.sources import open_source
from modgap.targets import TargetRequest
from modgap.training import loop, placement, surrogate_loss
from modgap.training.method import Objective
from modgap.training.methods.mona import alignment_uniformity, mona_gradient
from modgap.training.methods.orca import AlignmentObjective
from modgap.training.placement import BatchSizes, fitting_batch, merges_batches
from modgap.training.recipe import EmbedderStage, Recipe
from modgap.training.surrogate_loss import OuterLoss
from modgap.training.task_loss import MicroBatch
from modgap.training.train import train
from modgap.training.train_request import TrainRequest
from tests.training import Problem, surrogate_file, target_file


def test_sizes_halve_together_down_to_one():
    stage = Recipe.model_validate({"stage2": {"batch_size": 4, "gradient_accumulation": 4}}).stage2
    apart = BatchSizes(stage, 24, merged=False)
    assert (apart.target, apart.surrogate) == (4, None)
    merged = BatchSizes(stage, 24, merged=True)
    found = []
    while merged.can_halve:
        merged.halve()
        found.append((merged.target, merged.surrogate))
    assert found == [(8, 12), (4, 6), (2, 3), (1, 1)]


def test_sizes_stay_below_what_fits_into_the_memory():
    stage = Recipe.model_validate({"stage2": {"batch_size": 6, "gradient_accumulation": 4}}).stage2
    assert [BatchSizes(stage, 24, True, fitting).target for fitting in ((), (32,), (8,))] == [24, 24, 8]
    assert BatchSizes(stage, 24, True, (32, 32)).surrogate is None
    apart = BatchSizes(stage, 24, False, (4, 16))
    assert (apart.target, apart.surrogate) == (4, 16)
    apart.halve()
    assert (apart.target, apart.surrogate) == (2, 8)


@pytest.mark.parametrize(("images", "expected"), [(1, 16), (1.01, 8), (2, 8), (16, 1), (1000, 1)])
def test_as_many_samples_fit_as_their_activations(monkeypatch, images, expected):
    """A layer keeps its input and a ReLU its output, and the weights do not count."""
    model = nn.Sequential(nn.Linear(100, 30), nn.ReLU(), nn.Linear(30, 500))
    kept = 4 * (100 + 30)
    monkeypatch.setattr(placement, "ACTIVATION_BYTES", int(16 * kept / images))
    state = torch.get_rng_state()
    assert fitting_batch(model, functools.partial(model, torch.ones(1, 100))) == expected
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("setting", "device", "norm", "trains_all", "expected"),
    [
        (None, "cuda", False, True, True),
        (None, "cuda", True, True, False),
        (None, "cuda", True, False, True),
        (None, "cpu", False, True, False),
        (True, "cpu", True, True, True),
        (False, "cuda", False, True, False),
    ],
)
def test_batches_are_merged_on_a_gpu_without_batch_normalization(setting, device, norm, trains_all, expected):
    model = nn.Sequential(nn.BatchNorm2d(3)) if norm else nn.Sequential(nn.Linear(2, 2))
    recipe = Recipe(merge_batches=setting)
    assert merges_batches(recipe, model, torch.device(device), trains_all) is expected


def run(folder, name: str, method: str, *settings: str):
    target, surrogate = folder / "target.npz", folder / "surrogate.npz"
    if not target.exists():
        target_file(folder, "classification", samples=60).rename(target)
        surrogate_file(folder).rename(surrogate)
    overrides = (
        f"stage1.surrogate={surrogate}", "stage1.surrogate_batch=24", "stage1.batch_size=4", "stage2.batch_size=4",
        "stage1.epochs=1", "stage2.epochs=1", "stage1.gradient_accumulation=3", "stage2.gradient_accumulation=3",
        "stage1.learning_rate=1e-3", "stage2.learning_rate=1e-3", "stage2.warmup_epochs=0", "dropout=0", *settings,
    )  # fmt: skip
    request = TrainRequest(
        method, "random:timm:test_vit", TargetRequest(str(target)), overrides, samples=SampleRequest(input_size=32)
    )
    return train(request, folder / name)


def assert_close(one, other) -> None:
    weights = [load_file(done.weights) for done in (one, other)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["mona", pytest.param("finetune", marks=pytest.mark.long)])
def test_merged_batches_change_a_run_only_by_rounding(tmp_path, method):
    apart = run(tmp_path, "apart", method, "precision=float64")
    merged = run(tmp_path, "merged", method, "precision=float64", "merge_batches=true")
    assert_close(apart, merged)
    assert apart.record["result"]["updates"] == merged.record["result"]["updates"]


@pytest.mark.parametrize("method", ["mona", pytest.param("replay", marks=pytest.mark.long)])
def test_surrogate_batch_that_does_not_fit_is_halved(tmp_path, method, monkeypatch, caplog):
    whole = run(tmp_path, "whole", method, "precision=float64", "stage1.route=exact")
    compute = surrogate_loss.encoder_features
    seen = []

    def little_memory(parts, encoder, batch):
        seen.append(len(batch.inputs))
        if encoder is not parts.encoder and torch.is_grad_enabled() and len(batch.inputs) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(parts, encoder, batch)

    monkeypatch.setattr(surrogate_loss, "encoder_features", little_memory)
    halved = run(tmp_path, "halved", method, "precision=float64", "stage1.route=exact")
    assert "The memory does not suffice. Continuing with batches of 1 samples." in caplog.text
    assert max(seen) == 21
    assert 6 in seen
    assert_close(whole, halved)


def little_memory_for_the_target(monkeypatch, largest):
    """Let the gradient of parts with more target samples fail, and return the sizes of all parts that were tried."""
    compute, sizes = Objective.gradient, []

    def gradient(step, parts, rows, *arguments):
        sizes.append([len(part.x) for part in parts])
        if max(sizes[-1]) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(step, parts, rows, *arguments)

    monkeypatch.setattr(Objective, "gradient", gradient)
    return sizes


@pytest.mark.parametrize("merge", ["false", "true"])
def test_batches_are_halved_once_for_all_updates_of_an_epoch(tmp_path, monkeypatch, caplog, merge):
    """Also the batches that were read ahead in the former size."""
    settings = ("precision=float64", f"merge_batches={merge}", "stage2.batch_size=8", "stage2.gradient_accumulation=1")
    whole = run(tmp_path, "whole", "finetune", *settings)
    sizes = little_memory_for_the_target(monkeypatch, 4)
    halved = run(tmp_path, "halved", "finetune", *settings)
    assert caplog.text.count("The memory does not suffice") == 1
    assert sizes[0] == [8]
    assert all(max(parts) <= 4 for parts in sizes[1:])
    assert len(sizes) == 1 + whole.record["result"]["updates"] > 4
    assert_close(whole, halved)


@pytest.mark.parametrize("method", ["mona", "finetune"])
def test_batches_that_would_not_fit_on_a_cpu_are_divided_before(tmp_path, monkeypatch, caplog, method):
    settings = ("precision=float64", "stage1.batch_size=8", "stage2.batch_size=8")
    whole = run(tmp_path, "whole", method, *settings)
    monkeypatch.setattr(loop, "fitting_batch", lambda _model, pass_one: 2 if pass_one() is not None else 0)
    sizes = little_memory_for_the_target(monkeypatch, 2)
    assert_close(whole, run(tmp_path, "divided", method, *settings))
    assert all(max(parts) == 2 for parts in sizes)
    assert "The memory does not suffice" not in caplog.text


def test_the_memory_of_a_sample_is_that_of_its_pass_in_the_stage(tmp_path, monkeypatch):
    """The exact route keeps the graph of the gradient, and the surrogate has a pass of its own."""
    compute, sizes = loop.fitting_batch, []
    monkeypatch.setattr(loop, "fitting_batch", lambda *arguments: sizes.append(compute(*arguments)) or sizes[-1])
    run(tmp_path, "exact", "mona", "stage1.route=exact", "stage2.epochs=0")
    run(tmp_path, "differences", "mona", "stage1.route=finite-difference", "stage2.epochs=0")
    exact, surrogate, differences, again = sizes
    assert exact <= differences / 2
    assert surrogate == again


@pytest.mark.parametrize("method", ["mona", "replay"])
def test_surrogate_batches_that_would_not_fit_on_a_cpu_are_divided_before(tmp_path, monkeypatch, method):
    whole = run(tmp_path, "whole", method, "precision=float64")
    compute, sizes = surrogate_loss.encoder_features, []
    monkeypatch.setattr(loop, "fitting_batch", lambda _model, _pass_one: 4)

    def features(parts, encoder, batch):
        if encoder is not parts.encoder:
            sizes.append(len(batch.inputs))
        return compute(parts, encoder, batch)

    monkeypatch.setattr(surrogate_loss, "encoder_features", features)
    assert_close(whole, run(tmp_path, "divided", method, "precision=float64"))
    assert max(sizes) == 4


def test_a_pass_that_fails_is_told_by_the_update(tmp_path, monkeypatch):
    def broken(*_arguments):
        raise RuntimeError("a layer is broken")

    monkeypatch.setattr(TargetModel, "forward", broken)
    with pytest.raises(InputError, match=r"update 1 of epoch 1 of stage2 failed: a layer is broken"):
        run(tmp_path, "run", "finetune")


def test_alignment_that_does_not_fit_ends_at_once(tmp_path, monkeypatch, caplog):
    """Smaller batches do not change it."""

    def gradient(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(AlignmentObjective, "gradient", gradient)
    with pytest.raises(InputError, match=r"update 1 of epoch 1 of stage1 failed: CUDA out of memory"):
        run(tmp_path, "run", "orca")
    assert "The memory does not suffice" not in caplog.text


def test_outer_loss_of_parts_equals_that_of_the_whole():
    problem = Problem(open_source("random:timm:test_vit").load(32), (3, 32, 32), pairs=10)
    x = torch.randn(10, 3, 32, 32, dtype=torch.float64)
    labels = torch.arange(10) % 3

    def features_of(first, last):
        return lambda model: model.encode(model.embed(x[first:last])).mean(1)

    bounds = [(0, 10)], [(0, 4), (4, 8), (8, 10)]
    found = []
    for spans in bounds:
        outer = OuterLoss([features_of(*span) for span in spans], labels, alignment_uniformity)
        found.append(outer.gradient(problem.model, problem.parameters, problem.inner))
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-12)
    for name, value in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], value, rtol=1e-9, atol=1e-12)


def test_exact_route_in_bfloat16_is_near_double_precision():
    problem = Problem(open_source("random:timm:test_vit").load(32), (3, 32, 32))
    tokens = problem.model.embed(problem.task.micro_batches[0].x).detach().float()
    tokens = torch.cat([tokens, tokens.flip(0)])[: len(problem.labels)]
    problem.outer = OuterLoss(
        [lambda model: model.encode(tokens.double()).mean(1)], problem.labels, alignment_uniformity
    )
    settings = EmbedderStage(alpha=0.01, weight=0.4, route="exact")

    def gradient(task):
        found = mona_gradient(task, problem.outer, problem.embedder, settings)
        return torch.cat([value.reshape(-1).double() for value in found.gradient.values()]), found

    exact, reference = gradient(problem.task)
    part = problem.task.micro_batches[0]
    problem.model.float()
    problem.parameters = dict(problem.model.named_parameters())
    problem.outer = OuterLoss([lambda model: model.encode(tokens).mean(1)], problem.labels, alignment_uniformity)
    batch = MicroBatch(part.x.float(), part.y)
    reduced, found = gradient(replace(problem.task, micro_batches=(batch,), autocast=torch.bfloat16))
    assert float((reduced - exact).norm() / exact.norm()) < 0.05
    assert found.scalars["mixed_share"] == pytest.approx(reference.scalars["mixed_share"], rel=0.05)
    assert not torch.equal(reduced, exact)


def test_reduced_precision_takes_the_exact_route(tmp_path):
    done = run(tmp_path, "run", "mona", "precision=bfloat16")
    assert json.loads((done.folder / "run.json").read_text())["recipe"]["stage1"]["route"] == "exact"


def test_each_stage_says_that_it_begins(tmp_path, caplog):
    caplog.set_level("INFO", logger="modgap")
    run(tmp_path, "run", "mona")
    assert "stage1 begins: 1 epoch, " in caplog.text
    assert "stage2 begins: 1 epoch, " in caplog.text
