import importlib

import numpy as np
import pytest

from modgap.discrepancy.assignment import assignment
from modgap.discrepancy.kernels.confusion import count_by_reading, count_by_walking
from modgap.discrepancy.montecarlo import summarize
from modgap.discrepancy.problem import Problem
from modgap.discrepancy.ranks import rank_samples
from modgap.discrepancy.trials import count_trials, random_map
from modgap.errors import UsageError
from tests import naive_search as naive

assignments = importlib.import_module("modgap.discrepancy.assignment")


def as_problem(logits, labels, n_classes):
    return Problem(logits, np.arange(len(labels)), labels, np.zeros(len(labels), np.int64), n_classes, 1)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sources", [12, 70])
def test_equals_all_permutations_of_the_drawn_subsets(sources, ties):
    logits, labels = naive.problem(np.random.default_rng(0), 80, sources, 4, 0.5, ties)
    problem = as_problem(logits, labels, 4)
    best = min(naive.best_permutation(logits, labels, random_map(problem, 7, m))[0] for m in range(20))
    solution = assignment(logits, labels, 4, subsets=20, seed=7)
    assert solution.value == pytest.approx(best)
    assert solution.value == pytest.approx(naive.value(logits, labels, solution.map))
    assert sorted(solution.map) == sorted(random_map(problem, 7, solution.best_subset))
    assert solution.subsets == 20


@pytest.mark.parametrize("depth", [1, 4, 30])
def test_kernels_agree_with_each_other_and_with_numpy(depth):
    rng = np.random.default_rng(1)
    logits, labels = naive.problem(rng, 100, 30, 5, ties=True)
    subsets = np.sort(np.stack([rng.permutation(30)[:5] for _ in range(8)]), axis=1)
    walked = np.empty((8, 5, 5), np.int32)
    read = np.empty((8, 5, 5), np.int32)
    rows = np.arange(100)
    positions = np.full(30, -1, np.int32)
    leading = rank_samples(logits, 5, depth=depth).leading
    weights = rng.integers(1, 5, 100)
    count_by_walking(logits, rows, leading, labels, weights, subsets, positions, walked)
    read[:] = 0
    count_by_reading(logits, rows, labels, weights, subsets, read)
    expected = np.zeros((8, 5, 5), np.int64)
    for m, subset in enumerate(subsets):
        np.add.at(expected[m], (labels, naive.predictions(logits, subset)), weights)
    np.testing.assert_array_equal(walked, expected)
    np.testing.assert_array_equal(read, expected)
    assert (positions == -1).all()


@pytest.mark.parametrize("number", range(5))
def test_never_worse_than_the_monte_carlo_winner(number):
    logits, labels = naive.problem(np.random.default_rng(number), 150, 40, 6, 0.3)
    problem = as_problem(logits, labels, 6)
    winner = summarize(problem, count_trials(problem, trials=5000, seed=number)[0], number)
    for subsets in (0, 10):
        solution = assignment(logits, labels, 6, subsets=subsets, extra=[winner.map], seed=number)
        assert solution.value <= winner.value + 1e-12


@pytest.mark.parametrize("shape", [(200, 60, 20), (200, 60, 3)])
def test_same_for_any_number_of_threads(shape):
    logits, labels = naive.problem(np.random.default_rng(3), *shape, 0.3)
    results = [repr(assignment(logits, labels, shape[2], subsets=90, threads=t)) for t in (1, 2, 4)]
    assert len(set(results)) == 1


def test_as_many_target_as_source_classes():
    logits, labels = naive.problem(np.random.default_rng(4), 60, 5, 5, 0.5)
    solution = assignment(logits, labels, 5, subsets=3)
    assert solution.value == pytest.approx(naive.optimum(logits, labels, 5)[0])
    assert solution.best_subset == 0


def test_half_of_the_samples():
    logits, labels = naive.problem(np.random.default_rng(5), 100, 30, 4, 0.5)
    half = np.arange(1, 100, 2)
    taken = assignment(logits, labels[half], 4, subsets=30, ranking=rank_samples(logits, 4).take(half))
    assert taken == assignment(np.ascontiguousarray(logits[half]), labels[half], 4, subsets=30)


def test_bad_subsets_raise():
    logits, labels = naive.problem(np.random.default_rng(6), 20, 9, 3)
    with pytest.raises(UsageError, match="at least one random or extra subset"):
        assignment(logits, labels, 3, subsets=0)
    for subset in ([0, 1], [0, 1, 1], [0, 1, 9]):
        with pytest.raises(UsageError, match="3 different source classes"):
            assignment(logits, labels, 3, extra=[subset])
    with pytest.raises(UsageError, match="one label for each sample"):
        assignment(logits, labels[1:], 3)


@pytest.mark.parametrize(
    "sizes", [pytest.param((1, 1), marks=pytest.mark.long), (500, 1), (1, 1 << 26), (1 << 23, 1 << 26)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_of_the_samples_and_of_the_subsets_change_nothing(monkeypatch, sizes, weighted):
    rng = np.random.default_rng(2)
    logits, labels = naive.problem(rng, 300, 60, 8, ties=True)
    weights = rng.integers(1, 4, 300) if weighted else None
    deep = rank_samples(logits, 8, depth=60)
    expected = assignment(logits, labels, 8, subsets=50, seed=3, ranking=deep, weights=weights)
    monkeypatch.setattr(assignments, "RANKED_BYTES", sizes[0])
    monkeypatch.setattr(assignments, "COUNT_BYTES", sizes[1])
    for threads in (1, 2):
        assert assignment(logits, labels, 8, subsets=50, seed=3, threads=threads, weights=weights) == expected
