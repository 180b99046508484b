import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax

from modgap.discrepancy import estimate, estimator_chain, held_out_samples, label_space, map_discrepancy
from modgap.discrepancy.control import compare_with_controls
from modgap.discrepancy.held_out import HeldOutProblem, held_out_problem
from modgap.discrepancy.input_checks import validate_logits
from modgap.discrepancy.labeled_samples import LabeledSamples
from modgap.errors import InputError, UsageError
from modgap.statistics.intervals import estimate_mean
from modgap.statistics.permutations import permute_samples
from modgap.statistics.splits import repeated_halves
from tests import naive


@pytest.fixture
def easy():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), 50))
    logits = rng.standard_normal((200, 14)).astype(np.float32)
    logits[np.arange(200), labels * 3 + 2] += 2
    return logits, labels


def test_the_estimate_is_the_numpy_loop_over_the_same_maps(easy):
    logits, labels = easy
    solution = estimate(logits, labels, trials=500, permutations=0, seed=3).estimates["montecarlo"].solution
    wrong = np.array([1 - naive.matches(logits, labels, naive.random_map(3, t, 14, 4)) / 200 for t in range(500)])
    assert solution.value == pytest.approx(wrong.min())
    assert solution.map == tuple(naive.random_map(3, int(wrong.argmin()), 14, 4))
    assert (solution.mean, solution.sd) == (pytest.approx(wrong.mean()), pytest.approx(wrong.std()))
    assert solution.quantiles["0.25"] == pytest.approx(np.quantile(wrong, 0.25))
    assert solution.running_minimum[3] == (10, pytest.approx(wrong[:10].min()))
    assert solution.running_minimum[-1] == (500, pytest.approx(wrong.min()))
    edges = solution.histogram["edges"]
    counts = solution.histogram["counts"]
    np.testing.assert_array_equal(np.histogram(wrong, edges)[0], counts)
    assert sum(counts) == 500


def test_held_out_errors_are_means_over_splits_of_maps_fitted_on_one_half(easy):
    logits, labels = easy
    result = estimate(logits, labels, permutations=0, seed=2, splits=3, estimators=["soft"])
    probabilities = softmax(logits.astype(float), axis=1)
    splits = repeated_halves(label_space(labels), None, 3, 2)
    errors = np.zeros((3, 200))
    for fit, test, repeat in zip(splits.fit, splits.test, splits.repeats, strict=True):
        mass = np.array([probabilities[fit & (labels == k)].sum(axis=0) for k in range(4)])
        chosen = linear_sum_assignment(mass, maximize=True)[1]
        errors[repeat, test] = 1 - probabilities[test, chosen[labels[test]]]
    found = result.estimates["soft"]
    assert found.held_out == pytest.approx(errors.mean(), abs=1e-12)
    variance = errors.mean(axis=0).var(ddof=1) / 200 + errors.mean(axis=1).var(ddof=1)
    assert found.held_out_se == pytest.approx(np.sqrt(variance))
    low, high = found.held_out_interval
    assert low < found.held_out < high
    np.testing.assert_allclose(result.tested_samples.errors["soft"].errors, errors.mean(axis=0), atol=1e-12)


def test_the_search_is_tested_on_samples_that_it_was_not_fitted_on(easy):
    logits, labels = easy
    result = estimate(logits, labels, permutations=0, seed=2, splits=2, estimators=["search"])
    rng = np.random.default_rng(5)
    noise = rng.permutation(labels)
    fooled = estimate(logits, noise, permutations=0, estimators=["search"], splits=4).estimates["search"]
    assert fooled.solution.value < 0.65
    assert abs(fooled.held_out - 0.75) < 0.1
    assert result.estimates["search"].held_out < 0.4


