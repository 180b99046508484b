"""Splits, weights, permutation tests, intervals and paired comparisons, against naive code and scipy."""

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from modgap.discrepancy import estimate, label_space
from modgap.discrepancy.labeled_samples import equal_group_rows
from modgap.discrepancy.report import DiscrepancyReport
from modgap.errors import InputError, UsageError
from modgap.statistics.intervals import (
    SampleErrors,
    average_errors,
    estimate_log_mean,
    estimate_mean,
    mean_and_contributions,
    proportion_interval,
    unit_degrees,
    wilson_interval,
)
from modgap.statistics.multiple_comparisons import holm, similar_groups
from modgap.statistics.paired import paired_difference
from modgap.statistics.permutations import (
    are_ordered,
    count_shifts,
    draw_null,
    permute_merged_groups,
    permute_samples,
    summarize_null,
)
from modgap.statistics.sample_file import SampleFile, read_sample_file, write_sample_file
from modgap.statistics.splits import per_class_splits, repeated_halves, testable_samples
from modgap.statistics.weights import choose_weighting, entry_weights, integer_weights

testable_samples.__test__ = False


def random_problem(seed, multi_label=False, grouped=True):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 60))
    k = int(rng.integers(2, 5))
    labels = rng.integers(0, k, n)
    labels[:k] = np.arange(k)
    table = labels
    if multi_label:
        table = np.eye(k, dtype=int)[labels] | (rng.random((n, k)) < 0.2)
    groups = np.unique(rng.integers(0, 9, n), return_inverse=True)[1] if grouped else None
    return label_space(table), groups


def naive_weights(space, groups, weighting):
    """Return the weight of each entry from the definition, one at a time."""
    n = len(space)
    groups = np.arange(n) if groups is None else groups
    grouped = len(np.unique(groups)) < n
    weights = []
    for entry, sample in enumerate(space.entry_samples):
        share = space.entry_weights[entry] / space.unit
        if weighting == "samples":
            weights.append(share / n)
        elif weighting == "groups":
            weights.append(share / len(np.unique(groups)) / (groups == groups[sample]).sum())
        else:
            shares = space.entry_weights / space.unit
            same_class = space.labels == space.labels[entry]
            if not grouped:
                weights.append(share / space.n_classes / shares[same_class].sum())
                continue
            entry_groups = groups[space.entry_samples]
            n_groups = len(np.unique(entry_groups[same_class]))
            inside = same_class & (entry_groups == groups[sample])
            weights.append(share / space.n_classes / n_groups / shares[inside].sum())
    return np.array(weights)


