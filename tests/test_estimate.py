import numpy as np
import pytest
from scipy import stats

from modgap.discrepancy import estimate, held_out, map_discrepancy
from modgap.discrepancy.bounds import upper_bound
from modgap.errors import InputError, UsageError
from tests import naive


@pytest.fixture
def easy():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), 50))
    logits = rng.standard_normal((200, 30)).astype(np.float32)
    logits[np.arange(200), labels * 3 + 2] += 2
    return logits, labels


def test_the_estimate_is_the_numpy_loop_over_the_same_maps(easy):
    logits, labels = easy
    solution = estimate(logits, labels, trials=500, null=0, seed=3).estimates["montecarlo"].solution
    wrong = np.array([1 - naive.matches(logits, labels, naive.random_map(3, t, 30, 4)) / 200 for t in range(500)])
    assert solution.value == pytest.approx(wrong.min())
    assert solution.map == tuple(naive.random_map(3, int(wrong.argmin()), 30, 4))
    assert (solution.mean, solution.sd) == (pytest.approx(wrong.mean()), pytest.approx(wrong.std()))
    assert solution.quantiles["0.25"] == pytest.approx(np.quantile(wrong, 0.25))
    assert solution.running_minimum[3] == (10, pytest.approx(wrong[:10].min()))
    assert solution.running_minimum[-1] == (500, pytest.approx(wrong.min()))
    edges = solution.histogram["edges"]
    counts = solution.histogram["counts"]
    np.testing.assert_array_equal(np.histogram(wrong, edges)[0], counts)
    assert sum(counts) == 500


def test_held_out_maps_are_chosen_on_one_half_and_tested_on_the_other(easy):
    logits, labels = easy
    result = estimate(logits, labels, trials=300, null=0, seed=2).estimates["montecarlo"]
    parts = held_out.split_halves(labels, None, 2)
    maps = [naive.random_map(2, t, 30, 4) for t in range(300)]
    wrong = 0
    for half in (0, 1):
        scores = [naive.matches(logits[parts == half], labels[parts == half], m) for m in maps]
        best = maps[int(np.argmax(scores))]
        other = parts == 1 - half
        wrong += other.sum() - naive.matches(logits[other], labels[other], best)
    assert result.held_out == pytest.approx(wrong / 200)
    interval = stats.binomtest(int(wrong), 200).proportion_ci(method="wilson")
    assert result.held_out_interval == pytest.approx((interval.low, interval.high))


def test_held_out_confusion_counts_the_held_out_predictions_of_the_last_estimator(easy):
    logits, labels = easy
    result = estimate(logits, labels, trials=300, null=0, seed=2, estimators=["montecarlo", "search"])
    matrix = result.held_out_confusion
    np.testing.assert_array_equal(matrix.sum(axis=1), [50, 50, 50, 50])
    assert 1 - matrix.trace() / 200 == pytest.approx(result.estimates["search"].held_out)
    assert "held_out_confusion" not in result.to_dict()
    balanced = estimate(logits[:175], labels[:175], trials=300, null=0, balanced=True)
    np.testing.assert_array_equal(balanced.held_out_confusion.sum(axis=1), np.bincount(labels[:175]))


def test_result_does_not_depend_on_the_number_of_threads(easy):
    first = estimate(*easy, trials=3000, null=3, threads=1)
    for threads in (2, 4):
        assert estimate(*easy, trials=3000, null=3, threads=threads).estimates == first.estimates


def test_null_is_the_estimate_with_permuted_labels(easy):
    logits, labels = easy
    result = estimate(logits, labels, trials=200, null=5).estimates["montecarlo"]
    permuted = [labels[held_out.permute_samples(labels, None, 0, r)] for r in range(5)]
    values = [estimate(logits, other, trials=200, null=0).estimates["montecarlo"] for other in permuted]
    assert result.null == held_out.summarize_null(result.solution.value, [v.solution.value for v in values])
    assert result.held_out_null == held_out.summarize_null(result.held_out, [v.held_out for v in values])
    assert result.ratio_to_null == pytest.approx(result.solution.value / result.null.mean)