def test_held_out_confusion_counts_the_held_out_predictions_of_the_search(easy):
    logits, labels = easy
    result = estimate(logits, labels, trials=300, permutations=0, seed=2, estimators=["montecarlo", "search"])
    matrix = result.held_out_confusion
    np.testing.assert_allclose(matrix.sum(axis=1), [50, 50, 50, 50])
    assert 1 - matrix.trace() / 200 == pytest.approx(result.estimates["search"].held_out)
    assert "held_out_confusion" not in result.to_dict()
    by_class = estimate(logits[:175], labels[:175], trials=300, permutations=0, weight="classes")
    np.testing.assert_allclose(by_class.held_out_confusion.sum(axis=1), np.bincount(labels[:175]))
    matrix = by_class.held_out_confusion
    assert by_class.estimates["search"].held_out == pytest.approx(1 - (matrix.diagonal() / matrix.sum(axis=1)).mean())


@pytest.mark.parametrize("kind", ["soft", "search", "montecarlo"])
def test_result_does_not_depend_on_the_number_of_threads(easy, kind):
    options = {"trials": 1000, "permutations": 6, "permutations_for": kind, "splits": 4, "classes": 3, "spread": 2}
    first = estimate(*easy, **options, threads=1)
    for threads in (2, 4):
        other = estimate(*easy, **options, threads=threads)
        assert other.estimates == first.estimates
        assert (other.k_way, other.leep, other.permuted_error) == (first.k_way, first.leep, first.permuted_error)
        assert other.matched_temperature == first.matched_temperature


def test_null_is_the_same_statistic_with_permuted_labels(easy):
    logits, labels = easy
    result = estimate(logits, labels, permutations=5, estimators=["soft"], splits=3)
    splits = repeated_halves(label_space(labels), None, 3, 0)
    probabilities = softmax(logits.astype(float), axis=1)
    values = []
    for repeat in range(5):
        donors = permute_samples(labels, None, 0, repeat)
        permuted = labels[donors]
        errors = []
        for fit, test in zip(splits.fit.take(donors), splits.test.take(donors), strict=True):
            mass = np.array([probabilities[fit & (permuted == k)].sum(axis=0) for k in range(4)])
            chosen = linear_sum_assignment(mass, maximize=True)[1]
            errors.append((1 - probabilities[test, chosen[permuted[test]]]).sum() / 200)
        values.append(sum(errors) / 3)
    assert result.null.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert result.null.p_value == pytest.approx(1 / 6)
    assert result.null is result.estimates["soft"].held_out_null


def test_a_test_of_the_search_or_of_trials_gives_the_in_sample_ratio_too(easy):
    for name in ("search", "montecarlo"):
        result = estimate(*easy, trials=500, permutations=6, permutations_for=name, splits=2)
        found = result.estimates[name]
        assert result.null is found.held_out_null
        assert found.held_out_null.p_value == pytest.approx(1 / 7)
        assert found.in_sample_ratio_to_null == pytest.approx(found.solution.value / found.in_sample_null.mean)


def test_chance_level_and_majority_class_baseline(easy):
    logits, labels = easy
    result = estimate(logits, labels, trials=10, permutations=0)
    assert (result.chance, result.prior) == (0.75, pytest.approx(0.75))


def test_values_are_over_the_classes_that_can_be_tested():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 30 + [1] * 20 + [2])
    logits = rng.standard_normal((51, 6)).astype(np.float32)
    result = estimate(logits, labels, trials=50, permutations=3)
    assert (result.n_untested, result.n_tested_classes, result.n_target_classes) == (1, 2, 3)
    assert (result.chance, result.prior) == (0.5, pytest.approx(0.4))
    alone = estimate(logits[:50], labels[:50], trials=50, permutations=3)
    assert result.estimates["soft"].held_out == alone.estimates["soft"].held_out
    assert result.held_out_confusion[2].sum() == 0


def test_no_held_out_value_if_no_sample_can_be_tested():
    logits = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    result = estimate(logits, [0, 1, 2], trials=50, permutations=2)
    assert result.estimates["montecarlo"].held_out is None
    assert result.n_untested == 3


def test_large_integers_keep_their_order_and_their_ties():
    """Beyond 2**53 neighbors are equal as doubles, which NumPy compares integers and floats by."""
    for dtype, offset in ((np.int64, 2**53), (np.int64, -(2**63)), (np.uint64, 2**64 - 4), (np.int32, 2**24)):
        logits = np.array([[3, 2, 3], [0, 1, 2]], dtype) + np.array(offset, dtype)
        ranks = validate_logits(logits)
        assert ranks.dtype == np.float32
        np.testing.assert_array_equal(np.argsort(ranks, axis=1, kind="stable"), [[1, 0, 2], [0, 1, 2]])
        assert ranks[0, 0] == ranks[0, 2]
    small = np.array([[-(2**24), 2**24, 5]])
    np.testing.assert_array_equal(validate_logits(small), small)


