"""The interval of a test result whose errors are all alike."""

from types import SimpleNamespace

import numpy as np
import pytest

from modgap.statistics.intervals import exact_interval
from modgap.training.evaluation import evaluate_metric
from modgap.training.metrics import metric


@pytest.mark.parametrize(("groups", "n_units"), [(None, 40), (np.arange(80) // 4, 10)])
def test_result_without_an_error_has_an_exact_interval(groups, n_units):
    errors = metric("0-1 error %")
    errors.update(np.tile([[2.0, 1.0]], (40, 1)), np.zeros(40, np.int64))
    table = SimpleNamespace(labels=np.zeros(80, np.int64))
    output = SimpleNamespace(task="classification", shape=(2,))
    data = SimpleNamespace(groups=groups, train=np.arange(40), test=np.arange(40, 80), table=table, output=output)
    result = evaluate_metric(errors, data, 0)
    assert result["test"] == 0
    assert result["interval"] == [0, 100 * exact_interval(0, n_units)[1]]
    assert result["interval"][1] > 5


def test_error_without_a_bound_keeps_the_interval_of_the_bootstrap():
    errors = metric("RMSE")
    errors.update(np.ones((40, 1, 4)), np.zeros((40, 1, 4)))
    output = SimpleNamespace(task="regression", shape=(1, 4))
    data = SimpleNamespace(
        groups=None, train=np.arange(40), test=np.arange(40, 80), table=SimpleNamespace(labels=None), output=output
    )
    assert evaluate_metric(errors, data, 0)["interval"] == [1, 1]
