"""ORCA's first stage: its schedule, its weights of the classes, its constant term, and its classes of label sets."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from modgap.targets import named_manifest
from modgap.training.loop import learning_rate_factor
from modgap.training.methods import get_method
from modgap.training.placement import Processes
from modgap.training.recipe import Recipe, resolve_recipe

ot = pytest.importorskip("ot")

from modgap.training.methods.orca import (  # noqa: E402
    AlignmentObjective,
    alignment_classes,
    class_distance,
    prepare_source,
)


def published_factor(epoch, drops=(20, 40, 60), base=0.2):
    """Return the factor of the published schedule, for epochs numbered from 0: a power of the base after each drop."""
    return base ** sum(epoch > drop for drop in drops)


def test_the_learning_rate_drops_as_published():
    manifest = named_manifest("ninapro")
    stage = resolve_recipe(manifest, get_method("orca").stage1_defaults(manifest)).stage1
    assert stage.drop_epochs == (21, 41, 61)
    # Stage 1 has one update an epoch, after which epoch + 1 epochs are complete.
    factors = [learning_rate_factor(stage, epoch + 1) for epoch in range(70)]
    np.testing.assert_allclose(factors, [published_factor(epoch) for epoch in range(70)])
    assert math.isclose(factors[59], 0.04)
    assert get_method("orca").embedder_start == "source"


class Embedder(torch.nn.Module):
    """A model whose embedder multiplies its tokens by one parameter."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def embed(self, x):
        return self.factor * x


class SmallAlignment(AlignmentObjective):
    """An alignment of the small model, with at most four samples of a class, that is prepared by hand."""

    def __init__(self, source, labels):
        recipe = Recipe.model_validate({"stage1": {"samples_per_class": 4}})
        self.training = SimpleNamespace(recipe=recipe, seed=0, processes=Processes())
        self.model, self.trained, self.number = Embedder().double(), ("factor",), 0
        self.source, self.rows, self.labels = source, np.arange(len(labels)), labels


def test_classes_weigh_as_much_as_they_have_samples_before_the_cap():
    rng = np.random.default_rng(1)
    source = prepare_source(torch.from_numpy(rng.standard_normal((12, 3))), torch.arange(12) % 2)
    labels = np.array([0] * 18 + [1] * 6)
    samples = torch.from_numpy(rng.standard_normal((24, 2, 3)))
    step = SmallAlignment(source, labels)
    (rows,) = step.plan_epoch(0)
    assert np.bincount(labels[rows]).tolist() == [4, 4]
    parts = [SimpleNamespace(x=samples[part]) for part in step.split(rows, 64)]
    found = step.gradient(parts, rows, 0)
    distances = [class_distance(part.x.mean(dim=1), source).item() for part in parts]
    assert found.loss == pytest.approx(0.75 * distances[0] + 0.25 * distances[1], rel=1e-6)


def test_label_sets_become_ten_clusters():
    rng = np.random.default_rng(2)
    centers = rng.random((10, 30)) < 0.3
    labels = centers[np.arange(200) % 10]
    table = SimpleNamespace(class_labels=labels.astype(np.int64), targets=None)
    data = SimpleNamespace(output=SimpleNamespace(task="multi-label"), table=table, train=np.arange(200))
    classes = alignment_classes(data)
    assert len(np.unique(classes)) == 10
    assert all(len(np.unique(classes[k::10])) == 1 for k in range(10))
