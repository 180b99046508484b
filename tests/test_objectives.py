"""Objectives on features: against plain loops over pairs, twice differentiable, and on batches without pairs."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import davies_bouldin_score

from modgap.errors import InputError
from modgap.training import surrogate_loss
from modgap.training.methods.mona import OUTER_LOSSES, alignment, alignment_uniformity, outer_loss, uniformity
from modgap.training.recipe import EmbedderStage
from modgap.training.surrogate_loss import davies_bouldin, supervised_contrastive

LABELS = {
    "several": [0, 2, 0, 1, 2, 2, 0, 1],
    "a class with one sample": [5, 5, 5, 7, 9, 9, 9, 9],
    "all alone": [3, 1, 4, 15, 9, 2, 6, 5],
    "one class": [1] * 8,
}


def features(n=8, d=4, seed=0):
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(z, dim=1)


def square(z, i, j):
    return sum((a - b) ** 2 for a, b in zip(z[i], z[j], strict=True))


def pairs_of(labels, same):
    return [(i, j) for i, j in itertools.combinations(range(len(labels)), 2) if (labels[i] == labels[j]) in same]


def naive_alignment(z, labels):
    found = [square(z, i, j) for i, j in pairs_of(labels, (True,))]
    return sum(found) / len(found) if found else 0.0


def naive_uniformity(z, labels, all_pairs=False):
    found = [math.exp(-2 * square(z, i, j)) for i, j in pairs_of(labels, (True, False) if all_pairs else (False,))]
    return math.log(sum(found) / len(found)) if found else 0.0


def naive_contrastive(z, labels, temperature):
    terms = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        total = sum(math.exp(np.dot(z[i], z[a]) / temperature) for a in others)
        logs = [math.log(math.exp(np.dot(z[i], z[p]) / temperature) / total) for p in positives]
        terms += [-sum(logs) / len(logs)] if logs else []
    return sum(terms) / len(terms) if terms else 0.0


def naive_davies_bouldin(z, labels):
    classes = sorted(set(labels))
    of = {c: np.array([row for row, label in zip(z, labels, strict=True) if label == c]) for c in classes}
    center = {c: rows.mean(axis=0) for c, rows in of.items()}
    spread = {c: np.mean([np.linalg.norm(row - center[c]) for row in rows]) for c, rows in of.items()}
    worst = [
        max((spread[a] + spread[b]) / np.linalg.norm(center[a] - center[b]) for b in classes if b != a)
        for a in classes
        if len(classes) > 1
    ]
    return float(np.mean(worst)) if worst else 0.0


TWINS = {
    "alignment": (alignment, naive_alignment),
    "uniformity": (uniformity, naive_uniformity),
    "uniformity of all pairs": (
        lambda z, labels: uniformity(z, labels, all_pairs=True),
        lambda z, labels: naive_uniformity(z, labels, all_pairs=True),
    ),
    "alignment-uniformity": (
        alignment_uniformity,
        lambda z, labels: naive_alignment(z, labels) + naive_uniformity(z, labels),
    ),
    "supervised contrastive": (supervised_contrastive, lambda z, labels: naive_contrastive(z, labels, 0.1)),
    "Davies-Bouldin": (davies_bouldin, naive_davies_bouldin),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", TWINS)
def test_values_are_those_of_plain_loops(name, kind):
    fast, naive = TWINS[name]
    z, labels = features(), LABELS[kind]
    assert fast(z, torch.tensor(labels)).item() == pytest.approx(naive(z.numpy(), labels), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", TWINS)
def test_derivatives_of_both_orders(name, kind):
    z = features(8, 3).requires_grad_()
    labels = torch.tensor(LABELS[kind])
    assert torch.autograd.gradcheck(lambda z: TWINS[name][0](z, labels), z)
    assert torch.autograd.gradgradcheck(lambda z: TWINS[name][0](z, labels), z)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", TWINS)
def test_features_that_have_fallen_together_have_finite_derivatives(name, kind):
    """Also class by class: the distances whose root is taken are then 0."""
    labels = torch.tensor(LABELS[kind])
    by_class = torch.nn.functional.normalize(features(16)[labels].float(), dim=1)
    for z in (torch.ones(8, 4) / 2, by_class):
        z.requires_grad_()
        (slope,) = torch.autograd.grad(TWINS[name][0](z, labels), z, create_graph=True)
        (curve,) = torch.autograd.grad((slope * features().float()).sum(), z)
        assert torch.isfinite(slope).all()
        assert torch.isfinite(curve).all()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("alignment", "all alone"),
        ("uniformity", "one class"),
        ("supervised contrastive", "all alone"),
        ("Davies-Bouldin", "one class"),
    ],
)
def test_a_batch_without_pairs_gives_zero_and_no_gradient(name, kind):
    z = features().requires_grad_()
    value = TWINS[name][0](z, torch.tensor(LABELS[kind]))
    value.backward()
    assert value == 0
    assert (z.grad == 0).all()


@pytest.mark.parametrize("name", TWINS)
def test_a_batch_of_one(name):
    z = features(1).requires_grad_()
    value = TWINS[name][0](z, torch.tensor([3]))
    value.backward()
    assert value == 0
    assert (z.grad == 0).all()


def test_davies_bouldin_is_scikit_learns():
    z, labels = features(60, 5), torch.arange(60) % 7
    assert davies_bouldin(z, labels).item() == pytest.approx(davies_bouldin_score(z, labels), rel=1e-12)


def test_alignment_of_nearly_equal_features_is_exact_in_single_precision():
    z = torch.nn.functional.normalize(torch.ones(50, 8) + 1e-3 * features(50, 8).float(), dim=1)
    labels = torch.zeros(50, dtype=torch.long)
    expected = naive_alignment(z.double().numpy(), labels.tolist())
    assert alignment(z, labels).item() == pytest.approx(expected, rel=1e-4)


def test_contrastive_at_a_low_temperature_does_not_overflow(monkeypatch):
    monkeypatch.setattr(surrogate_loss, "TEMPERATURE", 1e-3)
    z = features(8).float().requires_grad_()
    value = supervised_contrastive(z, torch.tensor(LABELS["several"]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("name", TWINS)
def test_half_precision_and_autocast_are_summed_in_single(name):
    z, labels = features().float(), torch.tensor(LABELS["several"])
    with torch.autocast("cpu", torch.bfloat16):
        found = TWINS[name][0](z, labels)
    assert found == TWINS[name][0](z, labels)
    assert TWINS[name][0](z.bfloat16(), labels) == TWINS[name][0](z.bfloat16().float(), labels)


def test_separated_classes_are_better_by_all():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    noise = 0.1 * features()
    apart = torch.nn.functional.normalize(noise + torch.eye(2, 4, dtype=torch.float64)[labels], dim=1)
    for loss in OUTER_LOSSES.values():
        assert loss(apart, labels) < loss(features(), labels)


def test_the_settings_choose_the_outer_loss():
    z, labels = features(), torch.tensor(LABELS["several"])
    found = outer_loss(EmbedderStage(uniform_pairs="all"))(z, labels)
    assert found == alignment(z, labels) + uniformity(z, labels, all_pairs=True)
    contrastive = outer_loss(EmbedderStage(objective="supervised-contrastive"))
    assert contrastive(z, labels) == supervised_contrastive(z, labels)


@pytest.mark.parametrize("name", TWINS)
def test_wrong_input(name):
    for labels in (torch.tensor([0, 1]), torch.ones(8)):
        with pytest.raises(InputError, match="n integer labels"):
            TWINS[name][0](features(), labels)
