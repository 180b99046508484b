import numpy as np
import pytest

from modgap.discrepancy import estimate, label_space, map_discrepancy, pseudo_classes
from modgap.discrepancy import trials as counting
from modgap.discrepancy.held_out import fold_confusion, fold_errors, fold_predictions
from modgap.discrepancy.problem import Problem
from modgap.discrepancy.soft import Labeling
from modgap.errors import InputError, UsageError
from modgap.labels.label_space import row_numbers
from modgap.statistics.masks import Masks
from modgap.statistics.permutations import permute_samples
from modgap.statistics.splits import Splits
from modgap.statistics.weights import entry_weights
from tests import naive


def multi_hot(rng, n, k, most=3):
    table = np.zeros((n, k), int)
    for row in table:
        row[rng.permutation(k)[: rng.integers(1, most + 1)]] = 1
    table[np.arange(k), np.arange(k)] = 1
    return table


def naive_value(logits, table, source_classes):
    """Return the mean of 1 - P(pred|x), with P uniform over a sample's labels, over samples with a label."""
    order = np.argsort(source_classes)
    predicted = order[logits[:, np.asarray(source_classes)[order]].argmax(axis=1)]
    is_labeled = table.any(axis=1)
    return (
        1
        - (table / np.maximum(1, table.sum(axis=1, keepdims=True)))[np.arange(len(table)), predicted][is_labeled].mean()
    )


@pytest.fixture
def several():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((150, 40)).astype(np.float32)
    table = multi_hot(rng, 150, 6)
    logits[:, 3:9] += 1.5 * table
    table[[20, 40]] = 0
    return logits, table


def test_multi_label_estimates_are_the_naive_total_variation(several):
    logits, table = several
    result = estimate(logits, table, trials=300, permutations=0)
    assert (result.n_unlabeled, result.n_samples) == (2, 148)
    maps = [naive.random_map(0, t, 40, 6) for t in range(300)]
    values = [naive_value(logits, table, m) for m in maps]
    solution = result.estimates["montecarlo"].solution
    assert solution.value == pytest.approx(min(values))
    assert solution.mean == pytest.approx(np.mean(values))
    other = result.estimates["search"].solution
    assert other.value == pytest.approx(naive_value(logits, table, other.map))
    assert other.value <= solution.value
    assert result.floor == pytest.approx(np.mean([1 - 1 / r.sum() for r in table if r.any()]))
    assert result.estimates["search"].solution.value >= result.floor


def test_multi_label_data_with_one_label_each_equal_single_labels():
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((90, 30)).astype(np.float32)
    labels = np.repeat(np.arange(3), 30)
    single = estimate(logits, labels, trials=500, permutations=3)
    several = estimate(logits, np.eye(3, dtype=int)[labels], trials=500, permutations=3)
    assert several.estimates == single.estimates
    assert several.floor == single.floor == 0


def test_errors_by_weight_classes_are_means_over_classes():
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(4), [200, 60, 20, 7])
    logits = rng.standard_normal((287, 25)).astype(np.float32)
    logits[np.arange(287), labels + 2] += 1
    result = estimate(logits, labels, trials=400, permutations=0, weight="classes")
    chosen = np.asarray(result.estimates["search"].solution.map)
    order = np.argsort(chosen)
    wrong = order[logits[:, chosen[order]].argmax(axis=1)] != labels
    wanted = np.mean([wrong[labels == k].mean() for k in range(4)])
    assert result.estimates["search"].solution.value == pytest.approx(wanted, abs=1e-5)
    samples = estimate(logits, labels, trials=400, permutations=0).estimates["montecarlo"].solution
    assert result.estimates["montecarlo"].solution == samples
    assert result.prior == pytest.approx(0.75)


@pytest.mark.parametrize("kernel", counting.KERNELS)
def test_weighted_counts_equal_the_naive_ones(kernel):
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((120, 50)).astype(np.float32)
    labels = rng.integers(0, 7, 120)
    parts = rng.integers(0, 2, 120)
    weights = rng.integers(1, 5, 120)
    problem = Problem(logits, np.arange(120), labels, parts, 7, 2, weights)
    counts = counting.count_trials(problem, trials=60, kernel=kernel)[0]
    for t in range(60):
        right = np.array([naive.matches(logits[[i]], labels[[i]], naive.random_map(0, t, 50, 7)) for i in range(120)])
        assert counts[t].tolist() == [int((right * weights)[parts == p].sum()) for p in (0, 1)]