def test_upper_bound_chance_level_and_majority_class_baseline(easy):
    logits, labels = easy
    result = estimate(logits, labels, trials=10, null=0)
    truth = 1 - naive.matches(logits, labels, [2, 5, 8, 11]) / 200
    assert truth <= result.upper_bound + 1e-12
    assert (result.chance, result.prior) == (0.75, 0.75)
    assert upper_bound(np.eye(4), np.arange(4)) == 0


def test_halves_are_stratified_and_keep_groups_together():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), rng.integers(2, 6, 40))
    labels = np.repeat(np.arange(4), 10)[groups]
    parts = held_out.split_halves(labels, groups, 0)
    for group in range(40):
        assert len(set(parts[groups == group])) == 1
    for label in range(4):
        of_label = np.unique(groups[labels == label])
        assert sum(parts[groups == g][0] for g in of_label) == 5


def test_a_class_in_one_sample_or_one_group_is_never_tested():
    labels = np.array([0, 0, 0, 0, 1, 2, 2])
    assert list(held_out.split_halves(labels, None, 0)[[4]]) == [held_out.IN_BOTH_HALVES]
    groups = np.array([0, 0, 1, 1, 2, 3, 3])
    assert list(held_out.split_halves(labels, groups, 0)[4:]) == [held_out.IN_BOTH_HALVES] * 3
    logits = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    result = estimate(logits, labels, groups=groups, trials=50, null=2)
    assert result.n_untested == 3


def test_no_held_out_value_if_no_sample_can_be_tested():
    logits = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    result = estimate(logits, [0, 1, 2], trials=50, null=2)
    assert result.estimates["montecarlo"].held_out is None
    assert result.n_untested == 3


def test_permutation_goes_by_group_where_groups_have_one_label():
    groups = np.repeat(np.arange(30), 4)
    labels = np.repeat(np.arange(3), 10)[groups]
    permuted = labels[held_out.permute_samples(labels, groups, 0, 0)]
    assert all(len(set(permuted[groups == g])) == 1 for g in range(30))
    assert (permuted != labels).any()
    mixed = np.tile([0, 1, 2, 1], 30)
    within = mixed[held_out.permute_samples(mixed, groups, 0, 0)]
    assert all(sorted(within[groups == g]) == [0, 1, 1, 2] for g in range(30))


@pytest.mark.parametrize(("errors", "size"), [(0, 7), (7, 7), (3, 50), (180, 200)])
def test_wilson_interval_equals_its_closed_form(errors, size):
    z = stats.norm.ppf(0.975)
    share = errors / size
    center = (share + z * z / (2 * size)) / (1 + z * z / size)
    half_width = z / (1 + z * z / size) * np.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    expected = (max(0.0, center - half_width), min(1.0, center + half_width))
    assert held_out.wilson_interval(errors, size) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_p_values_are_valid_for_random_labels():
    values = []
    for data in range(120):
        rng = np.random.default_rng(data)
        logits = rng.standard_normal((60, 20)).astype(np.float32)
        labels = rng.permutation(np.repeat(np.arange(5), 12))
        result = estimate(logits, labels, estimators=["montecarlo"], trials=200, seed=data).estimates["montecarlo"]
        values.append((result.null.p_value, result.held_out_null.p_value, result.held_out))
    in_sample, held_out, held_out_values = np.array(values).T
    for level in (0.05, 0.1, 0.25, 0.5):
        slack = 3 * np.sqrt(level * (1 - level) / len(values))
        assert (in_sample <= level).mean() <= level + slack
        assert (held_out <= level).mean() <= level + slack
    assert abs(held_out_values.mean() - 0.8) < 3 * held_out_values.std() / np.sqrt(len(values))


