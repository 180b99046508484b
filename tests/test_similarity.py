"""Similarity of features: against naive formulas, in cases with exact values, and on invalid input."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import cdist, pdist, squareform
from scipy.stats import kurtosis, t

from modgap.distortion import hsic
from modgap.distortion import similarity as similarity_module
from modgap.distortion.similarity import SIMILARITIES, block_numbers, similarity
from modgap.errors import InputError, UsageError
from modgap.probes import feature_arrays

CKA = ("linear_cka", "kernel_cka")


def noise(seed, samples=60, width=7):
    return np.random.default_rng(seed).standard_normal((samples, width))


def related(seed, samples=60, first=7, second=5):
    x = noise(seed, samples, first)
    return x, x[:, :second] ** 2 + x[:, :second] + noise(seed + 1000, samples, second)


def naive_hsic(k, left):
    """Return equation 4 of Song et al. (2012), computed with the full matrices."""
    n = len(k)
    k, left = k - np.diag(np.diag(k)), left - np.diag(np.diag(left))
    one = np.ones(n)
    middle = (one @ k @ one) * (one @ left @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ left) + middle - 2 / (n - 2) * (one @ k @ left @ one)) / (n * (n - 3))


def naive_cka(k, left):
    return naive_hsic(k, left) / np.sqrt(naive_hsic(k, k) * naive_hsic(left, left))


def gaussian(x, share):
    distances = squareform(pdist(x))
    sigma = share * np.sqrt(np.median(pdist(x, "sqeuclidean")))
    return np.exp(-(distances**2) / (2 * sigma**2))


def naive_knn(x, y, k):
    found = []
    for array in (x - x.mean(0), y - y.mean(0)):
        distances = cdist(array, array, "cosine")
        np.fill_diagonal(distances, np.inf)
        found.append(np.argsort(distances, axis=1)[:, :k])
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(*found, strict=True)])


@pytest.mark.parametrize(("first", "second"), [(7, 5), (100, 5), (100, 90), (1, 1)])
def test_linear_cka_equals_the_naive_formula(first, second):
    x, y = related(0, 60, first, min(first, second))
    y = np.hstack([y, noise(3, 60, second)])
    found = similarity("linear_cka", 3 * x + 100, y, interval=False).value
    assert found == pytest.approx(naive_cka(x @ x.T, y @ y.T), abs=1e-12)
    assert similarity("linear_cka", x, y).value == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_kernel_cka_equals_the_naive_formula_for_any_block_size(share, monkeypatch):
    x, y = related(0)
    expected = naive_cka(gaussian(x, share), gaussian(y, share))
    monkeypatch.setattr(similarity_module, "BANDWIDTH", share)
    whole = similarity("kernel_cka", x, y)
    monkeypatch.setattr(feature_arrays, "BLOCK_BYTES", 60 * 8 * 5 * 7)
    cut = similarity("kernel_cka", x, y)
    assert (whole.value, cut.value) == pytest.approx((expected, expected), abs=1e-12)
    assert cut.interval == pytest.approx(whole.interval, abs=1e-12)
    assert whole.interval is not None


def test_median_distance_of_many_samples_uses_evenly_spread_ones():
    x = noise(0, 4001, 2)
    sigma = 0.5 * np.median(pdist(x[np.unique(np.linspace(0, 4000, 2000).astype(int))]))
    first_row = hsic.gaussian_kernel(x, 0.5)(slice(0, 1))[0]
    assert first_row[1:] == pytest.approx(np.exp(-(cdist(x[:1], x[1:])[0] ** 2) / (2 * sigma**2)), rel=1e-4)


@pytest.mark.parametrize("name", CKA)
def test_jackknife_equals_the_naive_leave_one_out(name):
    x, y = related(1, 50)
    kernels = (x @ x.T, y @ y.T) if name == "linear_cka" else (gaussian(x, 0.8), gaussian(y, 0.8))
    left = []
    for out in range(50):
        keep = np.delete(np.arange(50), out)
        left.append(naive_cka(*(kernel[np.ix_(keep, keep)] for kernel in kernels)))
    spread = np.sqrt(49 / 50 * ((np.array(left) - np.mean(left)) ** 2).sum())
    freedom = min(49, 2 * 50 / (kurtosis(left, fisher=False) - 1))
    found = similarity(name, x, y)
    low, high = found.interval
    assert high - found.value == pytest.approx(t.ppf(0.975, freedom) * spread, rel=1e-5)
    assert found.value - low == pytest.approx(t.ppf(0.975, freedom) * spread, rel=1e-5)


@pytest.mark.parametrize(("first", "second"), [(7, 5), (7, 7), (90, 70)])
def test_procrustes_equals_scipys(first, second):
    x, y = related(2, 60, first, second)
    wide = max(first, second)
    a, b = (np.pad(v - v.mean(0), ((0, 0), (0, wide - v.shape[1]))) for v in (x, y))
    _, expected = orthogonal_procrustes(a / np.linalg.norm(a), b / np.linalg.norm(b))
    for interval in (True, False):
        assert similarity("procrustes", x, y, interval=interval).value == pytest.approx(expected, abs=1e-12)


def naive_standard_error(terms, units):
    """Return the standard error of sum(a) / sqrt(sum(b) sum(c)), from the slope in the weight of each unit."""

    def ratio(weights):
        a, b, c = weights @ terms
        return a / np.sqrt(b * c)

    step = 1e-5
    slopes = []
    for unit in np.unique(units):
        up, down = (np.ones(len(terms)) + sign * step * (units == unit) for sign in (1, -1))
        slopes.append((ratio(up) - ratio(down)) / (2 * step))
    return np.sqrt(np.sum(np.square(slopes)) * len(slopes) / (len(slopes) - 1))


@pytest.mark.parametrize("grouped", [False, True])
def test_procrustes_interval_equals_the_naive_cross_fit(grouped):
    x, y = related(2, 120, 6, 4)
    x, y = x - x.mean(0), y - y.mean(0)
    units = np.random.default_rng(1).integers(15, size=120) if grouped else np.arange(120)
    folds = block_numbers(units, 5)
    inside, across = np.zeros((2, 120, 3))
    for fold in range(-1, 5):
        fit, test = (folds != fold, folds == fold) if fold >= 0 else (folds >= 0, folds >= 0)
        a, b = x - x[fit].mean(0), y - y[fit].mean(0)
        left, _, right = np.linalg.svd(a[fit].T @ b[fit], full_matrices=False)
        terms = np.stack([(a @ left @ right * b).sum(1), (a**2).sum(1), (b**2).sum(1)], axis=1)
        (across if fold >= 0 else inside)[test] = terms[test]
    quantile = t.ppf(0.975, len(np.unique(units)) - 1)
    totals = across.sum(0)
    low = totals[0] / np.sqrt(totals[1] * totals[2]) - quantile * np.sqrt(2) * naive_standard_error(across, units)
    found = similarity("procrustes", x, y, units if grouped else None)
    assert found.interval[0] == pytest.approx(low, rel=1e-5)
    assert found.interval[1] == pytest.approx(found.value + quantile * naive_standard_error(inside, units), rel=1e-5)
    assert len(np.unique(np.stack([units, folds]), axis=1).T) == len(np.unique(units))


def test_procrustes_interval_covers_the_true_value_below_the_biased_estimate():
    strength = 1 / np.sqrt(3)
    results = []
    for seed in range(40):
        x, rest = noise(seed, 100, 20), noise(seed + 500, 100, 20)
        results.append(similarity("procrustes", x, strength * x + np.sqrt(1 - strength**2) * rest))
    assert np.mean([result.value for result in results]) > 0.61
    assert sum(result.interval[0] <= strength <= result.interval[1] for result in results) >= 38


@pytest.mark.parametrize("grouped", [False, True])
def test_knn_interval_equals_the_naive_jackknife_over_blocks(grouped):
    x, y = related(3, 90)
    x, y = x - x.mean(0), y - y.mean(0)
    units = np.random.default_rng(2).permutation(np.arange(90) % 18) if grouped else np.arange(90)
    blocks = block_numbers(units, 20)
    distances = [cdist(array, array, "cosine") for array in (x, y)]
    left = []
    for block in np.unique(blocks):
        rows = np.flatnonzero(blocks != block)
        tables = []
        for distance in distances:
            part = distance[np.ix_(rows, rows)].copy()
            np.fill_diagonal(part, np.inf)
            tables.append(np.argsort(part, axis=1)[:, :10])
        left.append(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*tables, strict=True)]))
    n_blocks = len(left)
    spread = np.sqrt((n_blocks - 1) / n_blocks * ((np.array(left) - np.mean(left)) ** 2).sum())
    freedom = min(n_blocks - 1, 2 * n_blocks / (kurtosis(left, fisher=False) - 1))
    found = similarity("knn_overlap", x, y, units if grouped else None)
    assert n_blocks == (18 if grouped else 20)
    assert found.interval[1] - found.value == pytest.approx(t.ppf(0.975, freedom) * spread, rel=1e-6)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_intervals_exist_only_where_they_were_checked(name):
    x, y = related(5, 100)
    assert similarity(name, x[:49], y[:49]).interval is None
    assert similarity(name, x[:50], y[:50]).interval is not None
    assert similarity(name, x, y, np.arange(100) % 9).interval is None
    grouped = similarity(name, x, y, np.arange(100) % 10)
    assert (grouped.interval is None) == (name in CKA)
    assert grouped.value == similarity(name, x, y).value


def test_knn_overlap_equals_the_naive_formula(monkeypatch):
    x, y = related(3, 120)
    for k in (1, 10, 118):
        monkeypatch.setattr(similarity_module, "NEIGHBORS", k)
        found = similarity("knn_overlap", x, y)
        assert found.value == pytest.approx(naive_knn(x, y, k), abs=1e-12)
        assert found.null == pytest.approx(k / 119)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("samples", [60, 200])
def test_identical_and_rotated_features_have_similarity_one(name, samples):
    x = noise(4, samples, 50) @ np.diag(np.linspace(0.1, 3, 50))
    turn = np.linalg.qr(noise(5, 50, 50))[0]
    for other in (x, -2 * x @ turn + 7):
        found = similarity(name, x, other)
        assert found.value == pytest.approx(1, abs=1e-9)
        if name != "procrustes" or samples > 100:
            assert found.interval == pytest.approx((1, 1), abs=1e-6)
        assert found.null < 1
        assert found.samples == samples


@pytest.mark.parametrize("name", SIMILARITIES)
def test_independent_features_have_the_null_similarity_on_average(name):
    found = [similarity(name, noise(2 * s, 80, 20), noise(2 * s + 1, 80, 30), interval=False) for s in range(40)]
    values, nulls = (np.array([getattr(one, of) for one in found]) for of in ("value", "null"))
    off = values - nulls
    assert abs(off.mean()) < 4 * off.std(ddof=1) / np.sqrt(len(off))
    assert np.abs(off).max() < 0.2


def test_cka_of_unrelated_groups_is_too_high_so_that_it_has_no_interval():
    groups = np.arange(100) % 10
    results = []
    for seed in range(10):
        x, y = (noise(part + seed, 10, 32)[groups] + 0.8 * noise(part + seed + 50, 100, 32) for part in (0, 900))
        results.append(similarity("linear_cka", x, y, groups))
    assert np.mean([result.value for result in results]) > 0.1
    assert {result.interval for result in results} == {None}


def test_biased_cka_would_not_be_near_zero():
    x, y = noise(0, 80, 200), noise(1, 80, 200)
    a, b = x - x.mean(0), y - y.mean(0)
    biased = ((a.T @ b) ** 2).sum() / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b)
    assert biased > 0.6
    assert abs(similarity("linear_cka", x, y).value) < 0.1


@pytest.mark.parametrize("name", ["linear_cka", pytest.param("kernel_cka", marks=pytest.mark.long)])
@pytest.mark.slow
def test_intervals_cover_the_true_value_about_as_often_as_they_claim(name):
    truth = similarity(name, *related(0, 3000, 4, 4), interval=False).value
    found = [similarity(name, *related(seed, 150, 4, 4)).interval for seed in range(1, 101)]
    assert sum(low <= truth <= high for low, high in found) >= 90
    assert np.mean([high - low for low, high in found]) < 0.5


def test_extreme_scales_and_offsets_do_not_change_the_result():
    x, y = related(0)
    expected = similarity("linear_cka", x, y).value
    assert similarity("linear_cka", x * 1e200, y * 1e-200).value == pytest.approx(expected, abs=1e-9)
    assert similarity("linear_cka", x + 1e6, y).value == pytest.approx(expected, abs=1e-8)
    assert similarity("linear_cka", x.astype(np.float32), y).value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_duplicates_and_more_features_than_samples_have_a_result(name, monkeypatch):
    monkeypatch.setattr(similarity_module, "NEIGHBORS", 3)
    x = noise(0, 12, 300)
    doubled = np.concatenate([x, x, x, x, x[:2]])
    found = similarity(name, doubled, doubled + 0.1 * noise(1, 50, 300))
    assert 0 < found.value <= 1
    assert found.interval[0] <= found.value <= found.interval[1]


def wrong(**changes):
    x = noise(0, 20, 3)
    return {"first": x, "second": x + noise(1, 20, 3)} | changes


BAD = np.where(np.arange(20)[:, None] % 9 == 4, np.nan, noise(0, 20, 3))


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": noise(0, 19, 3)}, "There are 19 samples of the first encoder and 20 samples of the second encoder"),
        ({"first": np.ones((20, 3))}, "The features of the first encoder are the same for all 20 samples"),
        (
            {"second": BAD},
            r"of the second encoder have NaN or infinite values in 2 of 20 rows \(4, 13\)[.] Remove these",
        ),
        ({"first": np.zeros((0, 3)), "second": np.zeros((0, 3))}, "At least 4 samples"),
        ({"first": noise(0, 3, 3), "second": noise(0, 3, 3)}, "At least 4 samples"),
        ({"first": np.zeros((20, 0))}, "At least 4 samples and one feature"),
        ({"first": np.ones(20)}, r"shape \(n, D\)"),
        ({"first": np.full((20, 2), "a")}, "real numbers"),
    ],
)
def test_invalid_input_raises_a_one_line_error(name, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        similarity(name, **wrong(**changes))
    assert "\n" not in str(caught.value)


def test_an_unknown_measure_and_too_few_samples_for_it_raise_a_usage_error():
    with pytest.raises(UsageError, match="Did you mean linear_cka"):
        similarity("linear_ckas", **wrong())
    few = {"first": noise(0, 8, 3), "second": noise(1, 8, 3)}
    with pytest.raises(UsageError, match=r"neighbors is 10[.] Expected an integer, 1 to 6"):
        similarity("knn_overlap", **few)


@pytest.mark.parametrize("name", CKA)
def test_samples_with_equal_distances_raise_an_error(name):
    with pytest.raises(InputError, match="the same distance from each other"):
        similarity(name, np.eye(20), noise(0, 20, 3))


def test_mostly_repeated_samples_raise_an_error():
    repeated = np.concatenate([np.zeros((17, 3)), noise(0, 3, 3)])
    with pytest.raises(InputError, match="median distance between samples is 0"):
        similarity("kernel_cka", repeated, noise(0, 20, 3))