def test_errors_and_confusion_of_a_fold(several):
    logits, table = several
    space = label_space(table)
    chosen = np.arange(3, 9)
    everything = Masks.pack(np.ones((1, len(space)), bool))
    splits = Splits(everything, everything, np.zeros(1, int), 0)
    labeling = Labeling(space, entry_weights(space, None, "samples"), splits)
    predicted = fold_predictions(logits, labeling, chosen[None])
    errors = fold_errors(labeling, predicted)[0]
    assert errors.mean() == pytest.approx(naive_value(logits, table, chosen))
    matrix = fold_confusion(labeling, predicted)
    assert matrix.sum() == pytest.approx(148)
    assert 1 - matrix.trace() / 148 == pytest.approx(naive_value(logits, table, chosen))


def test_pseudo_classes_are_k_means_fitted_on_the_training_samples():
    rng = np.random.default_rng(4)
    centers = np.array([[0.0, 0, 0], [9, 9, 9], [-9, 9, 0]])
    truth = rng.integers(0, 3, 200)
    fields = centers[truth] + rng.standard_normal((200, 3))
    labels = pseudo_classes(fields.reshape(200, 3, 1), train=np.arange(100), n_classes=3)
    assert len(set(zip(truth, labels, strict=True))) == 3
    assert labels[0] == 0
    np.testing.assert_array_equal(labels, pseudo_classes(fields, train=np.arange(100), n_classes=3))
    with pytest.raises(InputError, match="at least 10 training samples"):
        pseudo_classes(fields, train=np.arange(5))
    with pytest.raises(InputError, match="Expected finite targets"):
        pseudo_classes(fields * np.nan)
    assert estimate(rng.standard_normal((200, 9)), labels, trials=50, permutations=0).n_target_classes == 3


LOG_P = np.log(np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]]))


@pytest.mark.parametrize(
    ("measure", "terms"),
    [
        ("total-variation", lambda p: 1 - p),
        ("kl", lambda p: -np.log(p)),
        ("brier", lambda p: 2 * (1 - p) ** 2),
        ("hellinger", lambda p: np.sqrt(1 - np.sqrt(p))),
        ("jensen-shannon", lambda p: 0.5 * (np.log(2 / (1 + p)) + p * np.log(2 * p / (1 + p)) + (1 - p) * np.log(2))),
    ],
)
def test_measures_of_two_classes_in_closed_form(measure, terms):
    chosen_shares = np.array([0.6 / 0.7, 0.5 / 0.7])
    assert map_discrepancy(LOG_P, [0, 1], [0, 2], measure) == pytest.approx(terms(chosen_shares).mean())
    cold = chosen_shares**2 / (chosen_shares**2 + (1 - chosen_shares) ** 2)
    assert map_discrepancy(LOG_P, [0, 1], [0, 2], measure, temperature=0.5) == pytest.approx(terms(cold).mean())


def test_measures_of_multi_label_data_and_their_errors(several):
    logits, table = several
    value = map_discrepancy(logits, table, np.arange(3, 9), "total-variation")
    source = np.exp(logits[:, 3:9]) / np.exp(logits[:, 3:9]).sum(axis=1, keepdims=True)
    target = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    is_labeled = table.any(axis=1)
    assert value == pytest.approx(0.5 * np.abs(source - target).sum(axis=1)[is_labeled].mean())
    with pytest.raises(UsageError, match="Did you mean hellinger"):
        map_discrepancy(logits, table, np.arange(3, 9), "helinger")
    with pytest.raises(UsageError, match="Expected a temperature above 0"):
        map_discrepancy(logits, table, np.arange(3, 9), "kl", temperature=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 2], [1, 0]], "Expected the values 0 and 1"),
        ([[1, 0], [1, 0]], "no sample for 1 of 2 classes"),
        ([0.5, 1.5], "pseudo_classes"),
        (np.ones((2, 25), int), "at most 24 labels"),
    ],
)
def test_bad_labels_raise(labels, message):
    with pytest.raises(InputError, match=message):
        label_space(labels)


def test_more_target_than_source_classes_need_the_classes_option():
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(12), 10)
    logits = rng.standard_normal((120, 8)).astype(np.float32)
    with pytest.raises(InputError, match="Compare some of the classes at a time with `classes=8`"):
        estimate(logits, labels, trials=10)
    result = estimate(logits, labels, trials=200, classes=5)
    assert result.estimates == {}
    assert set(result.k_way.estimates) == {"montecarlo", "search", "soft"}
    with pytest.raises(InputError, match="at most 8 classes at a time"):
        estimate(logits, labels, trials=10, classes=9)


