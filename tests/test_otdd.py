"""Optimal transport dataset distance: against POT's own solvers, gradients against finite differences."""

import sys

import numpy as np
import pytest
import torch

from modgap.errors import InputError, UsageError
from modgap.training.methods import orca
from modgap.training.methods.orca import class_distance, prepare_source

ot = pytest.importorskip("ot")


def clouds(n=12, d=3, classes=3, seed=0, away=0.0):
    """Features around a center of each class, and labels."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centers = torch.randn(classes, d, generator=random, dtype=torch.float64)
    return away + centers[labels] + 0.5 * torch.randn(n, d, generator=random, dtype=torch.float64), labels


def squares(x, y):
    return np.array([[((a - b) ** 2).sum() for b in y] for a in x])


def naive_ot(cost, regularization):
    n, m = cost.shape
    plan = ot.sinkhorn(
        np.full(n, 1 / n), np.full(m, 1 / m), cost, regularization, stopThr=1e-11, numItermax=20_000, warn=False
    )
    return (plan * cost).sum() + regularization * (plan * np.log(plan * n * m)).sum()


def naive_labeled(x, x_labels, y, y_labels, regularization):
    """OT of two labeled sets, point by point and class by class."""

    def between(a, b):
        one, other = x[x_labels == a], y[y_labels == b]
        return ot.emd2(np.full(len(one), 1 / len(one)), np.full(len(other), 1 / len(other)), squares(one, other))

    labels = np.array([[between(a, b) for b in y_labels] for a in x_labels])
    return naive_ot((squares(x, y) + labels) / 2, regularization)


def naive_distance(target, features, labels, regularization=0.1):
    target, features, labels = (values.numpy() for values in (target, features, labels))
    one = np.zeros(len(target), int)
    value = naive_labeled(target, one, features, labels, regularization)
    self_distance = naive_labeled(target, one, target, one, regularization)
    return value - self_distance / 2


def half_to_itself(features, labels):
    """Half of OT of a source and itself: the distance of a set that equals the source."""
    features, labels = features.numpy(), labels.numpy()
    return naive_labeled(features, labels, features, labels, 0.1) / 2


@pytest.mark.parametrize("regularization", [0.1, 1.0])
def test_the_value_is_that_of_pots_own_solvers(monkeypatch, regularization):
    monkeypatch.setattr(orca, "REGULARIZATION", regularization)
    features, labels = clouds()
    target, _ = clouds(7, classes=1, seed=1, away=0.5)
    source = prepare_source(features, 10 + 5 * labels)
    expected = naive_distance(target, features, labels, regularization)
    assert class_distance(target, source).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("regularization", [0.1, 1.0])
def test_the_gradient_is_that_of_finite_differences(monkeypatch, regularization):
    monkeypatch.setattr(orca, "REGULARIZATION", regularization)
    source = prepare_source(*clouds())
    target, _ = clouds(5, classes=1, seed=1, away=0.5)
    target.requires_grad_()
    class_distance(target, source).backward()
    step = 1e-5
    for index in np.ndindex(*target.shape):
        moved = [target.detach().clone() for _ in range(2)]
        moved[0][index] += step
        moved[1][index] -= step
        slope = (class_distance(moved[0], source) - class_distance(moved[1], source)) / (2 * step)
        assert target.grad[index].item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-7)


def test_a_set_is_nearest_to_itself():
    features, labels = clouds(8, classes=1)
    source, least = prepare_source(features, labels), half_to_itself(features, labels)
    assert class_distance(features, source).item() == pytest.approx(least, abs=1e-8)
    assert class_distance(features + 0.1, source).item() > least + 0.01


def test_descent_brings_a_class_to_the_source():
    features, labels = clouds(classes=1)
    source, least = prepare_source(features, labels), half_to_itself(features, labels)
    target = clouds(6, classes=1, seed=1, away=3.0)[0].float().requires_grad_()
    optimizer = torch.optim.Adam([target], lr=0.3)
    distances = []
    for _ in range(40):
        optimizer.zero_grad()
        distances.append(class_distance(target, source))
        distances[-1].backward()
        optimizer.step()
    assert distances[0].dtype == torch.float32
    assert distances[-1] - least < 0.05 * (distances[0] - least)


def test_far_features_do_not_overflow():
    source = prepare_source(*clouds())
    target = (1000 * clouds(4, classes=1, seed=1)[0]).requires_grad_()
    value = class_distance(target, source)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(target.grad).all()


def test_a_class_with_one_sample():
    features, labels = clouds()
    target = clouds(1, classes=1, seed=1)[0]
    assert class_distance(target, prepare_source(features, labels)).item() == pytest.approx(
        naive_distance(target, features, labels), rel=1e-7
    )


def test_the_source_is_a_constant():
    features, labels = clouds()
    source = prepare_source(features.requires_grad_(), labels)
    assert not source[0].requires_grad
    assert not class_distance(clouds(3, classes=1)[0], source).requires_grad


def test_wrong_requests():
    features, labels = clouds()
    source = prepare_source(features, labels)
    with pytest.raises(InputError, match="Expected 12 integer labels"):
        prepare_source(features, labels[:3])
    with pytest.raises(InputError, match="has 2 features per sample"):
        class_distance(features[:, :2], source)
    with pytest.raises(InputError, match="at least one sample"):
        class_distance(features[:0], source)
    with pytest.raises(InputError, match="finite features"):
        class_distance(features * torch.nan, source)


def test_without_pot_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(UsageError, match=r"pip install 'modgap\[ot\]'"):
        prepare_source(*clouds())