def test_float64_logits_keep_their_order_and_their_ties():
    rng = np.random.default_rng(3)
    logits = 1e9 + rng.integers(0, 5, (80, 9)) * 1e-6
    labels = rng.permutation(np.repeat(np.arange(4), 20))
    solution = estimate(logits, labels, trials=100, permutations=0).estimates["montecarlo"].solution
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
        estimate(logits, labels, trials=5, permutations=0)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "option", [{"trials": 0}, {"permutations": -1}, {"splits": -1}, {"per_class": 0}, {"seed": -1}]
)
def test_numbers_out_of_range_raise(option):
    with pytest.raises(UsageError, match="Expected a number"):
        estimate(GOOD, [0, 1] * 3, **option)


def test_nan_rows_are_counted_and_named():
    bad = GOOD.copy()
    bad[2, 1] = np.nan
    bad[4] = np.inf
    with pytest.raises(InputError, match=r"have 6 NaN or infinite values in 2 of 6 rows \(2, 4\)"):
        estimate(bad, [0, 1] * 3)


def test_measures_use_the_logits_in_full_precision():
    rng = np.random.default_rng(5)
    logits = rng.standard_normal((60, 12))
    labels = np.repeat([0, 1, 2], 20)
    solution = estimate(logits, labels, trials=50, permutations=0, measures=["kl"]).estimates["search"]
    assert solution.measures["kl"] == pytest.approx(map_discrepancy(logits, labels, solution.solution.map, "kl"))


@pytest.mark.parametrize("option", [{"seed": 1 << 64}, {"threads": 0}, {"splits": -1}])
def test_undefined_numbers_raise(option):
    with pytest.raises(UsageError, match="Expected a number"):
        estimate(GOOD, [0, 1] * 3, **option)


@pytest.mark.parametrize("option", [{"splits": 2.5}, {"seed": 1.5}, {"per_class": 5.0}, {"splits": "many"}])
def test_fractions_where_whole_numbers_are_needed_raise(option):
    for function in (estimate, held_out_samples):
        with pytest.raises(UsageError, match=r"is .*\. Expected a number without a fraction"):
            function(GOOD, [0, 1] * 3, **option)


def test_estimators_without_errors_of_samples_raise():
    with pytest.raises(UsageError, match=r"montecarlo has no errors of samples. Expected some of search, soft"):
        held_out_samples(GOOD, [0, 1] * 3, estimators=["montecarlo"])
    for function in (estimate, held_out_samples):
        with pytest.raises(UsageError, match=r"`estimators` is the text 'soft'. Expected a list of names"):
            function(GOOD, [0, 1] * 3, estimators="soft")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": "class"}, "weight"),
        ({"permutations_for": "assignment"}, "permutations"),
        ({"permutations_for": "search", "estimators": ["soft"]}, "not among the estimators"),
        ({"estimators": ["soft-matched"]}, "estimator"),
    ],
)
def test_unknown_names_raise(options, message):
    with pytest.raises(UsageError, match=message):
        estimate(GOOD, [0, 1] * 3, **options)


def test_per_class_names_the_largest_number(easy):
    logits, labels = easy
    with pytest.raises(InputError, match="Use at most `per_class=45`"):
        estimate(logits, labels, per_class=46)
    result = estimate(logits, labels, per_class=45, permutations=0, estimators=["soft"])
    assert result.per_class == 45
    groups = np.repeat(np.arange(40), 5)
    with pytest.raises(InputError, match="and 2 groups of some class to test on"):
        estimate(logits, np.repeat(np.arange(4), 50), groups=groups, per_class=45)