@pytest.mark.parametrize("weighting", ["samples", "groups", "classes"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_weights_are_those_of_the_definition(weighting, multi_label):
    for seed in range(90):
        space, groups = random_problem(seed, multi_label, grouped=seed % 3 > 0)
        weights = entry_weights(space, groups, weighting)
        assert weights.sum() == pytest.approx(1)
        weighting_used = "samples" if weighting == "groups" and groups is None else weighting
        np.testing.assert_allclose(weights, naive_weights(space, groups, weighting_used))
        integers = integer_weights(weights)
        ratios = weights / weights[0] if integers is None else integers / integers[0]
        np.testing.assert_allclose(ratios, weights / weights[0], rtol=3e-6)


def test_groups_count_equally_by_default():
    assert choose_weighting(None, None) == "samples"
    assert choose_weighting(None, np.zeros(3)) == "groups"
    assert choose_weighting("groups", None) == "samples"
    with pytest.raises(UsageError, match="group"):
        choose_weighting("group", None)


def test_the_same_number_of_samples_is_drawn_from_each_group():
    groups = np.repeat([7, 3, 5], [4, 9, 6])
    rows = equal_group_rows(groups, 4, seed=1)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(np.bincount(groups[rows])[[3, 5, 7]], 4)
    assert not np.array_equal(rows, equal_group_rows(groups, 4, seed=2))
    with pytest.raises(InputError, match=r"but 1 group of 3 have fewer samples. The smallest group has 4 samples"):
        equal_group_rows(groups, 5, seed=1)
    with pytest.raises(UsageError, match="needs groups"):
        equal_group_rows(None, 5, seed=1)


def test_the_command_uses_as_many_samples_of_each_group(modgap, own_logits, tmp_path):
    with np.load(own_logits) as file:
        np.savez(tmp_path / "grouped.npz", **file, groups=np.minimum(np.arange(90) // 6, 13))
    command = ["discrepancy", "--logits", tmp_path / "grouped.npz", "--estimator", "soft", "--permutations", "19"]
    done = modgap(*command, "--per-group", "7")
    assert done.returncode == 1
    assert "--per-group is 7, but 13 groups of 14 have fewer samples. The smallest group has 6 samples." in done.stderr
    done = modgap(*command, "--per-group", "5", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    tested = read_sample_file(tmp_path / "out" / "samples.npz")
    np.testing.assert_array_equal(np.unique(tested.groups, return_counts=True)[1], 5)
    assert tested.ids.max() >= 85


def test_halves_are_stratified_and_keep_groups_together():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), rng.integers(2, 6, 40))
    labels = np.repeat(np.arange(4), 10)[groups]
    splits = repeated_halves(label_space(labels), groups, 5, 0)
    assert splits.repeats.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    fit, test = np.asarray(splits.fit), np.asarray(splits.test)
    assert not (fit & test).any()
    assert (fit[::2] == test[1::2]).all()
    assert (test[::2] ^ test[1::2]).all()
    for fit in splits.fit:
        assert all(len(set(fit[groups == group])) == 1 for group in range(40))
        assert all(len(np.unique(groups[fit & (labels == label)])) == 5 for label in range(4))
    assert len({fit.tobytes() for fit in splits.fit}) == 10


def test_a_repeat_does_not_depend_on_how_many_there_are():
    space, groups = random_problem(3)
    few = repeated_halves(space, groups, 3, 7)
    many = repeated_halves(space, groups, 9, 7)
    np.testing.assert_array_equal(few.fit, many.first(3).fit)


def test_halves_never_split_a_group_nor_test_a_class_that_one_half_lacks():
    for seed in range(200):
        space, groups = random_problem(seed)
        splits = repeated_halves(space, groups, 2, 0)
        for fit, test in zip(splits.fit, splits.test, strict=True):
            assert all(len(set(fit[groups == g])) == 1 for g in np.unique(groups))
            assert set(space.labels[test]) <= set(space.labels[fit])


def test_a_class_with_one_sample_or_one_group_is_not_testable():
    space = label_space([0, 0, 0, 0, 1, 2, 2])
    assert testable_samples(space, None).tolist() == [0, 1, 2, 3, 5, 6]
    assert testable_samples(space, np.array([0, 0, 1, 1, 2, 3, 3])).tolist() == [0, 1, 2, 3]
    several = label_space([[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0]])
    assert testable_samples(several, None).tolist() == [0, 3]


def test_splits_by_class_fit_on_as_many_samples_of_each_class_and_test_other_groups():
    groups = np.repeat(np.arange(30), 4)
    labels = np.repeat(np.arange(3), 10)[groups]
    splits = per_class_splits(labels, groups, 10, 6, 0)
    for fit, test in zip(splits.fit, splits.test, strict=True):
        assert np.bincount(labels[fit]).tolist() == [10, 10, 10]
        assert not set(groups[fit]) & set(groups[test])
        assert len(set(groups[fit]) | set(groups[test])) == 30
        assert len(set(groups[fit])) == 9


def test_permutation_goes_by_group_where_groups_have_one_label():
    groups = np.repeat(np.arange(30), 4)
    labels = np.repeat(np.arange(3), 10)[groups]
    permuted = labels[permute_samples(labels, groups, 0, 0)]
    assert all(len(set(permuted[groups == g])) == 1 for g in range(30))
    assert (permuted != labels).any()
    mixed = np.tile([0, 1, 2, 1], 30)
    within = mixed[permute_samples(mixed, groups, 0, 0)]
    assert all(sorted(within[groups == g]) == [0, 1, 1, 2] for g in range(30))


def test_other_groups_are_permuted_if_one_group_is_mixed():
    groups = np.repeat(np.arange(50), 20)
    labels = np.repeat(np.arange(5), 10)[groups]
    labels[0] = 4
    permuted = labels[permute_samples(labels, groups, 0, 0)]
    assert 0.1 < (permuted == labels).mean() < 0.4
    assert sorted(permuted[:20]) == sorted(labels[:20])
    assert all(len(set(permuted[groups == g])) == 1 for g in range(1, 50))


def test_shifts_keep_the_order_of_labels_in_a_group():
    groups = np.repeat([4, 2, 9, 7], [6, 5, 4, 5])
    rows = np.random.default_rng(0).permutation(20)
    groups, labels = groups[rows], np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 2, 2, 1, 1, 1, 1, 3, 3, 3, 3, 3])[rows]
    offsets = set()
    for repeat in range(60):
        permuted = labels[permute_samples(labels, groups, 0, repeat, "shifts")]
        for group in (4, 2):
            real, moved = labels[groups == group].tolist(), permuted[groups == group].tolist()
            shifts = [k for k in range(len(real)) if real[k:] + real[:k] == moved]
            assert shifts
            offsets.add((group, shifts[0]))
        pure = [permuted[groups == group] for group in (9, 7)]
        assert sorted(set(one).pop() for one in pure) == [1, 3]
        assert all(len(set(one)) == 1 for one in pure)
    assert len(offsets) > 8
    assert count_shifts(labels, groups) == 6 * 5 * 2
    one_sequence = permute_samples(labels, None, 0, 0, "shifts")
    np.testing.assert_array_equal((one_sequence[1:] - one_sequence[:-1]) % 20, 1)
    assert count_shifts(labels, None) == 20


def test_labels_move_between_merged_groups_of_one_size_and_shifts_move_them_within_groups():
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 1, 0])
    merged = np.array([0, 0, 1, 2, 2, 3, 4, 5, 6])
    sizes = np.bincount(merged)[merged]
    orders = set()
    for repeat in range(20):
        donors = permute_merged_groups(labels, None, merged, 0, repeat)
        np.testing.assert_array_equal(sizes[donors], sizes)
        assert np.bincount(labels[donors]).tolist() == [5, 4]
        orders.add(tuple(labels[donors]))
        shifted = permute_merged_groups(labels, None, merged, 0, repeat, "shifts")
        np.testing.assert_array_equal(shifted, permute_samples(labels, None, 0, repeat, "shifts"))
    assert len(orders) > 5
    in_pairs = np.arange(9) // 2
    donors = permute_merged_groups(in_pairs % 2, in_pairs, np.array([0, 0, 1, 1, 2, 2, 0, 0, 3]), 0, 1)
    assert set(donors[[2, 3, 4, 5, 8]]) <= {2, 4, 8}


