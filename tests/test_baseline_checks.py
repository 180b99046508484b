"""Comparisons of the best source with its control and with raw values: how often chance makes it better."""

import numpy as np
import pytest

from modgap.ranking.checks import CONTROL_BETTER, CONTROL_WORSE, compare_baseline
from modgap.ranking.scores import PILOT
from modgap.ranking.standings import compute_error_standings
from modgap.ranking.types import ScoreTable
from modgap.statistics.intervals import SampleErrors

N_SAMPLES = 64
RUNS = 200
MOST_FALSE = 10
"""Of 200 runs; a rate of 2.5 %, that of one side of a test of 5 %, has more in 1.3 % of the cases."""
LEAST_UNCORRECTED = 16
"""Fewest false ones of 200 without the correction: 8 %."""


def errors_table(columns, n_sources):
    """Table of errors by sample, (n, rows), of which the first columns are sources."""
    weights = np.full(len(columns), 1 / len(columns))
    errors = [
        SampleErrors(column, weights, np.arange(len(columns)), np.array([column.mean()]), None, 0)
        for column in columns.T.astype(float)
    ]
    standings = compute_error_standings(PILOT, errors)
    is_source = np.arange(columns.shape[1]) < n_sources
    return ScoreTable("pilot", False, standings, standings.among(is_source), ("",) * columns.shape[1], by_sample=True)


def equal_errors(rng, n_rows):
    """Errors of rows of the same quality, on samples of which some are harder."""
    chance = np.clip(0.2 + 0.24 * (rng.beta(0.5, 0.5, N_SAMPLES) - 0.5), 0, 1)
    return rng.random((N_SAMPLES, n_rows)) < chance[:, None]


def test_the_best_of_equal_sources_is_seldom_better_than_its_control():
    rng = np.random.default_rng(0)
    n_sources = 10
    n_false = n_uncorrected = 0
    for _ in range(RUNS):
        table = errors_table(equal_errors(rng, 2 * n_sources), n_sources)
        best = table.first_source
        n_false += compare_baseline(table, best, n_sources + best, n_sources).result == CONTROL_WORSE
        n_uncorrected += table.standings.win_probabilities[best, n_sources + best] >= 0.975
    assert n_false <= MOST_FALSE
    assert n_uncorrected >= LEAST_UNCORRECTED


def test_the_best_rate_of_the_best_source_is_seldom_better_than_raw_values():
    rng = np.random.default_rng(1)
    n_sources, n_rates = 3, 3
    n_false = n_uncorrected = 0
    for _ in range(RUNS):
        by_rate = equal_errors(rng, n_sources * n_rates + 1)
        trained = by_rate[:, :-1].reshape(N_SAMPLES, n_sources, n_rates)
        at_best = np.take_along_axis(trained, trained.mean(0).argmin(1)[None, :, None], axis=2)[:, :, 0]
        table = errors_table(np.column_stack([at_best, by_rate[:, -1]]), n_sources)
        comparisons = n_sources * n_rates
        n_false += compare_baseline(table, table.first_source, n_sources, comparisons).result == CONTROL_WORSE
        n_uncorrected += table.standings.win_probabilities[table.first_source, n_sources] >= 0.975
    assert n_false <= MOST_FALSE
    assert n_uncorrected >= LEAST_UNCORRECTED


@pytest.mark.parametrize(("source", "control", "expected"), [(0.05, 0.7, CONTROL_WORSE), (0.7, 0.05, CONTROL_BETTER)])
def test_large_differences_are_found(source, control, expected):
    rng = np.random.default_rng(0)
    columns = rng.random((N_SAMPLES, 4)) < np.array([source, 0.75, control, 0.75])
    assert compare_baseline(errors_table(columns, 2), 0, 2, 3).result == expected
