"""Maps and their quality: reproducible, comparable, against scikit-learn, and on degenerate and invalid input."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from modgap.errors import InputError, UsageError
from modgap.probes.tsne_maps import map_quality, tsne_maps

SHORT = {"iterations": (60, 60)}


def clusters(samples=200, width=60, classes=4, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    centers = rng.standard_normal((classes, 3)) @ rng.standard_normal((3, width))
    return (centers[labels] + noise * rng.standard_normal((samples, width))).astype(np.float32), labels


def two_encoders(**options):
    x, labels = clusters(**options)
    return {"untouched": x, "after": x[:, ::2] + np.float32(0.5)}, labels


def test_a_seed_gives_the_same_bits_for_any_number_of_threads():
    features, labels = two_encoders()
    once, again = (tsne_maps(features, labels, threads=threads, **SHORT) for threads in (1, 2))
    assert list(once) == ["untouched", "after"]
    for name, one in once.items():
        assert one.coordinates.dtype == np.float32
        assert one.coordinates.shape == (200, 2)
        np.testing.assert_array_equal(one.coordinates, again[name].coordinates)
        assert (one.kl_divergence, one.quality, one.parameters) == (
            again[name].kl_divergence,
            again[name].quality,
            again[name].parameters,
        )


CHILD = """
import hashlib, sys
import numpy as np
from modgap.probes import tsne_maps
x = np.random.default_rng(0).standard_normal((400, 300)) * np.linspace(1, 3, 300)
for tsne_maps.GRID_FROM in (1, 10_000):
    found = tsne_maps.tsne_maps({"a": x}, np.arange(400) % 3, threads=int(sys.argv[1]), iterations=(20, 20))["a"]
    print(hashlib.sha256(found.coordinates.tobytes()).hexdigest(), found.kl_divergence, found.quality)