def samples_in_order(seed, correlation=0.95, n_groups=10, size=40, n_classes=3, signal=0.0):
    """Return logits and labels of groups in the order of time, which depend on each other only by the signal."""
    rng = np.random.default_rng(seed)
    series = rng.standard_normal((n_groups, size, 24 + n_classes))
    for i in range(1, size):
        series[:, i] = correlation * series[:, i - 1] + np.sqrt(1 - correlation**2) * series[:, i]
    series = series.reshape(n_groups * size, -1)
    labels = series[:, :n_classes].argmax(axis=1)
    logits = series[:, n_classes:] + signal * np.eye(24)[labels]
    return logits, labels, np.repeat(np.arange(n_groups), size)


def test_neighbors_are_ordered_only_if_labels_and_outputs_are_alike():
    def ordered(logits, labels, groups):
        return are_ordered(labels, groups, logits, np.arange(len(labels)))

    for seed in range(20):
        assert ordered(*samples_in_order(seed))
        assert not ordered(*samples_in_order(seed, correlation=0.0, signal=3.0))
        # Labels that are sorted inside a group say nothing, if the outputs of a class are in random order.
        logits, labels, groups = samples_in_order(seed, correlation=0.0, signal=3.0)
        rows = np.lexsort((labels, groups))
        assert not ordered(logits[rows], labels[rows], groups[rows])
        logits, labels, groups = samples_in_order(seed)
        assert not ordered(logits, groups % 3, groups)