def test_k_way_leaves_out_classes_of_one_sample_and_splits_that_test_nothing():
    rng = np.random.default_rng(0)
    labels = np.append(np.repeat(np.arange(4), 20), 4)
    logits = rng.standard_normal((81, 9)).astype(np.float32)
    options = {"permutations": 0, "estimators": ["soft"], "splits": 1}
    found = estimate(logits, labels, classes=3, per_class=5, **options).k_way
    assert found.per_class == 5
    assert 0 < found.estimates["soft"].held_out < 1
    # Four groups of several classes: some splits have no class in both parts.
    for seed in range(30):
        rng = np.random.default_rng(seed)
        groups = rng.choice(4, 60, p=rng.dirichlet(np.ones(4)))
        drawn = rng.integers(0, 4, 60)
        if len(np.unique(groups)) < 4:
            continue
        soft = estimate(logits[:60], drawn, groups=groups, classes=3, **options).k_way.estimates["soft"]
        assert soft.held_out is None or np.isfinite(soft.held_out)


@pytest.mark.long
def test_k_way_makes_targets_of_different_k_comparable():
    """Values of one process with 10 and with 50 classes agree at ten classes at a time, and only then."""
    results = {}
    for k in (10, 50):
        rng = np.random.default_rng(k)
        labels = np.repeat(np.arange(k), 40)
        logits = rng.standard_normal((40 * k, 200)).astype(np.float32)
        logits[np.arange(40 * k), labels + 3] += 2
        results[k] = estimate(logits, labels, trials=2000, permutations=0, classes=10, estimators=["search"], splits=6)
    few, many = (results[k].k_way.estimates["search"] for k in (10, 50))
    assert few.held_out_interval[0] <= many.held_out_interval[1]
    assert many.held_out_interval[0] <= few.held_out_interval[1]
    outright = [results[k].estimates["search"] for k in (10, 50)]
    assert outright[1].held_out_interval[0] > outright[0].held_out_interval[1]


def test_ranges_are_shared_while_they_are_in_use():
    first, second = row_numbers(1000), row_numbers(1000)
    assert first.base is second.base
    np.testing.assert_array_equal(first, np.arange(1000))
    space = label_space(np.arange(1000) % 3)
    assert space.entry_samples.base is first.base
    assert space.rows.base is first.base
    np.testing.assert_array_equal(space.starts, np.arange(1001))
    assert len(row_numbers(0)) == 0


def test_entries_of_single_labels_are_samples(several):
    single, multi = label_space(np.arange(40) % 4), label_space(several[1])
    assert (single.has_single_labels, multi.has_single_labels) == (True, False)
    for space in (single, multi):
        np.testing.assert_array_equal(space.entry_rows, space.rows[space.entry_samples])
        donors = np.random.default_rng(0).permutation(len(space))[: len(space) // 2]
        part = space.subset(donors)
        for sample, donor in enumerate(donors):
            entries = slice(part.starts[sample], part.starts[sample + 1])
            original = slice(space.starts[donor], space.starts[donor + 1])
            np.testing.assert_array_equal(part.labels[entries], space.labels[original])
        np.testing.assert_array_equal(part.rows, space.rows[donors])


@pytest.mark.parametrize("with_groups", [False, True])
def test_permutations_need_only_the_equality_of_label_sets(with_groups):
    """Single labels are their own numbers, and the same permutations are drawn as with any other numbers."""
    rng = np.random.default_rng(1)
    labels = np.append(np.arange(5), rng.integers(0, 5, 55))
    labels[30:] = np.repeat(labels[30::3], 3)  # half of the groups have one label
    single = label_space(labels)
    assert single.label_set_ids is single.labels
    table = np.eye(5, dtype=int)[labels]
    by_table = np.unique(np.packbits(table.astype(bool), axis=1), axis=0, return_inverse=True)[1].ravel()
    groups = np.repeat(np.arange(20), 3) if with_groups else None
    for repeat in range(3):
        drawn = permute_samples(label_space(table).label_set_ids, groups, 0, repeat)
        np.testing.assert_array_equal(drawn, permute_samples(by_table, groups, 0, repeat))


def test_label_sets_are_numbered_once():
    rng = np.random.default_rng(0)
    table = multi_hot(rng, 60, 6)
    space = label_space(table)
    ids = space.label_set_ids
    assert space.label_set_ids is ids
    for i, j in np.ndindex(60, 60):
        assert (ids[i] == ids[j]) == (table[i] == table[j]).all()
