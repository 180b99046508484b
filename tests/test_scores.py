"""Tests of each score against golden values on iris, against a naive implementation, and on edge cases."""

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal, spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier

from modgap.discrepancy import estimate
from modgap.errors import InputError, UsageError
from modgap.labels.label_space import label_space
from modgap.probes.ridge import STRENGTHS_PER_SAMPLE, cross_validated_ridge
from modgap.ranking.cross_validation import REPEATS, assign_folds
from modgap.ranking.score import ErrorOptions
from modgap.ranking.scores import DEFAULT_RANKING_SCORES, default_scores, get_score, score_names
from modgap.ranking.scores.gbc import gbc
from modgap.ranking.scores.h_score import ledoit_wolf_shrinkage
from modgap.ranking.scores.knn import neighbor_means
from modgap.ranking.scores.leep import leep
from modgap.ranking.scores.linear_probe import probe_error
from modgap.ranking.scores.logme import logme
from modgap.ranking.scores.nce import nce
from modgap.ranking.scores.otdd import dataset_distance
from modgap.ranking.scores.parc import parc
from modgap.ranking.scores.transrate import transrate
from modgap.ranking.source_outputs import SourceOutputs, bound_magnitudes, center_columns, principal_components
from modgap.statistics.jackknife import group_blocks
from modgap.statistics.splits import repeated_halves

X, Y = load_iris(return_X_y=True)
IRIS = SourceOutputs(X, Y, X @ ((np.arange(20).reshape(4, 5) % 7 - 3) / 4))
GOLDEN = {
    "leep": -0.7130844516907596,
    "nce": -0.4994991443876836,
    "logme": -0.1600602436621271,
    "h-score": 1.1918988250416602,
    "h-score-shrunk": 1.177842499331281,
    "transrate": 0.5894054063746488,
    "gbc": -0.230685578654914,
}


def drawn(seed=0, n=40, width=7, classes=3, outputs=5):
    """Return features that depend on the labels, and logits that depend on them less."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    features = rng.standard_normal((n, width)) + 0.8 * np.eye(classes, width)[labels]
    return SourceOutputs(features, labels, rng.standard_normal((n, outputs)) + np.eye(classes, outputs)[labels])


# Golden values


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_value_on_iris(name):
    assert get_score(name).evaluate(IRIS) == pytest.approx(GOLDEN[name], rel=1e-9)


def test_golden_value_of_logme_for_values():
    assert logme(X[:, :3], X[:, 3:]) == pytest.approx(0.1598265514565667, rel=1e-9)
    assert get_score("logme").evaluate(SourceOutputs(X[:, :3], Y, values=X[:, 3:])) == pytest.approx(
        0.1598265514565667, rel=1e-9
    )


def test_published_value_of_parc_breaks_ties_by_rounding():
    """The last bits of np.corrcoef separate pairs of equal similarity, unless NumPy is old and they tie."""
    upper = np.triu_indices(len(X), 1)
    standard = (X - X.mean(0)) / X.std(0)
    apart, labels = (1 - np.corrcoef(rows)[upper] for rows in (standard, np.eye(3)[Y]))
    if len(np.unique(labels)) > 2:
        assert 100 * spearmanr(apart, labels).statistic == pytest.approx(61.2170104885269, rel=1e-9)
    tied = np.where(Y[upper[0]] == Y[upper[1]], 0, 1.5)
    assert get_score("parc").evaluate(IRIS) == pytest.approx(100 * spearmanr(apart, tied).statistic, rel=1e-9)
    assert get_score("parc").evaluate(IRIS) == pytest.approx(58.679784035, rel=1e-9)


def test_logme_of_noise_depends_on_the_rank_of_the_features():
    rng = np.random.default_rng(0)
    values = [logme(rng.standard_normal((300, 512)), np.eye(10)[rng.integers(0, 10, 300)]) for _ in range(3)]
    assert np.mean(values) == pytest.approx(-0.29, abs=0.01)
    published = [naive_logme(rng.standard_normal((300, 512)), rng.integers(0, 10, 300), rank=512) for _ in range(3)]
    assert np.mean(published) == pytest.approx(3.05, abs=0.1)


# Naive twins


def naive_leep(theta, labels):
    total = 0.0
    for i, y in enumerate(labels):
        expected = 0.0
        for z in range(theta.shape[1]):
            joint = sum(theta[j, z] for j in range(len(labels)) if labels[j] == y)
            expected += joint / theta[:, z].sum() * theta[i, z]
        total += math.log(expected)
    return total / len(labels)


def naive_nce(predicted, labels):
    pairs = list(zip(labels, predicted, strict=True))
    return sum(
        count / len(pairs) * math.log(count / sum(z == other for _, other in pairs))
        for (y, z) in set(pairs)
        if (count := pairs.count((y, z)))
    )


def naive_logme(features, labels, rank=None):
    """Compute LogME with full matrices in place of the decomposition."""
    n, width = features.shape
    squares, vectors = np.linalg.eigh(features.T @ features)
    nonzero = squares > squares.max() * max(n, width) * np.finfo(float).eps
    evidences = []
    for label in range(labels.max() + 1):
        t = (labels == label).astype(float)
        alpha = beta = 1.0
        for _ in range(11):
            ratio = alpha / beta
            gamma = (squares[nonzero] / (squares[nonzero] + ratio)).sum()
            mean = vectors[:, nonzero] @ ((vectors[:, nonzero].T @ features.T @ t) / (squares[nonzero] + ratio))
            residual = ((features @ mean - t) ** 2).sum()
            alpha, beta = gamma / (mean @ mean + 1e-5), (n - gamma) / (residual + 1e-5)
            if abs(alpha / beta - ratio) / ratio <= 1e-3:
                break
        outputs = (rank or nonzero.sum()) / 2 * np.log(alpha) + n / 2 * np.log(beta)
        outputs -= 0.5 * np.log(alpha + beta * squares[nonzero]).sum() + (beta * residual + alpha * mean @ mean) / 2
        evidences.append((outputs - n / 2 * np.log(2 * np.pi)) / n)
    return np.mean(evidences)


def naive_h(outputs, *, shrunk=False):
    features, labels = outputs.features, outputs.labels
    means = np.array([features[labels == label].mean(0) for label in labels])
    if not shrunk:
        return np.trace(np.linalg.pinv(np.cov(features.T), rcond=1e-12) @ np.cov(means.T))
    fitted = LedoitWolf().fit(features)
    return np.trace(np.linalg.inv(fitted.covariance_) @ ((1 - fitted.shrinkage_) * np.cov(means.T)))


def naive_transrate(features, labels):
    def rate(points):
        inner = np.eye(points.shape[1]) + points.T @ points / (len(points) * 1e-4)
        return 0.5 * np.log(np.linalg.eigvalsh(inner)).sum()

    centered = features - features.mean(0)
    parts = [(labels == label).mean() * rate(centered[labels == label]) for label in np.unique(labels)]
    return rate(centered) - sum(parts)


def copied_transrate(features, labels):
    """TransRate as many projects compute it, from the code in the paper's appendix: classes have equal weight."""

    def rate(points):
        return 0.5 * np.linalg.slogdet(np.eye(points.shape[1]) + points.T @ points / (len(points) * 1e-4))[1]

    centered = features - features.mean(0)
    return rate(centered) - np.mean([rate(centered[labels == label]) for label in np.unique(labels)])