@pytest.mark.parametrize("estimators", [["soft"], ["search"]])
def test_labels_of_whole_groups_move_also_with_samples_of_each_class_to_fit_on(estimators, monkeypatch):
    """The folds of permuted labels are fitted on as many samples of each class as those of the real ones."""
    groups, labels = np.repeat(np.arange(24), 10), np.repeat(np.arange(24) % 3, 10)
    logits = np.random.default_rng(0).normal(size=(240, 6)) + np.random.default_rng(1).normal(size=(24, 6))[groups]
    seen = []
    permuted = HeldOutProblem.permuted

    def look(problem, repeat, splits):
        labeling = permuted(problem, repeat, splits)
        for fit, test in zip(labeling.splits.fit, labeling.splits.test, strict=True):
            seen.append(np.bincount(labeling.space.labels[np.asarray(fit)], minlength=3).tolist())
            assert not set(groups[np.asarray(fit)]) & set(groups[np.asarray(test)])
        return labeling

    monkeypatch.setattr(HeldOutProblem, "permuted", look)
    result = estimate(logits, labels, groups=groups, per_class=5, permutations=19, splits=4, estimators=estimators)
    assert seen
    assert all(counts == [5, 5, 5] for counts in seen)
    assert 0 < result.null.p_value <= 1


def test_few_groups_have_no_interval(easy):
    logits, labels = easy
    groups = np.arange(200) % 7
    result = estimate(logits, labels, groups=groups, permutations=0)
    assert result.weighting == "groups"
    assert all(one.held_out_interval is None for one in result.estimates.values())
    more = estimate(logits, labels, groups=np.arange(200) % 8, permutations=0)
    assert more.estimates["search"].held_out_interval


def test_constant_logits_have_no_matched_version():
    result = estimate(np.zeros((20, 4)), [0, 1] * 10, permutations=3)
    assert result.matched_temperature is None
    assert "soft-matched" not in result.estimates
    assert result.estimates["soft"].held_out == pytest.approx(0.75)
    assert result.null.p_value == 1.0


def test_a_control_has_an_interval_and_the_difference_is_paired():
    rng = np.random.default_rng(3)
    labels = np.arange(120) % 4
    logits = [rng.standard_normal((120, 8)) + strength * np.eye(8)[labels] for strength in (2.0, 0.5, 0.5, 0.5)]
    source, *controls = [estimate(one, labels, estimators=["search"], permutations=0).tested_samples for one in logits]
    single = compare_with_controls(source, controls[:1], "random:a", "search")
    expected = estimate_mean(controls[0].errors["search"])
    assert (single.held_out, single.interval) == (expected.value, expected.interval)
    assert single.between_sd is None
    assert single.difference.value == pytest.approx(estimate_mean(source.errors["search"]).value - expected.value)
    several = compare_with_controls(source, controls, "random:a", "search")
    assert several.held_out == pytest.approx(np.mean(several.values))
    assert several.interval[0] < several.held_out < several.interval[1]
    assert several.between_sd == pytest.approx(np.std(several.values, ddof=1))


def test_the_maps_of_folds_reach_the_enumerated_optimum_with_two_target_classes():
    n_classes = 2
    n_source_classes = 300
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.arange(200) % n_classes)
    # Logits of few features differ little between source classes, so that a single climb ends in a local optimum.
    features = rng.standard_normal((200, n_classes))
    features[:, 0] += 0.7 * labels
    logits = features @ rng.standard_normal((n_classes, n_source_classes))
    logits = (logits + 0.1 * rng.standard_normal(logits.shape)).astype(np.float32)
    logits.flags.writeable = False
    inputs = estimator_chain.EstimatorInputs(logits, ("search",), n_classes)
    problem = held_out_problem(inputs, LabeledSamples(label_space(labels)), 3)
    maps = estimator_chain.fit_search_maps(inputs, problem.labeling, None)
    for fit, fold_map in zip(problem.labeling.splits.fit, maps, strict=True):
        found = 1 - naive.matches(logits[fit], labels[fit], fold_map) / fit.sum()
        wins = [logits[fit & (labels == k)] for k in range(n_classes)]
        wins = [(one[:, :, None] > one[:, None, :]).sum(axis=0) for one in wins]
        assert found == pytest.approx(1 - (wins[0] + wins[1].T).max() / fit.sum())
