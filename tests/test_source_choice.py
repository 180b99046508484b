"""Tests of the baselines and intervals of the benchmark of source choice."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats


@pytest.fixture(scope="module", name="agreement")
def agreement_module():
    """Import the module of the benchmark, whose folder is not a package of modgap."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
        import choice.score_agreement

        yield choice.score_agreement
    for name in [name for name in sys.modules if name == "choice" or name.startswith("choice.")]:
        del sys.modules[name]


def test_the_constant_answer_does_not_use_the_target_that_it_is_judged_on(agreement):
    errors = [{"a": 1.0, "b": 5.0}, {"a": 2.0, "b": 4.0}, {"a": 90.0, "b": 3.0}]
    # Without the third target a is best (1.5 against 4.5). With it b is best on the other two.
    chosen, regrets = agreement.regret_of_constant_answer(errors)
    assert chosen == ["b", "b", "a"]
    assert regrets.tolist() == [4.0, 2.0, 87.0]


def test_intervals_are_over_targets_and_need_six_of_them(agreement):
    values = np.array([0.0, 1.0, 2.0, 3.0, 4.0, np.nan, 8.0])
    mean, low, high = agreement.mean_and_interval(values)
    expected = stats.t.interval(0.95, 5, loc=3.0, scale=stats.sem(values[np.isfinite(values)]))
    assert (mean, low, high) == pytest.approx((3.0, *expected))
    assert np.isnan(agreement.mean_and_interval(values[:5])[1:]).all()