def naive_gbc(features, labels):
    total = 0.0
    for a, b in itertools.permutations(np.unique(labels), 2):
        one, other = features[labels == a], features[labels == b]
        distance = 0.0
        for d in range(features.shape[1]):
            v, w = max(one[:, d].var(), 1e-4), max(other[:, d].var(), 1e-4)
            distance += (one[:, d].mean() - other[:, d].mean()) ** 2 / (v + w) / 4
            distance += 0.5 * math.log((v + w) / 2 / math.sqrt(v * w))
        total -= math.exp(-distance)
    return total


def naive_n_leep(features, labels, seed=0):
    """Compute components by singular value decomposition and responsibilities by Bayes' rule."""
    centered = features - features.mean(0)
    _, values, rows = np.linalg.svd(centered, full_matrices=False)
    shares = np.cumsum(values**2) / (values**2).sum()
    points = centered @ rows[: int((shares < 0.8).sum()) + 1].T
    clusters = min(5 * (labels.max() + 1), len(points) // 4)
    fitted = GaussianMixture(clusters, covariance_type="diag", random_state=seed, reg_covar=1e-6 * points.var(0).max())
    fitted.fit(points)
    density = np.array([
        weight * multivariate_normal(mean, np.diag(variance)).pdf(points)
        for weight, mean, variance in zip(fitted.weights_, fitted.means_, fitted.covariances_, strict=True)
    ]).T  # fmt: skip
    return naive_leep(density / density.sum(1, keepdims=True), labels)


@pytest.mark.parametrize(("n", "width"), [(60, 7), (45, 60)])
def test_n_leep_equals_its_naive_twin(n, width):
    one = drawn(3, n, width)
    assert get_score("n-leep").evaluate(one) == pytest.approx(naive_n_leep(one.features, one.labels), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "width"), [(40, 7), (31, 60)])
