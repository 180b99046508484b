"""Statistics where little varies or little is known: constant errors, few units, splits without tests."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from modgap.discrepancy import estimate
from modgap.discrepancy.control import compare_with_controls
from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.result import TestedSamples
from modgap.errors import InputError
from modgap.ranking.scores import get_score
from modgap.ranking.source_outputs import SourceOutputs
from modgap.ranking.standings import Standings, compute_error_standings, compute_standings, score_subsamples, subsample
from modgap.ranking.target_summary import reference_value, summarize_target
from modgap.statistics.intervals import (
    SampleErrors,
    degrees_of_freedom,
    estimate_log_mean,
    estimate_mean,
)
from modgap.statistics.paired import paired_difference, paired_differences
from modgap.statistics.permutations import draw_null, summarize_null

TestedSamples.__test__ = False


def errors_of(values, averages=(0.5, 0.5)):
    """Errors of independent samples with equal weights."""
    n = len(values)
    return SampleErrors(np.array(values, float), np.full(n, 1 / n), np.arange(n), np.array(averages, float), None, 0)


# Constant errors


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_proportion_of_units_that_are_all_alike_has_the_exact_interval_for_any_number(value):
    for n in range(8, 400):
        exact = stats.binomtest(round(value * n), n).proportion_ci(method="exact")
        # The weighted mean of n ones is often not exactly 1.
        mean = estimate_mean(errors_of([value] * n))
        assert mean.interval == pytest.approx((exact.low, exact.high)), n


@pytest.mark.parametrize("value", [0.9, 1 / 3, 1e-13, 1 - 1e-13])
def test_a_constant_error_has_an_interval_for_any_number_of_units(value):
    for n in range(8, 200):
        low, high = estimate_mean(errors_of([value] * n)).interval
        unseen = 1 - 0.025 ** (1 / n)
        assert (low, high) == pytest.approx((value * (1 - unseen), value + (1 - value) * unseen), abs=1e-9)


def test_means_over_other_classes_are_not_paired():
    plain = errors_of(np.arange(20) % 3 == 0)
    by_class = replace(plain, strata=np.arange(20) % 2)
    other = replace(plain, strata=np.arange(20) // 10)
    for pair in ((by_class, plain), (plain, by_class), (by_class, other)):
        with pytest.raises(InputError, match="different groups, classes, weights"):
            paired_difference(*pair)
        with pytest.raises(InputError, match="different groups, classes, weights"):
            paired_differences(pair)
    # The class of a sample that no split tests does not matter.
    untested = replace(by_class, errors=np.where(np.arange(20) < 19, by_class.errors, np.nan))
    changed = replace(untested, strata=np.where(np.arange(20) < 19, by_class.strata, 5))
    assert paired_difference(untested, changed).value == 0


def test_a_constant_difference_has_the_p_value_of_the_sign_test_for_any_number_of_units():
    for n in range(8, 100):
        ones, zeros = errors_of([1.0] * n), errors_of([0.0] * n)
        assert paired_difference(ones, zeros).p_value == pytest.approx(stats.binomtest(n, n).pvalue)
        assert paired_difference(ones, ones).p_value == 1
        both = paired_differences([ones, zeros])
        assert both.p_values[0, 1] == pytest.approx(stats.binomtest(n, n).pvalue)
        assert both.p_values[0, 0] == 1


@pytest.mark.parametrize("value", [0.5, -0.5, 1.0, -0.25])
def test_the_interval_of_a_constant_difference_holds_whatever_the_unseen_units_have(value):
    for n in (8, 20, 60):
        first, second = errors_of([max(value, 0)] * n), errors_of([max(-value, 0)] * n)
        low, high = paired_difference(first, second).interval
        np.testing.assert_allclose(paired_differences([first, second]).intervals[0, 1], [low, high])
        # A share of the units has another difference, and none of the n that were drawn.
        shares = np.linspace(0, 1, 2001)
        for other in (-1.0, 0.0, 1.0):
            means = value + shares * (other - value)
            missed = (means < low - 1e-12) | (means > high + 1e-12)
            assert ((1 - shares[missed]) ** n).max(initial=0) <= 0.025
        unseen = 1 - 0.025 ** (1 / n)
        # No shorter interval holds in this sense.
        assert low == pytest.approx(value + unseen * (-1 - value))
        assert high == pytest.approx(value + unseen * (1 - value))


def test_small_errors_in_a_large_unit_are_not_rounding():
    rng = np.random.default_rng(0)
    values = 1e-14 * rng.random((2, 40))
    first, second = (errors_of(one) for one in values)
    found = paired_difference(first, second, largest=np.inf)
    assert found.p_value == pytest.approx(stats.ttest_rel(*values).pvalue)


def test_log_probabilities_have_no_positive_bound_and_no_margin_where_they_are_the_same():
    losses = errors_of([0.0] * 11 + [1.2])
    assert estimate_log_mean(losses).interval[1] == 0
    standings = compute_error_standings(get_score("leep-held-out"), [losses, losses])
    assert (standings.intervals <= 0).all()
    assert standings.difference_intervals[0, 1].tolist() == [0, 0]


# Splits without tests


def ring(n_groups, logits_seed):
    """Groups of two classes each, of which each class is in two groups: a split may have no class in both parts."""
    groups = np.repeat(np.arange(n_groups), 10)
    labels = np.concatenate([np.repeat([one, (one + 1) % n_groups], 5) for one in range(n_groups)])
    return np.random.default_rng(logits_seed).normal(size=(len(groups), n_groups + 2)), labels, groups


@pytest.mark.parametrize("permutations_for", ["soft", pytest.param("search", marks=pytest.mark.long)])
def test_a_split_without_tests_does_not_make_noise_significant(permutations_for):
    p_values = []
    for seed in range(12):
        logits, labels, groups = ring(4, seed)
        result = estimate(
            logits, labels, groups=groups, estimators=[permutations_for], permutations=19, seed=seed,
            permutations_for=permutations_for,
        )  # fmt: skip
        assert np.isfinite(result.null.mean)
        p_values.append(result.null.p_value)
    # The smallest p-value is .05. Four of twelve or more happen in 0.2 % of such tests.
    assert sum(p_value <= 0.05 for p_value in p_values) <= 3


def test_a_permuted_value_that_is_no_number_never_lowers_a_p_value():
    null = summarize_null(0.5, [np.nan, 0.6, 0.7, np.nan])
    assert null.p_value == 3 / 5
    assert null.mean == pytest.approx(0.65)
    drawn = draw_null(lambda numbers: [np.nan] * len(numbers), 0.5, 99)
    assert (drawn.p_value, drawn.repeats) == (1, 10)


# Few units


def test_degrees_of_freedom_are_those_of_satterthwaite():
    assert degrees_of_freedom([(2.0, 10), (0.0, np.inf)]) == 10
    assert degrees_of_freedom([(0.0, 10), (3.0, 2)]) == 2
    # A variance that is known, such as that of trainings, beside equal errors of all samples.
    assert degrees_of_freedom([(0.0, 10), (3.0, np.inf)]) == np.inf
    one, other = np.random.default_rng(0).normal(0, [[1.0], [3.0]], (2, 9))
    variances = [(float(one.var(ddof=1)) / 9, 8), (float(other[:5].var(ddof=1)) / 5, 4)]
    assert degrees_of_freedom(variances) == pytest.approx(stats.ttest_ind(one, other[:5], equal_var=False).df)


def samples_with(errors):
    return TestedSamples(np.arange(len(errors)), np.zeros(len(errors), int), None, {"soft": errors_of(errors)})


def test_a_source_that_is_no_better_than_random_weights_is_rarely_called_better_than_three_of_them():
    rng = np.random.default_rng(0)
    n_significant = 0
    for _ in range(400):
        shared = rng.normal(0.5, 0.1, 400)
        source, *controls = (
            samples_with(shared + level + rng.normal(0, 0.01, 400)) for level in [0, *rng.normal(0, 0.05, 3)]
        )
        n_significant += compare_with_controls(source, controls, "random:a", "soft").difference.p_value <= 0.05
    # With the degrees of freedom of the samples it was 20 %. More than 32 of 400 happen in 0.4 % of tests of 5 %.
    assert n_significant <= 32


def test_subsamples_count_no_more_than_independent_units():
    rng = np.random.default_rng(0)
    resampled = rng.normal(0, 1, (2, 50))
    few = compute_standings([0.0, 2.0], resampled, higher_is_better=True, n_units=10)
    many = compute_standings([0.0, 2.0], resampled, higher_is_better=True)
    ratio = stats.t.ppf(0.975, 9) / stats.t.ppf(0.975, 49)
    assert np.ptp(few.intervals[0]) == pytest.approx(ratio * np.ptp(many.intervals[0]))
    spread = (resampled[0] - resampled[1]).std(ddof=1)
    assert few.p_values[0, 1] == pytest.approx(2 * stats.t.sf(2 / spread, 9))
    constant = compute_standings([0.0, 2.0], np.zeros((2, 50)), higher_is_better=True, n_units=10)
    assert constant.p_values[0, 1] == 2.0**-9


def test_four_independent_samples_have_no_interval():
    outputs = SourceOutputs(np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 0, 1, 1]))
    assert np.isnan(score_subsamples(get_score("logme"), outputs, 0, range(20))).all()


def test_samples_that_are_alone_in_their_class_are_in_each_subsample():
    labels = np.array([0] * 30 + [1] * 30 + [2, 3])
    outputs = SourceOutputs(np.zeros((62, 1)), labels)
    for number in range(20):
        chosen = subsample(outputs, 0, number)
        assert set(labels[chosen]) == {0, 1, 2, 3}
        assert abs(len(chosen) - 56) <= 1
    many = SourceOutputs(np.zeros((62, 1)), np.array([*[0] * 30, *range(1, 33)]))
    assert np.mean([len(subsample(many, 0, number)) for number in range(20)]) < 57


# Chosen sources


def test_of_ten_equal_sources_few_rankings_call_one_worse_than_the_first():
    rng = np.random.default_rng(0)
    n_wrong = 0
    for _ in range(600):
        values = rng.normal(size=10)
        differences = values[:, None] - values
        p_values = 2 * stats.norm.sf(np.abs(differences) / np.sqrt(2))
        none = np.full((10, 10, 2), np.nan)
        standings = Standings(values, none[0], none, p_values, higher_is_better=False)
        wrong = bool((standings.corrected_p_values <= 0.05).any())
        assert wrong == (len(standings.tied_with(int(values.argmin()))) < 9)
        assert not wrong or standings.rank_intervals[values.argmin()][1] < 10
        n_wrong += wrong
    # Corrected for the nine others alone it was 15 %. More than 45 of 600 happen in 0.3 % of tests of 5 %.
    assert n_wrong <= 45


# What is compared with what


def test_the_chance_level_of_a_ranking_is_over_the_classes_that_are_tested():
    labels = np.array([0] * 50 + [1] * 50 + list(range(2, 10)))
    logits = np.random.default_rng(0).normal(size=(len(labels), 12))
    summary = summarize_target("t", SourceOutputs(logits, labels, logits), None)
    chance = estimate(logits, labels, permutations=0, estimators=["soft"]).chance
    assert reference_value("discrepancy", summary)[1] == chance == 0.5


@pytest.mark.parametrize(("weight", "expected"), [("classes", np.log(2)), (None, 0.325)])
def test_no_information_has_the_weights_of_the_errors(weight, expected):
    labels = np.repeat([0, 1], [180, 20])
    summary = summarize_target("t", SourceOutputs(np.zeros((200, 1)), labels), weight)
    assert reference_value("leep-held-out", summary)[1] == pytest.approx(-expected, abs=1e-3)
    assert reference_value("leep", summary)[1] == pytest.approx(-0.325, abs=1e-3)


def test_classes_of_multi_label_targets_have_no_interval():
    rng = np.random.default_rng(0)
    labels = (rng.random((120, 3)) < 0.5).astype(int)
    labels[:, 0] |= ~labels.any(axis=1)
    logits = rng.normal(size=(120, 6))
    names = [str(number) for number in range(6)]
    for table, has_interval in ((labels, False), (labels.argmax(axis=1), True)):
        result = estimate(logits, table, permutations=0)
        report = DiscrepancyReport("s", "t", result, names, names[:3], {}, 0.0)
        assert {one.interval is not None for one in report.class_errors()} == {has_interval}
    report = DiscrepancyReport("s", "t", estimate(logits, labels, estimators=["soft"]), names, names[:3], {}, 0.0)
    with pytest.raises(InputError, match="Only tested maps of the search"):
        report.class_errors()
