"""Bootstrap intervals: against a plain bootstrap, with groups, and on degenerate samples."""

import numpy as np
import pytest
from scipy import stats

from modgap.errors import InputError
from modgap.statistics.bootstrap import bootstrap_interval, unit_numbers


def grouped_errors(groups=30, size=10):
    """Errors whose rate differs between groups."""
    rng = np.random.default_rng(0)
    return rng.random(groups * size) < np.repeat(rng.random(groups), size), np.repeat(np.arange(groups), size)


def mean_interval(values, groups=None, **options):
    return bootstrap_interval(lambda weights: np.average(values, weights=weights), len(values), groups, **options)


def test_it_agrees_with_a_plain_bootstrap_of_groups():
    wrong, groups = grouped_errors()
    rng = np.random.default_rng(1)
    means = [np.mean([wrong[groups == group] for group in rng.integers(30, size=30)]) for _ in range(4000)]
    found = mean_interval(wrong, groups, resamples=4000)
    np.testing.assert_allclose(found, np.quantile(means, [0.025, 0.975]), atol=0.01)


def test_an_interval_over_groups_is_wider_than_one_over_independent_samples():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(40), 10)
    wrong = rng.integers(0, 2, 40)[groups]
    low, high = mean_interval(wrong, groups)
    narrow = stats.binomtest(int(wrong.sum()), 400).proportion_ci(method="wilson")
    assert high - low > 2 * (narrow.high - narrow.low)
    alone = mean_interval(wrong)
    assert alone[1] - alone[0] < 0.7 * (high - low)


def test_intervals_depend_on_the_seed_alone():
    values = np.random.default_rng(0).normal(size=50)
    first = mean_interval(values, resamples=500)
    assert mean_interval(values, resamples=500) == first
    assert mean_interval(values, resamples=500, seed=1) != first


def test_fewer_than_two_groups_have_no_interval():
    assert np.isnan(bootstrap_interval(np.mean, 2, [0, 0])).all()
    assert np.isnan(bootstrap_interval(np.mean, 0)).all()


def test_resamples_without_a_value_are_left_out():
    assert np.isnan(bootstrap_interval(lambda weights: np.nan, 3)).all()
    low, high = bootstrap_interval(lambda weights: weights[0] or np.nan, 3)
    assert 1 <= low <= high <= 3


def test_groups_are_numbered_by_value_and_must_match_the_samples():
    assert unit_numbers(["b", "a", "b"], 3).tolist() == [1, 0, 1]
    assert unit_numbers(None, 3).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"shape \(2,\), but there are 3 samples"):
        unit_numbers([0, 1], 3)