def test_scores_equal_their_naive_twins(seed, n, width):
    one = drawn(seed, n, width)
    features, labels = one.features, one.labels
    assert leep(one.probabilities, labels) == pytest.approx(naive_leep(one.probabilities, labels), rel=1e-12)
    predicted = one.probabilities.argmax(1)
    assert nce(predicted, labels) == pytest.approx(naive_nce(predicted, labels), rel=1e-12)
    assert get_score("logme").evaluate(one) == pytest.approx(naive_logme(features, labels), rel=1e-7)
    assert get_score("h-score").evaluate(one) == pytest.approx(naive_h(one), rel=1e-7)
    assert get_score("h-score-shrunk").evaluate(one) == pytest.approx(naive_h(one, shrunk=True), rel=1e-9)
    assert get_score("transrate").evaluate(one) == pytest.approx(naive_transrate(features, labels), rel=1e-9)
    assert gbc(features, labels) == pytest.approx(naive_gbc(features, labels), rel=1e-9)


def test_transrate_weights_the_classes_by_their_shares_and_copied_code_does_not():
    score = get_score("transrate")
    assert score.evaluate(IRIS) == pytest.approx(copied_transrate(X, Y), rel=1e-9)
    unequal = np.r_[:5, 50:150]
    features, labels = X[unequal], Y[unequal]
    ours, copied = score.evaluate(SourceOutputs(features, labels)), copied_transrate(features, labels)
    assert ours == pytest.approx(naive_transrate(features, labels), rel=1e-9)
    text = " ".join((Path(__file__).parent.parent / "docs" / "ranking.md").read_text(encoding="utf-8").split())
    more = 100 * (copied / ours - 1)
    assert f"samples of iris, the code gives {copied:.2f} and modgap {ours:.2f} ({more:+.0f} %)" in text
    assert more > 50


@pytest.mark.parametrize(("n", "width"), [(300, 20), (20, 90), (50, 50)])
def test_shrinkage_equals_scikit_learn(n, width):
    points = np.random.default_rng(n).standard_normal((n, width)) * np.linspace(0.1, 5, width)
    centered = points - points.mean(0)
    variances = np.linalg.eigvalsh(centered.T @ centered / n)
    assert ledoit_wolf_shrinkage(centered, variances) == pytest.approx(LedoitWolf().fit(points).shrinkage_, rel=1e-9)


@pytest.mark.parametrize(("n", "width"), [(30, 8), (8, 30), (12, 12)])
def test_principal_components_equal_the_singular_value_decomposition(n, width):
    rows = np.random.default_rng(1).standard_normal((n, 3)) @ np.random.default_rng(2).standard_normal((3, width))
    squares, components = principal_components(rows)
    np.testing.assert_allclose(squares[::-1], np.linalg.svd(rows, compute_uv=False)[:3] ** 2, rtol=1e-9)
    np.testing.assert_allclose(rows @ components @ components.T, rows, atol=1e-9)
    assert principal_components(np.zeros((4, 2)))[0].tolist() == [0]


def test_cross_validated_ridge_equals_scikit_learn():
    one = drawn(5, 60, 9)
    targets, folds = one.target_matrix, assign_folds(one, 0)
    predictions = cross_validated_ridge(one.features, targets, folds)
    standard = (one.features - one.features.mean(0)) / one.features.std(0)
    by_strength = []
    for strength in STRENGTHS_PER_SAMPLE:
        predicted = np.empty_like(targets)
        for fold in range(5):
            out = folds == fold
            fitted = Ridge(alpha=strength * (~out).sum()).fit(standard[~out], targets[~out])
            predicted[out] = fitted.predict(standard[out])
        by_strength.append(predicted)
    best = min(by_strength, key=lambda predicted: ((predicted - targets) ** 2).sum())
    np.testing.assert_allclose(predictions, best, atol=1e-9)


def test_ridge_with_more_features_than_samples_ignores_constant_features():
    one = drawn(6, 30, 80)
    folds = assign_folds(one, 0)
    wide = cross_validated_ridge(one.features, one.target_matrix, folds)
    # Features of zero variance change nothing.
    padded = np.hstack([one.features, np.ones((30, 3))])
    np.testing.assert_allclose(cross_validated_ridge(padded, one.target_matrix, folds), wide, atol=1e-7)
    assert probe_error(one) == (wide.argmax(1) != one.labels).mean()


def test_neighbors_equal_scikit_learn_without_the_sample_itself():
    one = drawn(7, 50, 6)
    predictions = neighbor_means(one.features, one.target_matrix, np.arange(50), [np.arange(50)])[0]
    for i in range(50):
        others = np.delete(np.arange(50), i)
        fitted = KNeighborsClassifier(5, metric="cosine").fit(one.features[others], one.labels[others])
        np.testing.assert_allclose(fitted.predict_proba(one.features[i : i + 1])[0], predictions[i], atol=1e-12)