def test_float64_logits_keep_their_order_and_their_ties():
    rng = np.random.default_rng(3)
    logits = 1e9 + rng.integers(0, 5, (80, 9)) * 1e-6
    labels = rng.permutation(np.repeat(np.arange(4), 20))
    solution = estimate(logits, labels, trials=100, null=0).estimates["montecarlo"].solution
    wrong = [1 - naive.matches(logits, labels, naive.random_map(0, t, 9, 4)) / 80 for t in range(100)]
    assert solution.value == pytest.approx(min(wrong))


GOOD = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (GOOD[0], [0], "shape (N, C)"),
        (GOOD.astype(str), [0, 1] * 3, "Expected real numbers"),
        (GOOD[:0], [], "Expected at least one sample"),
        (GOOD[:, :1], [0] * 6, "at least two source classes"),
        (np.where(GOOD > 1, np.nan, GOOD), [0, 1] * 3, "NaN or infinite values in"),
        (GOOD, [0, 1], "There are 2 labels for 6 rows of logits"),
        (GOOD, [0, 1, -1, 0, 1, 0], "Label -1 is negative"),
        (GOOD, [0, 2, 0, 2, 0, 2], "without gaps"),
        (GOOD, [0, 1, 10**15, 0, 1, 0], "without gaps"),
        (GOOD, [0] * 6, "At least two target classes"),
        (GOOD, np.arange(6.0), "integer labels"),
        (GOOD, [0, 1, 2, 3, 4, 5], "at most as many target classes"),
    ],
)
def test_bad_input_raises_with_the_expected_input(logits, labels, message):
    with pytest.raises(InputError) as caught:
        estimate(logits, labels, trials=5, null=0)
    assert message in str(caught.value)


@pytest.mark.parametrize("option", [{"trials": 0}, {"null": -1}, {"bootstrap": -1}, {"seed": -1}])
def test_numbers_out_of_range_raise(option):
    with pytest.raises(UsageError, match="Expected a number"):
        estimate(GOOD, [0, 1] * 3, **option)


def test_nan_rows_are_counted_and_named():
    bad = GOOD.copy()
    bad[2, 1] = np.nan
    bad[4] = np.inf
    with pytest.raises(InputError, match=r"have 6 NaN or infinite values in 2 of 6 rows \(2, 4\)"):
        estimate(bad, [0, 1] * 3)


def test_other_groups_are_permuted_if_one_group_is_mixed():
    groups = np.repeat(np.arange(50), 20)
    labels = np.repeat(np.arange(5), 10)[groups]
    labels[0] = 4
    permuted = labels[held_out.permute_samples(labels, groups, 0, 0)]
    assert 0.1 < (permuted == labels).mean() < 0.4
    assert sorted(permuted[:20]) == sorted(labels[:20])
    assert all(len(set(permuted[groups == g])) == 1 for g in range(1, 50))


def test_halves_never_split_a_group_nor_test_a_class_that_one_half_lacks():
    rng = np.random.default_rng(0)
    for _ in range(200):
        labels = rng.integers(0, 4, 25)
        groups = rng.integers(0, 9, 25)
        parts = held_out.split_halves(labels, groups, 0)
        assert all(len(set(parts[groups == g])) == 1 for g in np.unique(groups))
        for label in np.unique(labels[parts < held_out.IN_BOTH_HALVES]):
            for half in (0, 1):
                assert np.isin(parts[labels == label], (half, held_out.IN_BOTH_HALVES)).any()


def test_measures_use_the_logits_in_full_precision():
    rng = np.random.default_rng(5)
    logits = rng.standard_normal((60, 12))
    labels = np.repeat([0, 1, 2], 20)
    solution = estimate(logits, labels, trials=50, null=0, spread=0, measures=["kl"]).estimates["search"]
    assert solution.measures["kl"] == pytest.approx(map_discrepancy(logits, labels, solution.solution.map, "kl"))


@pytest.mark.parametrize("option", [{"seed": 1 << 64}, {"threads": 0}, {"bound_seconds": float("nan")}])
def test_undefined_numbers_raise(option):
    with pytest.raises(UsageError, match="Expected a number"):
        estimate(GOOD, [0, 1] * 3, **option)