"""


@pytest.mark.long
def test_maps_do_not_depend_on_the_number_of_blas_threads():
    """With gradients by the grid, and by all pairs."""
    told = set()
    for threads in ("1", "2"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        run = subprocess.run(
            [sys.executable, "-c", CHILD, threads],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **dict.fromkeys(names, threads)},
        )
        told.add(run.stdout)
    assert len(told) == 1
    assert len(set(told.pop().splitlines())) == 2


def test_another_seed_gives_a_similar_but_not_identical_map():
    features, labels = two_encoders()
    one, other = (tsne_maps(features, labels, seed=seed, **SHORT)["untouched"].coordinates for seed in (0, 1))
    assert (one != other).any()
    assert np.corrcoef(one[:, 0], other[:, 0])[0, 1] > 0.9


def test_maps_of_equal_features_are_equal_and_separate_classes():
    x, labels = clusters()
    maps = tsne_maps({"a": x, "b": 4 * x}, labels)
    np.testing.assert_array_equal(maps["a"].coordinates, maps["b"].coordinates)
    quality = maps["a"].quality
    assert quality.agreement_map > 0.85
    assert quality.silhouette_map > 0.5
    assert quality.trustworthiness > 0.8


def test_the_divergence_equals_the_naive_formula():
    x, labels = clusters(60, 5)
    found = tsne_maps({"a": x}, labels, perplexity=8)["a"]
    squares = ((x[:, None].astype(float) - x[None]) ** 2).sum(-1)
    p = np.zeros((60, 60))
    for i in range(60):
        others = np.argsort(squares[i])[1:25]
        low, high = 1e-9, 1e9
        for _ in range(200):
            tau = np.sqrt(low * high)
            weights = np.exp(-(squares[i, others] - squares[i, others].min()) * tau)
            weights /= weights.sum()
            entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum()
            low, high = (tau, high) if entropy > np.log(8) else (low, tau)
        p[i, others] = weights
    p = (p + p.T) / p.sum() / 2
    y = found.coordinates.astype(float)
    q = 1 / (1 + ((y[:, None] - y[None]) ** 2).sum(-1))
    np.fill_diagonal(q, 0)
    q /= q.sum()
    exact = (p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum()
    assert found.kl_divergence == pytest.approx(exact, rel=0.03)


def test_parameters_describe_the_map():
    features, labels = two_encoders(samples=40)
    features["after"] = features["after"][:, :20]
    wide, narrow = (one.parameters for one in tsne_maps(features, labels, **SHORT).values())
    assert json.loads(json.dumps(wide, allow_nan=False)) == wide
    assert (wide["perplexity"], wide["requested_perplexity"]) == (13, 30)
    assert (wide["dimensions"], wide["principal_components"]) == (60, 40)
    assert (narrow["dimensions"], narrow["principal_components"]) == (20, None)
    assert (wide["initialization"], wide["seed"], wide["iterations"]) == ("shared", 0, [60, 60])


def test_many_features_are_reduced_to_fifty_components():
    x, labels = clusters(300, 120)
    parameters = tsne_maps({"a": x}, labels, **SHORT)["a"].parameters
    assert parameters["principal_components"] == 50
    assert "requested_perplexity" not in parameters


def quality_case(name):
    x, labels = clusters(150, 30, noise=3.0)
    places = np.random.default_rng(1).standard_normal((150, 2)) + x[:, :2]
    return {
        "clusters": (places, x, labels),
        "lone class": (places, x, np.where(np.arange(150) == 3, 9, labels)),
        "negative labels": (places, x, labels - 2),
        "wide": (places, np.random.default_rng(2).standard_normal((150, 400)) + 50, labels),
    }[name]


@pytest.mark.parametrize("case", ["clusters", "lone class", "negative labels", "wide"])
@pytest.mark.parametrize("neighbors", [1, 10])
def test_quality_equals_scikit_learns_on_the_original_features(case, neighbors):
    places, x, labels = quality_case(case)
    found = map_quality(places, x, labels, neighbors=neighbors)
    assert found.trustworthiness == pytest.approx(trustworthiness(x, places, n_neighbors=neighbors), abs=1e-12)
    for points, agreement, silhouette in (
        (places, found.agreement_map, found.silhouette_map),
        (x, found.agreement_features, found.silhouette_features),
    ):
        nearest = NearestNeighbors(n_neighbors=neighbors).fit(points).kneighbors(return_distance=False)
        assert agreement == pytest.approx((labels[nearest] == labels[:, None]).mean(), abs=1e-12)
        assert silhouette == pytest.approx(silhouette_score(points.astype(float), labels), abs=1e-9)


def test_quality_does_not_depend_on_the_number_of_threads():
    case = quality_case("wide")
    with threadpool_limits(1):
        first = map_quality(*case)
    with threadpool_limits(2):
        assert map_quality(*case) == first


def test_chance_level_is_the_agreement_of_shuffled_labels():
    places, x, labels = quality_case("clusters")
    labels = np.minimum(labels, 1)
    rng = np.random.default_rng(0)
    found = [map_quality(places, x, rng.permutation(labels)) for _ in range(60)]
    assert np.mean([one.agreement_map for one in found]) == pytest.approx(found[0].agreement_chance, abs=0.01)


def test_repeated_samples_in_any_order_cost_little_trustworthiness():
    x = np.repeat(np.random.default_rng(0).standard_normal((10, 40)) * 7 + 3, 15, axis=0)
    places = np.repeat(np.arange(20.0).reshape(10, 2), 15, axis=0) + np.random.default_rng(1).uniform(0, 0.1, (150, 2))
    assert map_quality(places, x, np.arange(150) // 15, neighbors=10).trustworthiness > 0.99


def test_one_class_has_no_silhouette():
    x, _ = clusters()
    found = tsne_maps({"a": x}, np.zeros(200, int), **SHORT)["a"].quality
    assert (found.silhouette_map, found.silhouette_features) == (None, None)
    assert (found.agreement_map, found.agreement_chance) == (1, 1)


def test_as_many_classes_as_samples_have_no_silhouette():
    x, _ = clusters(50)
    found = map_quality(x[:, :2], x, np.arange(50))
    assert (found.silhouette_map, found.agreement_map, found.agreement_chance) == (None, 0, 0)


def test_the_number_of_neighbors_is_lowered_for_few_samples():
    x, labels = clusters(16)
    assert map_quality(x[:, :2], x, labels, neighbors=10).neighbors == 7


@pytest.mark.parametrize(
    "x",
    [
        np.repeat(clusters(50)[0], 4, axis=0),
        np.where(np.arange(200)[:, None] < 150, 0, clusters(200)[0]),
        np.arange(200.0)[:, None],
        np.arange(200) % 2 == np.arange(3)[:, None],
        clusters(20, 500)[0],
        clusters(16, 500)[0],
        clusters(200)[0].astype(np.float16),
        clusters(200)[0].astype(float) * 1e200,
        clusters(200)[0].astype(float) * 1e-200 + 1e-190,
    ],
    ids=["each four times", "most the same", "a line", "two values", "n < D", "fewest", "half", "huge", "tiny"],
)
def test_degenerate_features_have_a_finite_map(x):
    x = x.T.astype(int) if x.dtype == bool else x
    found = tsne_maps({"a": x}, np.arange(len(x)) % 3, **SHORT)["a"]
    assert np.isfinite(found.coordinates).all()
    assert np.isfinite(found.kl_divergence)
    assert 0 <= found.quality.trustworthiness <= 1


X, Y = clusters(40)
BAD = np.where(np.arange(40)[:, None] % 6 == 0, np.inf, X)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ({"a": X[:15]}, Y[:15], r"features of a have shape \(15, 60\)[.] At least 16 samples"),
        ({"a": X[:0]}, Y[:0], "At least 16 samples"),
        ({}, Y, "At least one encoder is needed"),
        ({"a": X, "b": X[:30]}, Y, "numbers of samples differ: a 40, b 30"),
        ({"a": X}, Y[:39], r"int64 and shape \(39,\)[.] Expected integers of shape \(40,\)"),
        ({"a": X}, Y.astype(float), "labels have type float64"),
        ({"a": X, "b": np.ones((40, 3))}, Y, "The features of b are the same for all 40 samples"),
        (
            {"a": X, "b": BAD},
            Y,
            r"of b have NaN or infinite values in 7 of 40 rows \(0, 6, 12, 18, 24, ...\)[.] Remove",
        ),
        ({"a": X[0]}, Y, r"shape \(n, D\)"),
    ],
)
def test_invalid_input_raises_a_one_line_error(features, labels, message):
    with pytest.raises(InputError, match=message) as caught:
        tsne_maps(features, labels, **SHORT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perplexity": 1}, "perplexity is 1[.] Expected at least 2"),
        ({"perplexity": np.nan}, "perplexity is nan[.] Expected at least 2"),
        ({"seed": -1}, "seed is -1[.] Expected an integer, 0 to 4294967295"),
        ({"iterations": (5,)}, "Expected two numbers"),
        ({"iterations": (5, -1)}, "iterations is -1[.] Expected an integer, at least 0"),
        ({"threads": 0}, "threads is 0[.] Expected an integer, at least 1"),
        ({"neighbors": 0}, "neighbors is 0[.] Expected an integer, at least 1"),
    ],
)
def test_invalid_options_raise_a_usage_error(options, message):
    with pytest.raises(UsageError, match=message):
        tsne_maps({"a": X}, Y, **({} if "iterations" in options else SHORT) | options)


def test_quality_of_a_map_of_other_samples_raises_an_error():
    with pytest.raises(InputError, match="map has 39 samples, but the features have 40"):
        map_quality(X[:39, :2], X, Y)


def test_import_does_not_load_opentsne_or_scikit_learn():
    code = "import sys, modgap.probes.tsne_maps; print('openTSNE' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
