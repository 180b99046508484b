"""Probes: against scikit-learn and naive formulas, on easy, degenerate and invalid samples."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler

from modgap.distortion import probe_cross_validation, probe_evaluation
from modgap.distortion.probe_cross_validation import cross_validate_probe, few_shot_curve
from modgap.distortion.probe_evaluation import PROBES, entity_f1, evaluate_probe
from modgap.errors import InputError, UsageError
from modgap.probes.folds import held_out_mask, repeated_folds, stratified_folds
from modgap.probes.logistic import logistic_path
from modgap.probes.ridge import ridge_path
from modgap.statistics.jackknife import group_blocks
from modgap.statistics.paired import paired_difference


def blobs(n=200, width=10, classes=4, seed=0, apart=0.7):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return rng.standard_normal((n, width)) + apart * rng.standard_normal((classes, width))[labels], labels


def halves(features, labels, test=80):
    return features[test:], labels[test:], features[:test], labels[:test]


@pytest.fixture(scope="module")
def parts():
    return halves(*blobs())


@pytest.fixture(scope="module")
def digits():
    features, labels = load_digits(return_X_y=True)
    return features[:500], labels[:500], features[500:900], labels[500:900]


@pytest.mark.parametrize("name", PROBES)
def test_each_probe_learns_separable_classes_but_not_noise(name, parts):
    result = evaluate_probe(name, *parts)
    assert result.value < 0.3
    assert result.value == result.misclassified.mean() == (result.predicted != parts[3]).mean()
    noise = np.random.default_rng(1).standard_normal((200, 10))
    assert 0.6 < evaluate_probe(name, *halves(noise, blobs()[1])).value <= 1


@pytest.mark.parametrize("name", PROBES)
def test_a_seed_gives_the_same_result(name, parts):
    first, again = (evaluate_probe(name, *parts, seed=3) for _ in range(2))
    assert first.value == again.value
    np.testing.assert_array_equal(first.predicted, again.predicted)


def test_linear_probe_equals_scikit_learns_at_the_chosen_strength(digits):
    result = evaluate_probe("linear", *digits)
    scaler = StandardScaler().fit(digits[0])
    naive = LogisticRegression(C=1 / result.fit.chosen_value, tol=1e-8, max_iter=10_000).fit(
        scaler.transform(digits[0]), digits[1]
    )
    assert (naive.predict(scaler.transform(digits[2])) == result.predicted).mean() > 0.995
    held = held_out_mask(digits[1], 0.2, 0)
    for at in (3, 10):
        scaler = StandardScaler().fit(digits[0][~held])
        naive = LogisticRegression(C=1 / result.fit.grid[at], tol=1e-8, max_iter=10_000)
        naive.fit(scaler.transform(digits[0][~held]), digits[1][~held])
        error = (naive.predict(scaler.transform(digits[0][held])) != digits[1][held]).mean()
        assert result.fit.validation_errors[at] == pytest.approx(error, abs=1.5 / held.sum())
    assert result.fit.chosen_value == result.fit.grid[int(np.argmin(result.fit.validation_errors))]


@pytest.mark.parametrize("shape", [(60, 7), (40, 90)])
def test_ridge_equals_scikit_learns_and_has_exact_leave_one_out_errors(shape):
    features, labels = blobs(*shape, classes=3)
    strengths = (30.0, 1.0, 0.1)
    weights, intercepts, errors = ridge_path(features, labels, strengths)
    for at, strength in enumerate(strengths):
        fitted = RidgeClassifier(alpha=strength).fit(features, labels)
        np.testing.assert_allclose(2 * weights[at], fitted.coef_, atol=1e-8)
        np.testing.assert_allclose(2 * intercepts[at] - 1, fitted.intercept_, atol=1e-8)
        wrong = 0
        for row in range(len(labels)):
            others = np.arange(len(labels)) != row
            without = RidgeClassifier(alpha=strength).fit(features[others], labels[others])
            wrong += without.predict(features[row : row + 1])[0] != labels[row]
        assert errors[at] == pytest.approx(wrong / len(labels))


def test_knn_equals_scikit_learns(parts):
    result = evaluate_probe("knn", *parts)
    naive = KNeighborsClassifier(result.fit.chosen_value, metric="cosine", algorithm="brute").fit(*parts[:2])
    np.testing.assert_array_equal(result.predicted, naive.predict(parts[2]))
    held = held_out_mask(parts[1], 0.2, 0)
    for k, error in zip(result.fit.grid, result.fit.validation_errors, strict=True):
        naive = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(parts[0][~held], parts[1][~held])
        assert error == pytest.approx(1 - naive.score(parts[0][held], parts[1][held]))


def test_nearest_mean_equals_scikit_learns(parts):
    scaler = StandardScaler().fit(parts[0])
    naive = NearestCentroid().fit(scaler.transform(parts[0]), parts[1])
    np.testing.assert_array_equal(
        evaluate_probe("nearest-mean", *parts).predicted, naive.predict(scaler.transform(parts[2]))
    )


def test_a_class_with_one_sample_is_never_held_out():
    labels = np.repeat(np.arange(4), (1, 2, 3, 40))
    held = np.bincount(labels[held_out_mask(labels, 0.2, 0)], minlength=4)
    assert held.tolist() == [0, 1, 1, 8]
    assert np.bincount(labels[held_out_mask(labels, 0.999, 0)], minlength=4).tolist() == [0, 1, 2, 39]


@pytest.mark.parametrize("name", PROBES)
def test_degenerate_samples_have_a_result(name):
    features, labels = blobs()
    for changed in (np.hstack([features, features]), np.hstack([features, np.ones((200, 2))]), features[:, :1] * 0):
        assert 0 <= evaluate_probe(name, *halves(changed, labels)).value <= 1
    train = np.random.default_rng(0).standard_normal((12, 30))
    few = evaluate_probe(name, train, np.array([0] * 6 + [1] * 5 + [7]), train, np.array([0] * 6 + [1] * 5 + [9]))
    assert few.misclassified[-1]
    assert any(
        "1 test samples belong to 1 classes without training samples" in note for note in few.notes_by_kind.values()
    )
    alone = evaluate_probe(name, features[:4], labels[:4], *halves(features, labels)[2:])
    assert len(alone.fit.validation_errors) in (0, 20)


def test_notes_describe_how_the_hyperparameter_was_chosen(monkeypatch):
    features, labels = blobs()
    result = evaluate_probe("linear", features[:4], labels[:4], features, labels)
    assert result.fit.validation_errors == ()
    assert "is a default" in list(result.notes_by_kind.values())[-1]
    one = evaluate_probe("linear", features[:41], np.append(labels[:40], 9), features, labels)
    assert "1 classes have one training sample. These" in next(iter(one.notes_by_kind.values()))
    rows = (labels == 0) | (np.arange(200) % 3 == 0)  # one class prevails, so that the strongest finds no other
    monkeypatch.setattr(probe_evaluation, "STRENGTHS", (1e6, 10.0))
    ends = evaluate_probe("linear", *halves(features[rows], labels[rows], 40))
    text = "The chosen L2 strength 10 is at an end of its grid. A wider grid may give a lower error."
    assert ends.notes_by_kind == {"end of grid": text}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "linaer"}, "Unknown probe 'linaer'. Did you mean linear"),
        ({"train_labels": np.zeros(120, int)}, r"training labels have one class \(0\)"),
        ({"test_features": np.ones((80, 3))}, "test samples have 3 features, but the training samples have 10"),
        ({"test_features": np.full((80, 10), np.nan)}, r"in 80 of 80 rows \(0, 1, 2, 3, 4, [.]{3}\)[.] Remove"),
        ({"test_features": np.ones((0, 10)), "test_labels": []}, r"test features have shape \(0, 10\)"),
        ({"train_labels": np.zeros(3, int)}, r"training labels .* Expected integers of shape \(120,\)"),
        ({"train_groups": np.zeros(3)}, "there are 120 samples"),
    ],
)
def test_invalid_input_raises_a_one_line_error(change, message, parts):
    names = ("train_features", "train_labels", "test_features", "test_labels")
    given = {"name": "linear", **dict(zip(names, parts, strict=True)), **change}
    with pytest.raises(InputError, match=message) as caught:
        evaluate_probe(**given)
    assert "\n" not in str(caught.value)


def test_few_shot_errors_decrease_and_draws_are_nested(parts, monkeypatch):
    curve = few_shot_curve("nearest-mean", *parts)
    assert curve.shots.tolist() == [1, 2, 5, 10, 20]
    assert curve.errors.shape == (5, 5)
    assert curve.mean[0] > curve.mean[-1] + 0.1
    np.testing.assert_allclose(curve.sd, curve.errors.std(axis=1, ddof=1))
    monkeypatch.setattr(probe_cross_validation, "SHOTS", (5,))
    np.testing.assert_array_equal(few_shot_curve("nearest-mean", *parts).errors[0], curve.errors[2])


# Repeated cross-validation


def naive_changes(name, features, labels, groups):
    """The change of the error of one cross-validation without one block of groups after the other."""

    def wrong(left_out):
        errors = np.zeros(len(labels))
        for test in repeated_folds(labels, groups, 3, 1, 0).test:
            fit, judged = ~test & ~left_out, test & ~left_out
            parts = (features[fit], labels[fit], features[judged], labels[judged])
            result = evaluate_probe(name, *parts, train_groups=groups[fit])
            errors[judged] = result.predicted != labels[judged]
        return errors

    every = wrong(np.zeros(len(labels), bool))
    return np.array([(wrong(block) - every)[~block].mean() for block in group_blocks(labels, groups, 0)])


def naive_cross_validation(name, features, labels, groups, repeats):
    """Return the error of each sample in each repeat, (repeats, n), by plain loops."""
    errors = np.full((repeats, len(labels)), np.nan)
    for repeat in range(repeats):
        folds = stratified_folds(labels, groups, repeat << 32, 3)
        for fold in range(3):
            fit = folds != fold
            result = evaluate_probe(
                name, features[fit], labels[fit], features[~fit], labels[~fit],
                train_groups=None if groups is None else groups[fit],
            )  # fmt: skip
            errors[repeat, ~fit] = result.predicted != labels[~fit]
    return errors


@pytest.mark.parametrize("name", ["nearest-mean", "ridge"])
@pytest.mark.parametrize("grouped", [False, True])
def test_cross_validation_equals_plain_loops(name, grouped):
    features, labels = blobs()
    groups = np.random.default_rng(3).integers(25, size=200) if grouped else None
    probe = cross_validate_probe(name, features, labels, groups, repeats=3)
    errors = naive_cross_validation(name, features, labels, groups, 3)
    assert probe.value == pytest.approx(errors.mean())
    units = np.arange(200) if groups is None else groups
    sums = np.array([(errors.mean(0) - errors.mean())[units == unit].sum() for unit in np.unique(units)])
    n_units = len(sums)
    shares = np.unique(units, return_counts=True)[1] / 200
    variance = ((sums / 200) ** 2 / (1 - shares)).sum()
    if grouped:
        changes = naive_changes(name, features, labels, groups)
        variance += (len(changes) - 1) / len(changes) * ((changes - changes.mean()) ** 2).sum()
    else:
        variance += errors.mean(axis=1).var(ddof=1)
    assert probe.standard_error == pytest.approx(np.sqrt(variance))
    assert (probe.n_units, probe.samples, probe.repeats) == (n_units, 200, 3)
    assert probe.interval[0] < probe.value < probe.interval[1]


def test_probe_without_errors_has_an_upper_limit_above_zero():
    labels = np.arange(60) % 3
    probe = cross_validate_probe("nearest-mean", np.eye(3)[labels], labels, np.arange(60) // 3 % 20 * 3 + labels)
    assert probe.value == 0
    assert probe.interval[0] == 0
    assert probe.interval[1] == pytest.approx(1 - 0.025 ** (1 / probe.n_units))


def test_few_groups_have_no_interval_and_a_note_says_why():
    features, labels = blobs()
    probe = cross_validate_probe("nearest-mean", features, labels, np.arange(200) % 7)
    assert probe.interval is None
    assert probe.notes[0].startswith("There is no interval, because the samples belong to 7 groups. At least 8")
    other = cross_validate_probe("ridge", features, labels, np.arange(200) % 7)
    assert paired_difference(probe.errors, other.errors).p_value is None


@pytest.mark.parametrize("name", PROBES)
def test_notes_of_splits_are_counted(name):
    features, labels = blobs()
    labels = np.append(labels, [8])
    probe = cross_validate_probe(name, np.vstack([features, features[:1]]), labels, repeats=2)
    unseen = [note for note in probe.notes if "without training samples" in note]
    assert unseen == [
        "2 of 6 fits have a note such as: 1 test samples belong to 1 classes without training samples. "
        "They count as misclassified."
    ]
    assert len(probe.chosen_values) == (0 if name == "nearest-mean" else 6)


def test_one_repeat_raises_a_usage_error():
    with pytest.raises(UsageError, match=r"number of repeats is 1[.] Expected at least 2"):
        cross_validate_probe("ridge", *blobs(), repeats=1)


def test_paired_probes_have_the_naive_standard_error():
    features, labels = blobs()
    noisy = features + 0.5 * np.random.default_rng(8).standard_normal(features.shape)
    groups = np.arange(200) % 20
    probes = [cross_validate_probe("nearest-mean", array, labels, groups) for array in (noisy, features)]
    difference = paired_difference(probes[0].errors, probes[1].errors)
    errors = np.subtract(*(naive_cross_validation("nearest-mean", x, labels, groups, 5) for x in (noisy, features)))
    means = np.array([errors.mean(0)[groups == group].mean() for group in range(20)])
    changes = np.subtract(*(naive_changes("nearest-mean", x, labels, groups) for x in (noisy, features)))
    variance = means.var(ddof=1) / 20 + (len(changes) - 1) / len(changes) * ((changes - changes.mean()) ** 2).sum()
    assert difference.value == pytest.approx(errors.mean())
    assert difference.standard_error == pytest.approx(np.sqrt(variance))


def test_groups_are_held_out_together_and_leave_every_class_in_training():
    rng = np.random.default_rng(0)
    for seed in range(20):
        labels = rng.integers(4, size=60)
        groups = rng.integers(12, size=60)
        mask = held_out_mask(labels, 0.3, seed, groups)
        assert not set(groups[mask]) & set(groups[~mask])
        assert set(labels[~mask]) == set(labels)
    np.testing.assert_array_equal(held_out_mask(labels, 0.3, 1), held_out_mask(labels, 0.3, 1, np.arange(60)))
    alone = held_out_mask(np.repeat([0, 1], 10), 0.5, 0, np.repeat([0, 1, 2], [10, 5, 5]))
    assert not alone[:10].any()
    assert alone.sum() == 5


@pytest.mark.parametrize("name", ["linear", "ridge", "knn"])
def test_hyperparameters_are_chosen_on_whole_groups(name):
    # Each group has a vector of its own, so that samples of one group predict each other, but no other group.
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 5)
    labels = groups % 2
    features = np.repeat(rng.standard_normal((40, 30)), 5, axis=0) + 0.1 * rng.standard_normal((200, 30))
    parts = (features[:160], labels[:160], features[160:], labels[160:])
    blind = evaluate_probe(name, *parts)
    grouped = evaluate_probe(name, *parts, train_groups=groups[:160])
    assert min(blind.fit.validation_errors) < 0.05
    assert min(grouped.fit.validation_errors) > 0.2


def test_entity_f1_equals_the_micro_f1_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.choice(5, 300, p=[0.6, 0.1, 0.1, 0.1, 0.1])
    predicted = np.where(rng.random(300) < 0.6, truth, rng.integers(6, size=300))
    for outside in (0, 2, 9):
        labels = [label for label in range(6) if label != outside]
        assert entity_f1(predicted, truth, outside).value == pytest.approx(
            f1_score(truth, predicted, labels=labels, average="micro")
        )


def test_entity_f1_of_outside_words_alone_is_undefined():
    found = entity_f1([0, 0], [0, 0], 0)
    assert np.isnan([found.value, found.precision, found.recall]).all()
    assert entity_f1([0, 0], [0, 1], 0).value == 0


def test_words_have_an_entity_f1_besides_their_error():
    features, labels = blobs()
    probe = cross_validate_probe("nearest-mean", features, labels, outside=0)
    assert 0.7 < probe.entity_f1.value <= 1
    assert cross_validate_probe("nearest-mean", features, labels).entity_f1 is None


# Folds, cross-validation and heads


def test_folds_are_stratified_and_keep_groups_together():
    labels = np.repeat(np.arange(3), 50)
    folds = stratified_folds(labels, None, seed=1)
    assert [np.bincount(folds[labels == label]).tolist() for label in range(3)] == [[10] * 5] * 3
    groups = np.arange(150) // 5
    grouped = stratified_folds(labels, groups, seed=1)
    assert all(len(set(grouped[groups == group])) == 1 for group in range(30))
    assert np.bincount(grouped).tolist() == [30] * 5


@pytest.mark.parametrize("classes", [2, 4])
def test_affine_weights_give_the_logits_of_features_that_are_not_standardized(classes):
    features, labels = blobs(classes=classes)
    features = 3 * features + 5
    linear = logistic_path(features, labels, [1.0])
    weights, biases = linear.affine()
    np.testing.assert_allclose(features @ weights.T + biases, linear.logits(features), atol=1e-9)