def test_equally_near_neighbors_count_in_their_order_and_those_of_the_same_group_never():
    rng = np.random.default_rng(0)
    # Four of eight entries are 1 or -1, so similarities are exact multiples of 1/4 with many ties.
    features = rng.permuted(np.tile([1.0, 1, 1, 1, 0, 0, 0, 0], (700, 1)), axis=1) * rng.choice([-1, 1], (700, 8))
    targets, groups = rng.random((700, 3)), rng.integers(0, 40, 700)
    queries = np.sort(rng.permutation(700)[:600])
    similarity = features @ features.T
    similarity[groups[:, None] == groups] = -np.inf
    nearest = np.argsort(-similarity, axis=1, kind="stable")[queries, :5]
    predicted = neighbor_means(features, targets, queries, [np.arange(700), groups])[1]
    np.testing.assert_allclose(predicted, targets[nearest].mean(1), rtol=1e-12)


def test_fewer_than_five_neighbors_of_other_groups_are_averaged():
    features = np.array([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]])
    targets = np.arange(8.0).reshape(4, 2)
    predicted = neighbor_means(features, targets, np.array([0, 3]), [np.array([0, 0, 1, 2])])[0]
    np.testing.assert_allclose(predicted, [targets[2:].mean(0), targets[:3].mean(0)])
    with pytest.raises(InputError, match="no neighbor outside its own group"):
        neighbor_means(features, targets, np.array([0]), [np.zeros(4, int)])


def test_neighbors_of_the_same_group_do_not_count():
    features = np.repeat(np.eye(4), 6, axis=0) + 0.01 * np.random.default_rng(0).random((24, 4))
    labels = np.repeat([0, 1, 0, 1], 6)
    predicted = neighbor_means(features, np.eye(2)[labels], np.arange(24), [np.arange(24)])[0]
    assert (predicted.argmax(1) == labels).all()
    grouped = SourceOutputs(features, labels, groups=np.repeat(np.arange(4), 6))
    assert get_score("knn").evaluate(grouped) > 0.3


# Errors by sample

GROUPS = np.arange(40) // 4


def naive_map(mass):
    """Return the best injective map by trying all of them."""
    n_classes, n_source_classes = mass.shape
    maps = itertools.permutations(range(n_source_classes), n_classes)
    return max(maps, key=lambda one: sum(mass[k, c] for k, c in enumerate(one)))


def naive_weights(labels, groups, weight):
    """Return the weight of each sample by one loop over the samples."""
    units = np.arange(len(labels)) if groups is None else groups
    if weight == "samples":
        return np.full(len(labels), 1 / len(labels))
    if weight == "groups":
        return np.array([1 / len(set(units)) / (units == unit).sum() for unit in units])
    classes = set(labels)
    return np.array([
        1 / len(classes) / len(set(units[labels == y])) / ((labels == y) & (units == unit)).sum()
        for y, unit in zip(labels, units, strict=True)
    ])  # fmt: skip


def naive_temperature(logits, n_classes):
    """Find by bisection the temperature at which the mean entropy is half of log K."""
    low, high = 1e-6, 1e6
    for _ in range(200):
        middle = math.sqrt(low * high)
        probabilities = np.exp((logits - logits.max(1, keepdims=True)) / middle)
        probabilities /= probabilities.sum(1, keepdims=True)
        entropy = -np.where(probabilities > 0, probabilities * np.log(np.maximum(probabilities, 1e-300)), 0).sum(1)
        low, high = (low, middle) if entropy.mean() > math.log(n_classes) / 2 else (middle, high)
    return low


def naive_error(name, outputs, weights, fit, test, theta):
    """Return the error of each tested sample of one fold."""
    labels = outputs.labels
    mass = np.array([(weights[:, None] * theta)[fit & (labels == y)].sum(0) for y in range(labels.max() + 1)])
    errors = np.zeros(len(labels))
    if name == "leep-held-out":
        prior = np.array([weights[fit & (labels == y)].sum() for y in range(labels.max() + 1)]) / weights[fit].sum()
        mass = len(labels) * mass
        conditional = (mass + prior[:, None]) / (mass.sum(0) + 1)
    best = naive_map(mass)
    for i in np.flatnonzero(test):
        if name == "leep-held-out":
            errors[i] = -math.log(sum(theta[i, z] * conditional[labels[i], z] for z in range(theta.shape[1])))
        else:
            errors[i] = 1 - theta[i, best[labels[i]]]
    return errors


def naive_influences(outputs, weights, theta):
    """Return the derivative of LEEP on all samples by each one's weight in the class probabilities, numerically."""
    labels, n, step = outputs.labels, len(outputs.labels), 1e-6
    prior = np.array([weights[labels == y].sum() for y in range(labels.max() + 1)])

    def mean_log_probability(fitted):
        mass = n * np.array([(fitted[:, None] * theta)[labels == y].sum(0) for y in range(labels.max() + 1)])
        conditional = (mass + prior[:, None]) / (mass.sum(0) + 1)
        return weights @ np.log((theta * conditional[labels]).sum(1))

    one = step * np.eye(n)
    slopes = [(mean_log_probability(weights + one[i]) - mean_log_probability(weights - one[i])) for i in range(n)]
    influences = np.array(slopes) / (2 * step)
    return influences - weights @ influences


