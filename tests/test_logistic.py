"""Logistic regression for many L2 strengths: the optima of scikit-learn, on easy and on degenerate data."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from modgap.errors import InputError, UsageError
from modgap.probes.cross_entropy import CrossEntropy
from modgap.probes.logistic import STRENGTHS, logistic_path


def blobs(n=120, width=8, classes=4, seed=0, apart=0.7):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return rng.standard_normal((n, width)) + apart * rng.standard_normal((classes, width))[labels], labels


def reference(path, features, labels, index):
    """Return scikit-learn's fit at the same strength and its objective."""
    fitted = LogisticRegression(C=1 / path.strengths[index], tol=1e-9, max_iter=20_000)
    fitted.fit((features - path.mean) / path.scale, labels)
    return fitted, naive_objective(path, features, labels, index, fitted.coef_, fitted.intercept_)


def naive_objective(path, features, labels, index, weights, intercepts):
    """Return C times the sum of cross-entropies, plus half the squared norm of the coefficients."""
    logits = ((features - path.mean) / path.scale) @ weights.T + intercepts
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    own = logits[np.arange(len(labels)), np.unique(labels, return_inverse=True)[1]]
    return (logsumexp(logits, axis=1) - own).sum() / path.strengths[index] + 0.5 * (weights**2).sum()


def objectives(path, features, labels):
    """Return the objective at the weights of each strength."""
    fits = enumerate(zip(path.weights, path.intercepts, strict=True))
    return np.array([naive_objective(path, features, labels, index, *fit) for index, fit in fits])


def assert_same_optima(path, features, labels, indices, relative=1e-6):
    values = objectives(path, features, labels)
    for index in indices:
        fitted, objective = reference(path, features, labels, index)
        assert values[index] == pytest.approx(objective, rel=relative)
        standard = (features - path.mean) / path.scale
        assert np.mean(path.predict(features, index) == fitted.predict(standard)) > 0.99
        np.testing.assert_allclose(
            softmax(path.logits(features, index), axis=1), fitted.predict_proba(standard), atol=5e-3
        )


def test_optima_equal_those_of_scikit_learn():
    features, labels = blobs()
    assert_same_optima(logistic_path(features, labels), features, labels, range(0, 20, 3))


def test_optima_on_digits_with_some_constant_pixels():
    features, labels = (each[:600] for each in load_digits(return_X_y=True))
    path = logistic_path(features, labels, STRENGTHS[:16])
    constant = features.std(0) == 0
    assert 0 < constant.sum() < 64
    assert (path.scale[constant] == 1).all()
    assert_same_optima(path, features, labels, (2, 8, 15))


def test_optima_with_more_features_than_samples_and_repeated_features():
    features, labels = blobs(40, 100, 3)
    features = np.hstack([features, features[:, :7]])
    path = logistic_path(features, labels, STRENGTHS[::3])
    assert_same_optima(path, features, labels, range(len(path.strengths)))
    np.testing.assert_allclose(path.weights[..., :7], path.weights[..., 100:], atol=1e-8)


def test_two_classes_are_the_binomial_regression():
    features, labels = blobs(classes=2)
    path = logistic_path(features, labels, (100.0, 1.0, 0.01))
    for index in range(3):
        fitted, objective = reference(path, features, labels, index)
        difference = path.weights[index, 1:] - path.weights[index, :1]
        reached = naive_objective(path, features, labels, index, difference, np.diff(path.intercepts[index]))
        assert reached == pytest.approx(objective, rel=1e-6)
        np.testing.assert_allclose(difference, fitted.coef_, atol=1e-3)
        np.testing.assert_allclose(np.diff(path.intercepts[index]), fitted.intercept_, atol=1e-3)


def test_strengths_keep_their_order_and_may_repeat():
    features, labels = blobs()
    path, turned = (logistic_path(features, labels, given) for given in ((10.0, 1.0, 1.0), (1.0, 1.0, 10.0)))
    values = objectives(path, features, labels)
    np.testing.assert_allclose(values, objectives(turned, features, labels)[::-1], rtol=1e-7)
    assert values[0] < values[1]


def test_a_long_jump_between_strengths_reaches_the_same_optimum():
    features, labels = blobs()
    path, jump = (logistic_path(features, labels, given) for given in (STRENGTHS, [STRENGTHS[0], STRENGTHS[-1]]))
    np.testing.assert_allclose(
        objectives(jump, features, labels), objectives(path, features, labels)[[0, -1]], rtol=1e-6
    )
    extremes = logistic_path(features, labels, [1e-6, 1e9, 1e9])
    assert (np.abs(extremes.weights[1:]) < 1e-5).all()
    weakest = [objectives(logistic_path(features, labels, one), features, labels)[0] for one in ([1e-6], [1e-6, 1e-3])]
    assert weakest[0] == pytest.approx(weakest[1], rel=1e-6)