def test_shuffled_labels_of_ordered_samples_give_p_values_that_are_too_low_and_shifts_do_not():
    rejected = {"shuffle": 0, "shifts": 0}
    for seed in range(300):
        outputs, labels, groups = samples_in_order(seed)
        for by in rejected:
            donors = [permute_samples(labels, groups, seed, repeat, by) for repeat in range(19)]
            permuted = [-outputs[labels[rows] == 0, 0].sum() for rows in donors]
            rejected[by] += summarize_null(-outputs[labels == 0, 0].sum(), permuted).p_value <= 0.05
    # The standard error of a rate of .05 is .013.
    assert rejected["shuffle"] / 300 > 0.2
    assert rejected["shifts"] / 300 < 0.08


def test_ordered_samples_are_announced_and_show_nothing_unless_labels_are_shifted(caplog):
    options = {"estimators": ["soft"], "permutations": 19, "splits": 4, "threads": 1}
    logits, labels, groups = samples_in_order(0, signal=1.0)
    warning = 'the p-value of shuffled labels is too low. Pass `permutations_by="shifts"`'
    for by in ("shuffle", "shifts"):
        caplog.clear()
        result = estimate(logits, labels, groups=groups, permutations_by=by, **options)
        assert (result.is_ordered, result.permutations_by, result.null.p_value) == (True, by, 0.05)
        report = DiscrepancyReport(None, "x", result, (), (), {}, 0.0)
        text = " ".join(report.answer.sentences)
        assert (warning in caplog.text) == (by == "shuffle")
        assert ("this p-value is too low" in text) == (by == "shuffle")
        assert ("Is it better than with permuted labels? Yes." in text) == (by == "shifts")
        assert "There are 10 groups. With fewer than 20, 95 % intervals of the soft error covered" in text


def test_few_shifts_are_announced(caplog):
    logits, labels, _ = samples_in_order(0, n_groups=1, size=16)
    estimate(logits, labels, estimators=["soft"], splits=2, permutations=99, permutations_by="shifts")
    assert "only 16 different shifts of their labels, so the p-value can hardly be below 0.062" in caplog.text
    with pytest.raises(UsageError, match="Unknown kind of permutations 'shift'"):
        estimate(logits, labels, permutations_by="shift")


def test_a_test_stops_at_the_tenth_value_at_or_below_the_real_one():
    values = np.random.default_rng(0).random(99)
    drawn = []

    def statistics(repeats):
        drawn.extend(repeats)
        return [float(values[repeat]) for repeat in repeats]

    null = draw_null(statistics, 0.4, 99)
    tenth = int(np.flatnonzero(values <= 0.4)[9]) + 1
    assert (null.p_value, null.repeats, null.requested) == (10 / tenth, tenth, 99)
    assert len(drawn) < 99
    assert null.mean == pytest.approx(values[:tenth].mean())
    low = draw_null(statistics, float(np.sort(values)[3]), 99)
    assert (low.p_value, low.repeats) == (5 / 100, 99)
    assert summarize_null(1.0, [0.5] * 10).p_value == 1.0
    assert summarize_null(0.5, [0.5 + 1e-12, 1.0]).p_value == pytest.approx(2 / 3)


def test_sequential_p_values_are_valid():
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(3000):
        real, *permuted = rng.random(100)
        p_values.append(summarize_null(real, permuted).p_value)
    for level in (0.01, 0.05, 0.1, 0.25, 0.5):
        assert np.mean(np.array(p_values) <= level) <= level + 3 * np.sqrt(level * (1 - level) / 3000)
    assert np.mean(np.array(p_values) <= 0.05) > 0.035