@pytest.mark.parametrize("name", ["soft", "soft-matched", "leep-held-out"])
@pytest.mark.parametrize(("groups", "weight"), [(None, "samples"), (GROUPS, "groups"), (None, "classes")])
def test_errors_of_soft_scores_equal_their_naive_twins(name, groups, weight):
    one = replace(drawn(11, outputs=4), groups=groups)
    scored = get_score(name).sample_errors(one, ErrorOptions(weight, splits=3), seed=5)
    temperature = naive_temperature(one.logits, 3) if name == "soft-matched" else 1.0
    theta = np.exp(one.logits / temperature) / np.exp(one.logits / temperature).sum(1, keepdims=True)
    weights = naive_weights(one.labels, groups, weight)
    splits = repeated_halves(label_space(one.labels), groups, 3, 5)
    folds = [naive_error(name, one, weights, splits.fit[j], splits.test[j], theta) for j in range(6)]
    by_repeat = np.array(folds).reshape(3, 2, -1).sum(1)
    expected = by_repeat.mean(0) - (naive_influences(one, weights, theta) if name == "leep-held-out" else 0)
    np.testing.assert_allclose(scored.errors, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(scored.averages, by_repeat @ weights, rtol=1e-6)
    assert (scored.without is None) == (groups is None or name == "leep-held-out")
    if scored.without is not None:
        expected = [
            np.mean([
                weights @ naive_error(name, one, weights, np.asarray(splits.fit[j]) & ~block, splits.test[j], theta)
                for j in range(4)
            ]) * 2
            for block in group_blocks(one.labels, groups, 5)
        ]  # fmt: skip
        np.testing.assert_allclose(scored.without, expected, rtol=1e-6)
    np.testing.assert_allclose(scored.weights, weights)
    value = get_score(name).mean_of(scored).value
    assert value == pytest.approx((-1 if name == "leep-held-out" else 1) * by_repeat.mean(0) @ weights, rel=1e-6)


def test_the_discrepancy_equals_that_of_the_estimator():
    one = drawn(12, outputs=6)
    assert get_score("discrepancy").evaluate(one) == estimate(one.logits, one.labels).estimates["search"].held_out


@pytest.mark.parametrize("name", ["discrepancy", "discrepancy-ratio", "discrepancy-montecarlo"])
def test_the_discrepancy_depends_on_the_order_of_the_logits_alone(name):
    """Single precision would tie most logits beside an offset of a million."""
    one = drawn(12, outputs=6)
    shifted = replace(one, logits=np.round(one.logits, 6) + 1e6)
    assert get_score(name).evaluate(shifted) == get_score(name).evaluate(one)


@pytest.mark.parametrize(("groups", "weight"), [(None, None), (GROUPS, None), (GROUPS, "classes"), (None, "classes")])
@pytest.mark.parametrize("name", ["knn", "linear-probe"])
def test_errors_of_features_are_means_over_cross_validations(name, groups, weight):
    one = replace(drawn(13), groups=groups)
    scored = get_score(name).sample_errors(one, ErrorOptions(weight), seed=2)

    def wrong_of(rows, folds):
        features, targets = one.features[rows], one.target_matrix[rows]
        if name == "knn":
            predicted = neighbor_means(features, targets, np.arange(len(rows)), [folds[rows]])[0]
        else:
            predicted = cross_validated_ridge(features, targets, folds[rows])
        return predicted.argmax(1) != one.labels[rows]

    assigned = [assign_folds(one, 2 + (repeat << 32)) for repeat in range(REPEATS)]
    wrong = [wrong_of(np.arange(40), folds) for folds in assigned]
    weights = naive_weights(one.labels, groups, weight or ("samples" if groups is None else "groups"))
    np.testing.assert_allclose(scored.errors, np.mean(wrong, 0))
    np.testing.assert_allclose(scored.averages, np.array(wrong) @ weights)
    assert (scored.without is None) == (groups is None and weight is None)
    if scored.without is not None:
        changes = []
        for block in group_blocks(one.labels, np.arange(40) if groups is None else groups, 2):
            rows = np.flatnonzero(~block)
            changes.append(np.average(wrong_of(rows, assigned[0]) - 1.0 * wrong[0][rows], weights=weights[rows]))
        np.testing.assert_allclose(scored.without, changes)
    assert get_score(name).mean_of(scored).value == pytest.approx(np.mean(wrong, 0) @ weights)


def test_samples_that_are_not_tested_have_no_error_and_no_weight():
    labels = np.append(np.arange(20) % 2, 2)
    one = SourceOutputs(np.zeros((21, 1)), labels, np.random.default_rng(0).standard_normal((21, 4)))
    errors = get_score("soft").sample_errors(one, ErrorOptions())
    assert np.isnan(errors.errors[20])
    assert errors.weights[20] == 0
    assert errors.tested.tolist() == list(range(20))


def test_constant_logits_have_no_matched_entropy():
    one = SourceOutputs(np.zeros((20, 1)), np.arange(20) % 2, np.ones((20, 5)))
    with pytest.raises(InputError, match="The logits are constant"):
        get_score("soft-matched").evaluate(one)
    assert get_score("soft").evaluate(one) == pytest.approx(0.8)


@pytest.mark.parametrize("size", [1e160, 1.7e308])
def test_logits_whose_squares_overflow_have_no_matched_entropy(size):
    one = SourceOutputs(np.zeros((20, 1)), np.arange(20) % 2, np.clip(drawn(n=20, classes=2).logits, -1, 1) * size)
    with pytest.raises(InputError, match="Expected logits below 1e150"):
        get_score("soft-matched").evaluate(one)


@pytest.mark.parametrize("name", ["knn", "linear-probe"])
def test_one_group_of_each_class_is_refused_if_a_fold_takes_all(name):
    """The folds of two classes are drawn independently of each other, so they are the same for some seeds."""
    one = drawn(2, classes=2)
    one, n_refused = replace(one, groups=5 + one.labels), 0
    for seed in range(6):
        try:
            get_score(name).evaluate(one, seed)
        except InputError as error:
            n_refused += "No class has two groups (2 in all)" in str(error)
    assert n_refused > 2
    with pytest.raises(InputError, match=r"No class has two samples \(1 in all\)"):
        assign_folds(SourceOutputs(np.zeros((1, 2)), np.array([0])), 0)


def test_entropy_does_not_use_the_labels():
    one = drawn(14)
    theta = one.probabilities
    expected = -np.mean([sum(p * math.log(p) for p in row) for row in theta]) / math.log(theta.shape[1])
    assert get_score("entropy").evaluate(one) == pytest.approx(expected, rel=1e-12)
    assert get_score("entropy").evaluate(replace(one, labels=one.labels[::-1])) == get_score("entropy").evaluate(one)


# Scores prefer informative features


@pytest.mark.parametrize(
    "name", [n for n in score_names() if n not in ("size", "source-error", "otdd", "discrepancy-montecarlo")]
)
def test_score_prefers_features_that_depend_on_the_labels(name):
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.arange(120) % 4)
    noise = rng.standard_normal((120, 12))
    shift, wrong = 4 * np.eye(4, 12)[labels], rng.standard_normal((120, 6))
    informative = SourceOutputs(noise + shift, labels, wrong + 4 * np.eye(4, 6)[labels])
    uninformative = SourceOutputs(noise, labels, wrong)
    better = get_score(name).evaluate(informative) - get_score(name).evaluate(uninformative)
    assert (better > 0) == get_score(name).higher_is_better
    assert better != 0


