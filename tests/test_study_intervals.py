"""Intervals of the study's means over targets, against SciPy and by simulation."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from scipy import stats


@pytest.fixture
def intervals(import_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """Return the module of the intervals."""
    return import_benchmark("study.intervals")


def draw(seed: int, n_targets: int, n_seeds: int = 5) -> list[np.ndarray]:
    """Return values whose correlation within a target is .58 and whose expected value is 0."""
    rng = np.random.default_rng(seed)
    effects = np.sqrt(0.58) * rng.standard_normal((n_targets, 1))
    return list(effects + np.sqrt(0.42) * rng.standard_normal((n_targets, n_seeds)))


def test_the_interval_over_targets_is_that_of_a_t_test_of_their_means(intervals: ModuleType) -> None:
    values = draw(0, 7)
    expected = stats.ttest_1samp([one.mean() for one in values], 0).confidence_interval()
    assert intervals.interval_over_targets(values) == pytest.approx((expected.low, expected.high))
    assert intervals.interval_over_targets(values[:5]) is None


def test_the_interval_over_seeds_of_two_targets_is_that_of_the_welch_test(intervals: ModuleType) -> None:
    first, second = draw(1, 2)
    expected = stats.ttest_ind(first, -second, equal_var=False).confidence_interval()
    found = intervals.interval_over_seeds([first, second])
    assert found == pytest.approx((expected.low / 2, expected.high / 2))


def test_one_seed_gives_no_interval_and_no_variation_an_empty_one(intervals: ModuleType) -> None:
    assert intervals.interval_over_seeds([[1.0, 2.0], [1.0]]) is None
    assert intervals.interval_over_seeds([[1.0, 1.0], [2.0, 2.0]]) == (1.5, 1.5)


def test_pooled_pairs_miss_further_targets_and_means_of_targets_cover_them(intervals: ModuleType) -> None:
    pooled = []
    over_targets = []
    for seed in range(400):
        values = draw(seed, 6)
        for covered, interval in (
            (pooled, intervals.pooled_interval(values)),
            (over_targets, intervals.interval_over_targets(values)),
        ):
            covered.append(interval[0] <= 0 <= interval[1])
    assert np.mean(pooled) < 0.8
    assert np.mean(over_targets) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 400)
