import itertools

import numpy as np
import pytest

from modgap.discrepancy.bounds import ClassBlock, lower_bound, upper_bound
from modgap.discrepancy.kernels.class_groups import best_partition
from modgap.discrepancy.ranks import rank_samples
from modgap.discrepancy.search import search
from tests import naive_search as naive

SHAPES = [(60, 8, 3), (50, 7, 4), (60, 8, 5), (40, 6, 6), (30, 9, 2)]


def partitions(classes):
    """Yield all partitions of a tuple of classes into pairs and triples."""
    if not classes:
        yield []
    for size in (2, 3):
        for rest in itertools.combinations(classes[1:], size - 1):
            left = tuple(k for k in classes[1:] if k not in rest)
            yield from ([(classes[0], *rest), *others] for others in partitions(left))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("signal", [0.0, 0.6])
@pytest.mark.parametrize("shape", SHAPES)
def test_bounds_enclose_the_optimum(shape, signal, ties):
    for number in range(6):
        logits, labels = naive.problem(np.random.default_rng(number), *shape, signal, ties)
        optimum = search(logits, labels, shape[2])
        assert optimum.exact
        low = lower_bound(logits, labels, shape[2], threads=2)
        assert low.exact
        assert low.value <= optimum.value + 1e-12
        assert optimum.value <= search(logits, labels, shape[2], enumerable=0).value + 1e-12
        assert optimum.value <= upper_bound(logits, labels) + 1e-12


@pytest.mark.parametrize("number", range(3))
def test_groups_are_exact_and_the_partition_the_best(number):
    logits, labels = naive.problem(np.random.default_rng(number), 60, 6, 5, 0.4, ties=number == 1)
    most = {
        group: naive.group_optimum(logits, labels, group)
        for size in (2, 3)
        for group in itertools.combinations(range(5), size)
    }
    low = lower_bound(logits, labels, 5)
    assert low.matches == tuple(most[group] for group in low.groups)
    least = min(sum(most[group] for group in groups) for groups in partitions(tuple(range(5))))
    assert low.value == pytest.approx(1 - least / 60)


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 7])
def test_best_partition_equals_trying_all(classes):
    rng = np.random.default_rng(classes)
    for _ in range(20):
        pairs = rng.integers(1, 50, (classes, classes))
        triples = rng.integers(1, 80, (classes, classes, classes))
        sets = best_partition(pairs, triples)
        groups = [tuple(k for k in range(classes) if members >> k & 1) for members in sets]
        assert sorted(sum(groups, ())) == list(range(classes))

        def weight(groups, pairs=pairs, triples=triples):
            return sum(int(pairs[g] if len(g) == 2 else triples[g]) for g in groups)

        assert weight(groups) == min(weight(g) for g in partitions(tuple(range(classes))))


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.1, 1.0])
def test_bound_that_is_stopped_early_is_valid(seconds):
    logits, labels = naive.problem(np.random.default_rng(3), 300, 60, 6, 0.3)
    low = lower_bound(logits, labels, 6, seconds=seconds, threads=2)
    assert 0 <= low.value <= search(logits, labels, 6).value
    assert sorted(sum(low.groups, ())) == list(range(6))
    assert low.value == pytest.approx(1 - sum(low.matches) / 300)


def test_interrupted_triples_stay_between_their_bounds():
    logits, labels = naive.problem(np.random.default_rng(4), 45, 9, 3)
    block = ClassBlock(logits, labels, rank_samples(logits, 3), np.arange(3))
    assert block._count(1, np.inf)
    most = naive.group_optimum(logits, labels, (0, 1, 2))
    assert block.upper[0, 1, 2] >= most
    block._refine_triple((0, 1, 2), -np.inf)
    assert block.upper[0, 1, 2] >= most
    block._refine_triple((0, 1, 2), np.inf)
    assert block.lower[0, 1, 2] == block.upper[0, 1, 2] == most


def test_many_classes_are_divided_into_blocks():
    logits, labels = naive.problem(np.random.default_rng(5), 260, 30, 26, 0.5)
    low = lower_bound(logits, labels, 26, seconds=20, threads=2)
    assert sorted(sum(low.groups, ())) == list(range(26))
    assert max(len(group) for group in low.groups) <= 3
    assert low.value <= search(logits, labels, 26).value


def test_bound_is_trivial_if_tables_do_not_fit(monkeypatch):
    monkeypatch.setattr("modgap.discrepancy.bounds.MEMORY", 100)
    logits, labels = naive.problem(np.random.default_rng(6), 20, 9, 3)
    assert lower_bound(logits, labels, 3).value == 0