def test_perfect_source_has_leep_and_nce_of_zero():
    labels = np.arange(30) % 3
    perfect = SourceOutputs(np.eye(3)[labels], labels, 800.0 * np.eye(3)[labels])
    assert get_score("leep").evaluate(perfect) == pytest.approx(0, abs=1e-12)
    assert get_score("nce").evaluate(perfect) == 0
    uninformative = SourceOutputs(np.ones((30, 3)), labels, np.zeros((30, 3)))
    assert get_score("leep").evaluate(uninformative) == pytest.approx(math.log(1 / 3))


def test_leep_ignores_source_classes_of_probability_zero():
    """The softmax of extreme logits is exactly 0 for most of thousands of classes."""
    labels = np.arange(40) % 2
    logits = np.full((40, 3000), -2000.0)
    logits[np.arange(40), labels] = 0
    assert get_score("leep").evaluate(SourceOutputs(np.eye(2)[labels], labels, logits)) == pytest.approx(0)


def test_distance_of_a_source_to_its_own_data_is_the_smallest():
    one = drawn(8, 60, 5)
    near = SourceOutputs(one.features, one.labels, surrogate=(one.features, one.labels))
    far = SourceOutputs(one.features + 3, one.labels, surrogate=(one.features, one.labels))
    assert get_score("otdd").evaluate(near) == pytest.approx(0, abs=1e-9)
    assert get_score("otdd").evaluate(far) > 1


