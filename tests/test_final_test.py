"""The interval of a test result: its coverage where errors are rare, and where all are alike."""

from types import SimpleNamespace

import numpy as np
import pytest

from modgap.statistics.intervals import exact_interval, wilson_interval
from modgap.training.evaluation import evaluate_metric, metric_interval
from modgap.training.metrics import metric


@pytest.mark.parametrize(("groups", "n_units"), [(None, 40), (np.arange(80) // 4, 10)])
def test_result_without_an_error_has_an_exact_interval(groups, n_units):
    errors = metric("0-1 error %")
    errors.update(np.tile([[2.0, 1.0]], (40, 1)), np.zeros(40, np.int64))
    output = SimpleNamespace(task="classification", shape=(2,))
    data = SimpleNamespace(groups=groups, test=np.arange(40, 80), output=output)
    result = evaluate_metric(errors, data, 0)
    assert result["test"] == 0
    assert result["interval"] == [0, 100 * exact_interval(0, n_units)[1]]
    assert result["interval"][1] > 5


def test_error_without_a_bound_keeps_the_interval_of_the_bootstrap():
    errors = metric("RMSE")
    errors.update(np.ones((40, 1, 4)), np.zeros((40, 1, 4)))
    output = SimpleNamespace(task="regression", shape=(1, 4))
    data = SimpleNamespace(groups=None, test=np.arange(40, 80), output=output)
    assert evaluate_metric(errors, data, 0)["interval"] == [1, 1]


def zero_one_errors(is_wrong):
    errors = metric("0-1 error %")
    errors.update(np.tile([[2.0, 1.0]], (len(is_wrong), 1)), is_wrong.astype(np.int64))
    return errors


def test_one_error_is_not_more_certain_than_none():
    is_wrong = np.arange(64) == 0
    low, high = metric_interval(zero_one_errors(is_wrong), None, 0)
    assert high > metric_interval(zero_one_errors(is_wrong[1:]), None, 0)[1]
    assert (low / 100, high / 100) == pytest.approx(wilson_interval(1, 64), abs=0.004)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("rate", [0.02, 0.05, 0.5])
def test_intervals_cover_rare_errors_with_and_without_groups(size, rate):
    # The percentile bootstrap covers a rate of 2 % in 69 % of such data sets, and in 59 % with groups of four.
    rng, covered, groups = np.random.default_rng(0), 0, np.arange(64) // size
    for _ in range(300):
        of_groups = rng.beta(4 * rate, 4 * (1 - rate), 64) if size > 1 else np.full(64, rate)
        low, high = metric_interval(zero_one_errors(rng.random(64) < of_groups[groups]), groups, 0)
        covered += low <= 100 * rate <= high
    assert 0.92 <= covered / 300 <= 0.995