def errors_of(values, groups=None, weights=None, averages=(0.0,), strata=None):
    values = np.asarray(values, float)
    units = np.arange(len(values)) if groups is None else np.asarray(groups)
    weights = np.full(len(values), 1 / len(values)) if weights is None else np.asarray(weights, float)
    return SampleErrors(values, weights, units, np.asarray(averages, float), strata, 0)


def test_the_interval_without_splits_is_wilsons_with_student_t():
    values = np.repeat([1.0, 0.0], [60, 140])
    mean = estimate_mean(errors_of(values))
    assert (mean.value, mean.n_units) == (pytest.approx(0.3), 200)
    assert mean.standard_error == pytest.approx(np.sqrt(0.3 * 0.7 / 199))
    np.testing.assert_allclose(mean.interval, wilson_interval(60, 200), atol=2e-3)


def test_the_standard_error_adds_samples_and_splits():
    rng = np.random.default_rng(0)
    values = rng.random(50)
    averages = rng.random(20)
    mean = estimate_mean(errors_of(values, averages=averages))
    assert mean.standard_error**2 == pytest.approx(values.var(ddof=1) / 50 + averages.var(ddof=1))
    relative = (values.var(ddof=1) / 50 / np.sqrt(49) + averages.var(ddof=1) / np.sqrt(4)) / mean.standard_error**2
    expected = proportion_interval(mean.value, mean.standard_error, 50, 1 / relative**2)
    assert mean.interval == pytest.approx(expected)
    log_mean = estimate_log_mean(errors_of(3 * values))
    expected = stats.ttest_1samp(-3 * values, 0).confidence_interval()
    np.testing.assert_allclose(log_mean.interval, expected)


def test_group_means_are_the_units_if_groups_count_equally():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    values = rng.random(len(groups))
    weights = 1 / 12 / np.bincount(groups)[groups]
    mean = estimate_mean(errors_of(values, groups, weights))
    means = np.array([values[groups == g].mean() for g in range(12)])
    assert mean.value == pytest.approx(means.mean())
    assert mean.standard_error == pytest.approx(means.std(ddof=1) / np.sqrt(12))