def test_dataset_distance_is_the_cheapest_assignment():
    """Between sets of equal size the optimal transport is a permutation, so all permutations are tried."""
    rng = np.random.default_rng(3)
    one, other = rng.standard_normal((5, 2)), rng.standard_normal((5, 2)) + 1
    labels, classes = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 0, 1])

    def cheapest(a, b, extra=lambda i, j: 0.0):
        # Clouds of unequal size: each point as often as makes them equal.
        i, j = np.repeat(np.arange(len(a)), len(b)), np.repeat(np.arange(len(b)), len(a))
        if len(i) > 6:
            i, j = np.arange(len(a)), np.arange(len(b))
        return min(
            np.mean([((a[x] - b[y]) ** 2).sum() + extra(x, y) for x, y in zip(i, np.array(j)[list(p)], strict=True)])
            for p in itertools.permutations(range(len(j)))
        )

    between = {(k, c): cheapest(one[labels == k], other[classes == c]) for k in (0, 1) for c in (0, 1)}
    expected = cheapest(one, other, lambda i, j: between[labels[i], classes[j]]) / 2
    assert dataset_distance(one, labels, other, classes) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "name", ["discrepancy", "soft", "soft-matched", "leep-held-out", "logme", "parc", "linear-probe", "knn"]
)
def test_scores_are_defined_for_multi_label_and_regression_targets(name):
    rng = np.random.default_rng(2)
    labels = (rng.random((80, 4)) < 0.4).astype(np.int64)
    labels[labels.sum(1) == 0, 0] = 1
    features = rng.standard_normal((80, 10)) + 2 * labels @ rng.standard_normal((4, 10))
    logits = rng.standard_normal((80, 8)) + 3 * labels @ np.eye(4, 8)
    multi_label = SourceOutputs(features, labels, logits)
    regression = SourceOutputs(features, np.argmax(labels, 1), logits, values=labels @ rng.standard_normal((4, 2)))
    shuffled = rng.permutation(80)
    for one in (multi_label, regression):
        shuffled_outputs = SourceOutputs(features[shuffled], one.labels, logits[shuffled], one.values)
        score = get_score(name)
        assert math.isfinite(score.evaluate(one))
        assert (score.evaluate(one) > score.evaluate(shuffled_outputs)) == score.higher_is_better


# Undefined scores and edge cases


def test_undefined_scores_raise_with_the_reason():
    one = drawn()
    with pytest.raises(InputError, match="The score leep needs a classification head, and the source has none"):
        get_score("leep").evaluate(SourceOutputs(one.features, one.labels))
    with pytest.raises(InputError, match="The score gbc is not defined for multi-label targets"):
        get_score("gbc").evaluate(SourceOutputs(one.features, np.eye(3, dtype=int)[one.labels], one.logits))
    with pytest.raises(InputError, match="The score otdd needs labeled data of the source's own modality"):
        get_score("otdd").evaluate(one)
    with pytest.raises(UsageError, match=r"Unknown score 'logmee'. Did you mean logme"):
        get_score("logmee")


def test_the_documentation_names_the_scores_that_are_computed_on_request():
    text = (Path(__file__).parents[1] / "docs" / "ranking.md").read_text(encoding="utf-8")
    paragraphs = [part.replace("\n", " ") for part in text.split("\n\n")]
    sentence = next(part for part in paragraphs if "are computed only when they are named" in part)
    named = set(re.findall(r"`([a-z-]+)`", sentence.split("are computed only")[0]))
    assert named | {"source-error"} == set(score_names()) - set(default_scores())


def test_score_names_are_complete():
    assert set(DEFAULT_RANKING_SCORES.values()) <= set(default_scores())
    assert all(task in get_score(by).tasks for task, by in DEFAULT_RANKING_SCORES.items())
    assert set(default_scores()) < set(score_names())
    assert math.isnan(get_score("source-error").evaluate(drawn()))
    assert get_score("size").evaluate(SourceOutputs(X, Y, properties={"parameters": 12})) == 12


@pytest.mark.parametrize("name", [n for n in score_names() if n not in ("size", "source-error", "otdd")])
@pytest.mark.parametrize("kind", ["constant", "duplicate", "a class of one"])
def test_degenerate_samples_give_a_number(name, kind):
    one = drawn(9, 30, 6)
    features, labels = one.features.copy(), one.labels.copy()
    if kind == "constant":
        features[:] = 1
    elif kind == "duplicate":
        features = np.hstack([features, features, np.zeros((30, 2))])
    else:
        labels[labels == 2] = 1
        labels[0] = 2
    assert isinstance(get_score(name).evaluate(SourceOutputs(features, labels, one.logits)), float)


