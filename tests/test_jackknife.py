"""The jackknife over blocks of groups."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from modgap.ranking.standings import decode_errors, error_arrays
from modgap.statistics.intervals import SampleErrors, estimate_mean, independent_errors, variance_of_models
from modgap.statistics.jackknife import BLOCKS, INTERVAL_BLOCKS, group_blocks, jackknife_interval
from modgap.statistics.paired import paired_difference, paired_differences
from modgap.statistics.sample_file import SampleFile, read_sample_file, write_sample_file
from modgap.training.evaluation import metric_interval
from modgap.training.metrics import metric


def test_each_sample_is_in_one_block_with_its_group_and_classes_are_spread() -> None:
    rng = np.random.default_rng(0)
    for n_groups in (8, 9, 10, 23, 60):
        groups = rng.permutation(np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, 5 * n_groups)]))
        labels = (np.arange(n_groups) % 3)[groups]
        blocks = np.array(group_blocks(labels, groups, 1))
        assert len(blocks) == min(BLOCKS, n_groups)
        assert (blocks.sum(axis=0) == 1).all()
        n_blocks_of_group = [len(np.unique(blocks[:, groups == group].argmax(axis=0))) for group in range(n_groups)]
        assert n_blocks_of_group == [1] * n_groups
        for label in range(3):
            sizes = [len(np.unique(groups[block & (labels == label)])) for block in blocks]
            assert max(sizes) - min(sizes) <= 1
        assert np.array_equal(blocks, group_blocks(labels, groups, 1))
    assert group_blocks(np.zeros(40, int), np.arange(40) % 7, 0) == []
    assert group_blocks(np.zeros(40, int), None, 0) == []


def jackknifed(values: np.ndarray) -> SampleErrors:
    """Return errors of as many groups as values, whose models would have the mean of the others as their error."""
    errors = independent_errors(values, np.arange(len(values)))
    return replace(errors, without=np.array([np.delete(values, i).mean() for i in range(len(values))]))


def test_the_jackknife_of_a_mean_is_its_squared_standard_error(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((3, 12))
    columns = [jackknifed(one) for one in values]
    assert variance_of_models(columns[0]) == pytest.approx(values[0].var(ddof=1) / 12)
    # The variance of the units is as large.
    assert estimate_mean(columns[0]).standard_error == pytest.approx(np.sqrt(2 * values[0].var(ddof=1) / 12))
    difference = paired_difference(columns[0], columns[1])
    assert difference.standard_error == pytest.approx(np.sqrt(2 * (values[0] - values[1]).var(ddof=1) / 12))
    together = paired_differences(columns)
    assert together.standard_errors[0, 1] == pytest.approx(difference.standard_error)
    assert together.p_values[1, 2] == pytest.approx(paired_difference(columns[1], columns[2]).p_value)
    # A file has errors with and without blocks.
    plain = replace(columns[1], without=None)
    samples = SampleFile(
        np.arange(12), np.arange(12) % 2, np.arange(12), {"soft": columns[0], "search": plain}, 2, None
    )
    write_sample_file(tmp_path / "samples.npz", samples)
    found = read_sample_file(tmp_path / "samples.npz").errors
    np.testing.assert_array_equal(found["soft"].without, columns[0].without)
    assert found["search"].without is None
    assert decode_errors(error_arrays(columns[0]), 0).without.tolist() == columns[0].without.tolist()


def mean_interval(values: np.ndarray, groups: np.ndarray | None = None, **options: float) -> tuple[float, float]:
    return jackknife_interval(lambda weights: np.average(values, weights=weights), len(values), groups, **options)


def test_the_interval_of_a_mean_is_that_of_its_standard_error_on_the_scale() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=INTERVAL_BLOCKS)
    margin = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) / values.mean()
    expected = np.exp(np.log(values.mean()) + np.array([-margin, margin]))
    np.testing.assert_allclose(mean_interval(values), expected)
    shares = values / 10
    margin = stats.t.ppf(0.975, len(values) - 1) * stats.sem(shares) / (shares.mean() * (1 - shares.mean()))
    expected = expit(logit(shares.mean()) + np.array([-margin, margin]))
    np.testing.assert_allclose(mean_interval(shares, largest=1.0), expected)
    np.testing.assert_allclose(mean_interval(10 * shares, largest=10.0), 10 * expected)


def test_groups_stay_whole_and_the_seed_alone_draws_blocks() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(40), 10)
    values = rng.integers(1, 3, 40)[groups].astype(float)
    wide, narrow = (np.ptp(mean_interval(values, one)) for one in (groups, None))
    assert narrow < 0.7 * wide
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, seed=1)


def test_what_blocks_cannot_tell_has_no_interval() -> None:
    values = np.arange(1.0, 17.0)
    assert np.isnan(mean_interval(values, np.arange(16) % 7)).all()
    assert np.isnan(jackknife_interval(lambda weights: np.nan if weights.min() == 0 else 0.5, 16)).all()
    assert mean_interval(np.zeros(16)) == (0, 0)
    assert mean_interval(np.ones(16), largest=1.0) == (1, 1)
    needs_first = jackknife_interval(lambda weights: weights @ values / weights.sum() if weights[0] else np.nan, 16)
    assert np.isnan(needs_first).all()


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize(("name", "effect"), [("mAP", 0.0), ("mAP", 1.0), ("AUROC", 0.0), ("AUROC", 1.0)])
def test_intervals_of_ranking_metrics_cover_the_truth(name: str, effect: float, size: int) -> None:
    """A percentile bootstrap covers 1 - mAP of five labels in 51 % of such data sets without an effect."""
    rng, n_units, share, covered = np.random.default_rng(0), 200, 0.1, 0
    x = np.linspace(-8, 9, 20_001)
    found = share * stats.norm.sf(x - effect)
    precision = found / (found + (1 - share) * stats.norm.sf(x))
    area = np.trapezoid(precision * stats.norm.pdf(x - effect), x)
    truth = 1 - (area if name == "mAP" else stats.norm.cdf(effect / np.sqrt(2)))
    groups = np.arange(size * n_units) // size
    for seed in range(200):
        # Samples of a group share their labels and half of the variance of their scores.
        labels = (rng.random((n_units, 5)) < share)[groups]
        scores = np.sqrt(0.5) * (rng.standard_normal((n_units, 5))[groups] + rng.standard_normal((len(groups), 5)))
        measured = metric(f"1 - {name}")
        measured.update((scores + effect * labels).astype(np.float32), labels.astype(np.float32))
        low, high = metric_interval(measured, groups, seed)
        covered += low <= truth <= high
    assert 0.91 <= covered / 200 <= 0.995