def test_units_of_much_weight_have_leverage_and_leave_few_degrees_of_freedom():
    rng = np.random.default_rng(0)
    weights = np.repeat([60 / 378, 3 / 378], 6)
    values = rng.random(12)
    errors = errors_of(values, weights=weights)
    mean = values @ weights
    variance = ((weights * (values - mean)) ** 2 / (1 - weights)).sum()
    assert estimate_mean(errors).standard_error == pytest.approx(np.sqrt(variance))
    assert unit_degrees(errors) == pytest.approx(1 / (weights**2).sum() - 1)
    assert unit_degrees(errors_of(values)) == pytest.approx(11)
    halves = errors_of(values, strata=np.arange(12) // 6)
    assert unit_degrees(halves) == pytest.approx(10)
    pairs = errors_of(values, weights=np.repeat([1 / 4, 1 / 20], [2, 10]), strata=np.repeat([0, 1], [2, 10]))
    assert unit_degrees(pairs) == pytest.approx((1 / 2 + 1 / 10) ** 2 / (1 / 4 / 1 + 1 / 100 / 9))
    alone = errors_of(values, weights=np.repeat([1 / 2, 1 / 22], [1, 11]), strata=np.repeat([0, 1], [1, 11]))
    assert unit_degrees(alone) == pytest.approx(10)
    heavy = errors_of(values, weights=np.repeat([0.999, 0.001 / 11], [1, 11]))
    assert unit_degrees(heavy) == 1
    assert np.isfinite(estimate_mean(heavy).interval).all()


def contributions_by_hand(errors):
    """The mean and the contributions of the units, from the whole table of units and strata."""
    units = np.unique(errors.units, return_inverse=True)[1]
    sums, shares = np.zeros((2, units.max() + 1, errors.strata.max() + 1))
    for sample, (unit, stratum) in enumerate(zip(units, errors.strata, strict=True)):
        shares[unit, stratum] += errors.weights[sample] / errors.weights.sum()
        sums[unit, stratum] += errors.weights[sample] / errors.weights.sum() * errors.errors[sample]
    totals = shares.sum(axis=0)
    rest = 1 - shares / totals
    contributions = (sums - shares * sums.sum(axis=0) / totals) / np.sqrt(np.where(rest > 1e-12, rest, np.inf))
    return sums.sum(), contributions.sum(axis=1)


def test_contributions_of_units_in_several_strata_are_those_of_the_whole_table():
    rng = np.random.default_rng(0)
    for _ in range(20):
        strata = rng.permutation(np.arange(40) % 5)
        errors = errors_of(rng.random(40), rng.integers(0, 12, 40), rng.random(40), strata=strata)
        value, contributions = mean_and_contributions(errors)
        by_hand = contributions_by_hand(errors)
        assert value == pytest.approx(by_hand[0])
        np.testing.assert_allclose(contributions, by_hand[1], atol=1e-14)


def test_an_interval_over_many_classes_takes_memory_for_the_samples_alone():
    strata = np.random.default_rng(0).permutation(np.arange(4000) % 500)
    errors = errors_of(np.random.default_rng(1).random(4000), strata=strata)
    tracemalloc.start()
    estimate_mean(errors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A table of samples and classes has 16 MB.
    assert peak < 4e6


def test_intervals_of_a_mean_over_classes_with_two_samples_cover():
    sizes = np.array([34, 20, 12, 10, 8, 6, 2, 2])
    strata = np.repeat(np.arange(8), sizes)
    weights = 1 / 8 / sizes[strata]
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1500):
        values = 0.5 + 0.1 * rng.standard_normal(len(strata))
        low, high = estimate_mean(errors_of(values, weights=weights, strata=strata)).interval
        covered.append(low <= 0.5 <= high)
    # The standard error of 1,500 data sets is .006.
    assert 0.935 < np.mean(covered) < 0.98


def test_no_error_seen_gives_the_exact_interval_and_few_groups_none():
    assert estimate_mean(errors_of(np.zeros(30))).interval == pytest.approx((0, 1 - 0.025 ** (1 / 30)))
    assert estimate_mean(errors_of(np.ones(30))).interval == pytest.approx((0.025 ** (1 / 30), 1))
    perfect = estimate_mean(errors_of(np.zeros(40), np.arange(40) % 4))
    assert (perfect.interval, perfect.n_units) == (None, 4)
    assert estimate_mean(errors_of(np.zeros(40), np.arange(40) % 8)).interval[1] > 0.3
    low, high = proportion_interval(0.02, 0.02, 50)
    assert 0 < low < 0.02 < high


def test_errors_are_averaged_over_the_folds_that_test_a_sample():
    labels = np.repeat([0, 1], 10)
    splits = repeated_halves(label_space(labels), None, 4, 0)
    rng = np.random.default_rng(0)
    fold_errors = rng.random((8, 20))
    averaged = average_errors(fold_errors, splits, np.full(20, 0.05), np.arange(20))
    expected = [np.mean([fold_errors[j, i] for j in range(8) if splits.test[j][i]]) for i in range(20)]
    np.testing.assert_allclose(averaged.errors, expected)
    np.testing.assert_allclose(averaged.averages.mean(), averaged.errors.mean())


def test_paired_difference_is_the_paired_t_test_without_splits():
    rng = np.random.default_rng(0)
    first = rng.random(40)
    second = first + 0.05 + 0.1 * rng.standard_normal(40)
    found = paired_difference(errors_of(first), errors_of(second))
    expected = stats.ttest_rel(first, second)
    assert found.p_value == pytest.approx(expected.pvalue)
    np.testing.assert_allclose(found.interval, expected.confidence_interval())
    assert paired_difference(errors_of(second), errors_of(first)).value == -found.value
    wider = paired_difference(errors_of(first), errors_of(second), more_variance=0.01)
    assert wider.standard_error**2 == pytest.approx(found.standard_error**2 + 0.01)


def test_equal_errors_do_not_differ_and_their_interval_is_not_a_point():
    same = paired_difference(errors_of(np.ones(20)), errors_of(np.ones(20)))
    assert (same.value, same.p_value) == (0, 1)
    assert same.interval == pytest.approx((-(1 - 0.025 ** (1 / 20)), 1 - 0.025 ** (1 / 20)))
    few = paired_difference(errors_of(np.ones(20), np.arange(20) % 5), errors_of(np.zeros(20), np.arange(20) % 5))
    assert (few.value, few.interval, few.p_value) == (pytest.approx(1), None, None)


def test_errors_of_other_samples_weights_or_splits_are_not_paired():
    first = errors_of(np.ones(10))
    with pytest.raises(InputError, match="same samples"):
        paired_difference(first, errors_of(np.ones(11)))
    with pytest.raises(InputError, match="different groups, classes, weights"):
        paired_difference(first, errors_of(np.ones(10), np.arange(10) % 5))
    with pytest.raises(InputError, match="different splits"):
        paired_difference(first, errors_of(np.ones(10), averages=(0.1, 0.2)))


def test_holm_is_the_step_down_definition():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p_values = rng.random(6) ** 3
        corrected = holm(p_values)
        for i, p in enumerate(p_values):
            steps = [(6 - (p_values < q).sum()) * q for q in p_values if q <= p]
            assert corrected[i] == pytest.approx(min(1, max(steps)))
    assert np.isnan(holm([0.01, np.nan, 0.2])[1])
    assert holm([0.01, np.nan, 0.2])[0] == pytest.approx(0.02)


def test_similar_groups_are_maximal_and_may_overlap():
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = 6
        differs = np.triu(rng.random((n, n)) < 0.3, 1)
        differs |= differs.T
        sets = [list(group) for k in range(1, n + 1) for group in itertools.combinations(range(n), k)]
        similar = [group for group in sets if not differs[np.ix_(group, group)].any()]
        maximal = [group for group in similar if not any(set(group) < set(other) for other in similar)]
        assert similar_groups(differs) == sorted(maximal)


def sample_file():
    rng = np.random.default_rng(0)
    units = np.arange(12) % 9
    errors = {
        name: SampleErrors(rng.random(12), np.full(12, 1 / 12), units, rng.random(5), None, 3) for name in ("soft", "ä")
    }
    return SampleFile(np.arange(100, 112), np.arange(12) % 3, units, errors, 3, None)


def test_a_sample_file_is_read_as_it_was_written(tmp_path):
    written = sample_file()
    write_sample_file(tmp_path / "samples.npz", written)
    found = read_sample_file(tmp_path / "samples.npz")
    assert list(found.errors) == ["soft", "ä"]
    for name, errors in written.errors.items():
        np.testing.assert_array_equal(found.errors[name].errors, errors.errors)
        np.testing.assert_array_equal(found.errors[name].averages, errors.averages)
    assert (found.n_classes, found.per_class, found.ids.tolist()) == (3, None, list(range(100, 112)))
    assert paired_difference(found.errors["soft"], written.errors["soft"]).p_value == 1


def test_a_damaged_or_hostile_sample_file_is_refused(tmp_path):
    path = tmp_path / "samples.npz"
    with pytest.raises(InputError, match=r"There is no samples\.npz"):
        read_sample_file(path)
    write_sample_file(path, sample_file())
    content = path.read_bytes()
    for position in range(0, len(content), 23):
        path.write_bytes(content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :])
        try:
            found = read_sample_file(path)
        except InputError:
            continue
        # A flip that is not found, such as one in a date, changed nothing.
        for name, errors in sample_file().errors.items():
            np.testing.assert_array_equal(found.errors[name].errors, errors.errors)
    path.write_bytes(content[:-50])
    with pytest.raises(InputError, match="damaged"):
        read_sample_file(path)
    np.savez(path, version=np.array(1), id=np.array([print], dtype=object))
    with pytest.raises(InputError, match="damaged"):
        read_sample_file(path)
