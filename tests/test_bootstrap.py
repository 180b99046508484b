"""Bootstrap intervals: against a plain bootstrap, with groups and weights, and on degenerate samples."""

import numpy as np
import pytest
from scipy import stats

from modgap.errors import InputError
from modgap.statistics.bootstrap import bootstrap_interval, group_numbers, mean_interval


def grouped_errors(groups=30, size=10):
    """Errors whose rate differs between groups."""
    rng = np.random.default_rng(0)
    return rng.random(groups * size) < np.repeat(rng.random(groups), size), np.repeat(np.arange(groups), size)


def test_mean_interval_agrees_with_a_plain_bootstrap_of_groups():
    wrong, groups = grouped_errors()
    rng = np.random.default_rng(1)
    means = [np.mean([wrong[groups == group] for group in rng.integers(30, size=30)]) for _ in range(4000)]
    np.testing.assert_allclose(mean_interval(wrong, groups=groups), np.quantile(means, [0.025, 0.975]), atol=0.01)


def test_weighted_mean_interval_agrees_with_a_plain_bootstrap():
    rng = np.random.default_rng(0)
    values, weights, groups = rng.normal(size=200), rng.random(200), rng.integers(25, size=200)
    means = []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in rng.integers(25, size=25)])
        means.append(np.average(values[rows], weights=weights[rows]))
    found = mean_interval(values, weights, groups)
    np.testing.assert_allclose(found, np.quantile(means, [0.025, 0.975]), atol=0.03)


def test_both_functions_give_the_same_interval_of_a_mean():
    wrong, groups = grouped_errors()
    general = bootstrap_interval(lambda weights: np.average(wrong, weights=weights), 300, groups, resamples=4000)
    np.testing.assert_allclose(mean_interval(wrong, groups=groups), general, atol=0.01)


def test_an_interval_over_groups_is_wider_than_one_over_independent_samples():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(40), 10)
    wrong = rng.integers(0, 2, 40)[groups]
    low, high = mean_interval(wrong, groups=groups, resamples=2000)
    narrow = stats.binomtest(int(wrong.sum()), 400).proportion_ci(method="wilson")
    assert high - low > 2 * (narrow.high - narrow.low)
    alone = mean_interval(wrong)
    assert alone[1] - alone[0] < 0.7 * (high - low)


def test_intervals_depend_on_the_seed_alone(monkeypatch):
    values = np.random.default_rng(0).normal(size=50)
    first = mean_interval(values, resamples=500)
    monkeypatch.setattr("modgap.statistics.bootstrap.CHUNK_SIZE", 120)
    assert mean_interval(values, resamples=500) == pytest.approx(first, rel=1e-12)
    assert mean_interval(values, resamples=500, seed=1) != first


def test_fewer_than_two_groups_have_no_interval():
    assert np.isnan(mean_interval([True, False], groups=[0, 0])).all()
    assert np.isnan(bootstrap_interval(np.mean, 2, [0, 0])).all()
    assert np.isnan(bootstrap_interval(np.mean, 0)).all()


def test_resamples_without_weight_or_value_are_left_out():
    assert mean_interval([1.0, 5.0], [1.0, 0.0]) == (1.0, 1.0)
    assert np.isnan(mean_interval([1.0, 5.0], [0.0, 0.0])).all()
    low, high = bootstrap_interval(lambda weights: weights[0] or np.nan, 3)
    assert 1 <= low <= high <= 3


def test_groups_are_numbered_by_value_and_must_match_the_samples():
    assert group_numbers(["b", "a", "b"], 3).tolist() == [1, 0, 1]
    assert group_numbers(None, 3).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"shape \(2,\), but there are 3 samples"):
        group_numbers([0, 1], 3)