def test_labels_may_have_gaps_and_a_class_may_have_one_sample():
    features, labels = blobs()
    labels = np.append(10 * labels - 5, 1000)
    features = np.vstack([features, 9 * np.ones(8)])
    path = logistic_path(features, labels, [0.01])
    assert path.classes.tolist() == [-5, 5, 15, 25, 1000]
    assert path.predict(features[-1:], 0) == [1000]


def test_loss_and_gradient_agree_with_finite_differences():
    rng = np.random.default_rng(0)
    labels, theta = np.arange(30) % 4, rng.standard_normal((4, 6))
    features = torch.from_numpy(rng.standard_normal((30, 5)))
    loss, gradient = CrossEntropy(features, labels, 4)(theta)
    step = 1e-6 * rng.standard_normal(theta.shape)
    both = CrossEntropy(features, labels, 4)
    assert (both(theta + step)[0] - both(theta - step)[0]) / 2 == pytest.approx((gradient * step).sum(), rel=1e-6)
    naive = logsumexp(logits := features.numpy() @ theta[:, :-1].T + theta[:, -1], axis=1)
    assert loss == pytest.approx((naive - logits[np.arange(30), labels]).sum())


@pytest.mark.parametrize("features", [np.zeros((6, 3)), np.full((6, 3), 0.1, np.float32)])
def test_constant_features_predict_class_frequencies(features):
    path = logistic_path(features, [0, 0, 0, 1, 1, 2], [1.0])
    np.testing.assert_allclose(softmax(path.logits(features[:1], 0), axis=1), [[1 / 2, 1 / 3, 1 / 6]], atol=1e-3)


def test_optima_do_not_depend_on_dtype_and_scale():
    features, labels = blobs()
    small, large = ((features * 2.0**by).astype(np.float32) for by in (0, 40))
    path, scaled = (logistic_path(one, labels, STRENGTHS[::5]) for one in (small, large))
    np.testing.assert_allclose(objectives(path, small, labels), objectives(scaled, large, labels), rtol=1e-9)


@pytest.mark.parametrize(
    ("features", "labels", "strengths", "message"),
    [
        (np.ones((3, 2)), [0, 0, 0], [1.0], r"training labels have one class \(0\)"),
        ([[1.0], [np.nan], [np.inf]], [0, 1, 1], [1.0], r"NaN or infinite values in 2 of 3 rows \(1, 2\)[.] Remove"),
        (np.ones((0, 2)), [], [1.0], "At least one sample and one feature"),
        (np.ones((3, 0)), [0, 1, 2], [1.0], r"shape \(3, 0\)[.] At least one"),
        (np.ones(3), [0, 1, 2], [1.0], r"shape \(n, D\)"),
        (np.ones((3, 2)), [0, 1], [1.0], r"shape \(2,\)[.] Expected integers of shape \(3,\)"),
        (np.ones((3, 2)), [0.0, 1.0, 1.0], [1.0], "labels have type float64"),
        (np.ones((3, 2)), [0, 1, 1], [], "at least one number"),
        (np.ones((3, 2)), [0, 1, 1], [1.0, 0.0], r"strength 0 \(1 / C\) is out of range[.] Expected 1e-06 to 1e[+]09"),
        (np.ones((3, 2)), [0, 1, 1], [np.nan], "strength nan"),
    ],
)
def test_invalid_input_raises_a_one_line_error(features, labels, strengths, message):
    with pytest.raises(InputError, match=message) as caught:
        logistic_path(features, labels, strengths)
    assert "\n" not in str(caught.value)


def test_a_strength_out_of_range_raises_a_usage_error():
    with pytest.raises(UsageError):
        logistic_path(*blobs(), [1e12])


def test_a_different_number_of_features_raises_an_error():
    path = logistic_path(*blobs(), [1.0])
    with pytest.raises(InputError, match="have 3 features, but the probe was fitted on 8"):
        path.predict(np.ones((1, 3)), 0)


def test_results_do_not_depend_on_the_number_of_threads():
    features, labels = load_digits(return_X_y=True)
    before, paths = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                paths.append(logistic_path(features[:400], labels[:400], [1.0, 100.0]))
    finally:
        torch.set_num_threads(before)
    for path in paths[1:]:
        np.testing.assert_array_equal(path.weights, paths[0].weights)
        np.testing.assert_array_equal(path.intercepts, paths[0].intercepts)
