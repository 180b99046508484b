"""Comparisons by scores on subsamples: equal sources must seldom differ significantly, however wide the features."""

import math

import numpy as np
import pytest

from modgap.ranking import standings as standings_module
from modgap.ranking.score_sources import score_sources
from modgap.ranking.source_outputs import SourceOutputs

N_SIMULATIONS = 60
MOST_SIGNIFICANT = 9
"""More of 60 happen in 0.1 % of tests of 5 %."""


def equal_sources(n_samples, width, n_classes, seed):
    """Two sources whose features are independent draws from one distribution, with a part that both share."""
    rng = np.random.default_rng([n_samples, width, seed])
    labels = rng.integers(n_classes, size=n_samples)
    deviations = 1 / np.sqrt(np.arange(1, width + 1))
    means = 2.1 * deviations * np.eye(n_classes, width)[labels]
    means[:, :5] += 0.7 * rng.standard_normal((n_samples, 5))
    head = np.random.default_rng(0).standard_normal((width, 8))
    features = [means + deviations * rng.standard_normal(means.shape) for _ in range(2)]
    return {name: SourceOutputs(one, labels, one @ head) for name, one in zip("ab", features, strict=True)}


def n_significant(score, *cell, resamples=20):
    """Number of simulations in which two equal sources differ significantly."""
    standings = [score_sources(score, equal_sources(*cell, seed), resamples=resamples) for seed in range(N_SIMULATIONS)]
    return sum(bool(one.p_values[0, 1] <= 0.05) for one in standings)


@pytest.mark.parametrize(
    ("score", "cell"),
    [
        ("transrate", (60, 20, 2)),
        pytest.param("transrate", (60, 90, 6), marks=pytest.mark.long),
        ("h-score-shrunk", (60, 20, 2)),
        pytest.param("h-score-shrunk", (60, 90, 6), marks=pytest.mark.long),
        ("leep", (60, 20, 2)),
        ("leep", (60, 90, 6)),
    ],
    ids=str,
)
def test_equal_sources_seldom_differ_significantly(score, cell):
    assert n_significant(score, *cell) <= MOST_SIGNIFICANT


def test_halves_would_not_do_for_a_score_that_grows_with_the_number_of_samples(monkeypatch):
    monkeypatch.setattr(standings_module, "DELETED", 0.5)
    monkeypatch.setattr(standings_module, "SPREAD_FACTOR", 1.0)
    assert n_significant("transrate", 60, 90, 6) > MOST_SIGNIFICANT


def test_the_factor_makes_a_standard_error_of_a_spread():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(200)
    one = SourceOutputs(values[:, None], np.zeros(200, np.int64))
    means = [values[standings_module.subsample(one, 0, number)].mean() for number in range(400)]
    factor = math.sqrt((1 - standings_module.DELETED) / standings_module.DELETED)
    assert factor == standings_module.SPREAD_FACTOR
    assert np.std(means) * factor == pytest.approx(values.std() / math.sqrt(200), rel=0.1)