def test_parc_of_constant_features_is_zero():
    assert parc(np.ones((10, 4)), np.eye(2)[np.arange(10) % 2]) == 0


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_parc_of_values_compares_standardized_distances(columns):
    """All values are positive, so correlations over one or two columns would know only a sign."""
    rng = np.random.default_rng(columns)
    values = rng.uniform(1, 5, (50, columns)) * 10.0 ** np.arange(columns)
    features = np.hstack([values, rng.standard_normal((50, 2))])
    labels = (values[:, 0] > 3).astype(int)
    upper = np.triu_indices(50, 1)
    apart = 1 - np.corrcoef((features - features.mean(0)) / features.std(0))[upper]
    standard = values / values.std(0)
    distances = [math.dist(standard[i], standard[j]) for i, j in itertools.combinations(range(50), 2)]
    score = get_score("parc").evaluate(SourceOutputs(features, labels, values=values))
    assert score == pytest.approx(100 * spearmanr(apart, distances).statistic, rel=1e-9)
    assert score > 10
    shifted = SourceOutputs(features, labels, values=np.hstack([3 * values - 7, np.full((50, 1), 0.1)]))
    assert get_score("parc").evaluate(shifted) == pytest.approx(score, rel=1e-9)


def test_parc_ignores_constant_features():
    one = drawn(3)
    padded = np.hstack([one.features, np.full((40, 3), 3.3)])
    assert get_score("parc").evaluate(replace(one, features=padded)) == get_score("parc").evaluate(one)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-24, 1e20, 1e160, 1e300])
@pytest.mark.parametrize("name", ["h-score", "h-score-shrunk", "n-leep", "parc", "knn", "linear-probe"])
def test_the_unit_of_the_features_does_not_matter(name, scale):
    """Squares of features beyond 1e154 overflow in double precision, and beyond 1e19 in single precision."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    features = rng.standard_normal((40, 5)) + 6 * np.eye(2, 5)[labels]
    expected = get_score(name).evaluate(SourceOutputs(features, labels))
    assert get_score(name).evaluate(SourceOutputs(features * scale, labels)) == pytest.approx(
        expected, rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize(("name", "tiny", "huge"), [("transrate", 0, 0.29), ("gbc", -2, 0), ("logme", -0.34, -16.8)])
def test_scores_that_depend_on_the_unit_reach_their_limits(name, tiny, huge):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    features = rng.standard_normal((40, 5)) + 6 * np.eye(1, 5) * labels[:, None]
    for scale, limit in ((1e-160, tiny), (1e160, huge), (1e300, huge)):
        value = get_score(name).evaluate(SourceOutputs(features * scale, labels))
        assert value == pytest.approx(limit, abs=0.05)


def test_ordinary_magnitudes_are_used_as_they_are():
    features = drawn().features
    for scale in (2.0**-190, 1.0, 2.0**190):
        np.testing.assert_array_equal(bound_magnitudes(features * scale), features * scale)
    unit = features.astype(np.float32)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    targets, groups = np.eye(40), np.arange(40)
    nearest = neighbor_means(features, targets, groups, [groups])[0] > 0
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    expected = np.argsort(-similarity, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(np.flatnonzero(nearest) % 40, np.sort(expected, axis=1).ravel())


@pytest.mark.parametrize("value", [3.3, 1 / 3, -1e-9, 0.0])
@pytest.mark.parametrize(("n", "width"), [(40, 5), (20, 90)])
def test_h_score_of_constant_features_is_zero(value, n, width):
    """The rounding errors of their mean are no variance between the classes."""
    one = SourceOutputs(np.full((n, width), value), np.arange(n) % 2)
    assert get_score("h-score").evaluate(one) == 0
    assert get_score("h-score-shrunk").evaluate(one) == 0


def test_columns_that_differ_in_their_last_bits_are_constant():
    rng = np.random.default_rng(0)
    varied = rng.standard_normal((30, 4)).astype(np.float32)
    last_bits = np.float32(7.1) * (1 + np.finfo(np.float32).eps * rng.integers(0, 3, (30, 1), np.int8))
    centered = center_columns(np.hstack([varied, last_bits]))
    doubled = varied.astype(np.float64)
    np.testing.assert_array_equal(centered[:, :4], doubled - doubled.mean(0))
    np.testing.assert_array_equal(centered[:, 4], 0)
    # In double precision the same column has digits, which are kept.
    assert np.ptp(center_columns(last_bits.astype(np.float64))) > 0


def test_logme_of_zeros_is_the_evidence_of_noise():
    """The precision of the noise is 1 / mean squared target, and no weight explains anything."""
    targets = np.eye(2)[np.arange(40) % 2]
    zeros = get_score("logme").evaluate(SourceOutputs(np.zeros((40, 5)), np.arange(40) % 2))
    assert zeros == logme(np.zeros((40, 1)), targets)
    assert zeros == pytest.approx((math.log(2) - 1 - math.log(2 * math.pi)) / 2, rel=1e-6)
    assert zeros < get_score("logme").evaluate(drawn())


def test_transrate_of_one_class_is_zero():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((20, 4))
    assert transrate(SourceOutputs(points, np.zeros(20, int)).moments, np.zeros(20, int)) == pytest.approx(0)
