"""Metrics: against scikit-learn and plain formulas, in batches, merged, weighted; intervals by groups."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from modgap.errors import InputError, UsageError
from modgap.statistics.intervals import independent_errors
from modgap.statistics.paired import paired_difference
from modgap.targets import manifest_names, named_manifest
from modgap.targets.manifest import MetricName
from modgap.targets.output import Output
from modgap.training.evaluation import metric_interval
from modgap.training.metrics import METRICS, metric, task_metric

VALUES = ["RMSE", "nRMSE", "relative L2"]


def drawn(name, n=40, seed=0, k=5, size=30):
    """Outputs, y and mask as a metric takes them; scores with many ties."""
    random = np.random.default_rng(seed)
    if name in ("0-1 error %", "1 - F1"):
        return random.normal(size=(n, k)), random.integers(k, size=n), None
    if name in ("1 - AUROC", "1 - mAP"):
        return random.integers(6, size=(n, k)) / 4, random.integers(2, size=(n, k)), random.random((n, k)) < 0.8
    if name == "MAE8":
        return random.normal(8, 3, (n, 1, size, size)), random.uniform(1, 12, (n, 1, size, size)), None
    return random.normal(size=(n, 2, 6)), random.normal(size=(n, 2, 6)), random.random((n, 2, 6)) < 0.7


def of(name, outputs, y, mask=None, **options):
    found = metric(name, **options)
    found.update(outputs, y, mask)
    return found


def interval(measured, groups=None):
    return metric_interval(measured, groups, 0)


def part(values, rows):
    return None if values is None else values[rows]


def test_the_manifest_knows_the_same_names():
    assert set(MetricName.__args__) == set(METRICS)


def test_zero_one_error():
    outputs, y, _ = drawn("0-1 error %")
    found = of("0-1 error %", outputs, y)
    assert found.compute() == pytest.approx(100 * np.mean(outputs.argmax(1) != y))
    assert found.per_sample.tolist() == (100.0 * (outputs.argmax(1) != y)).tolist()
    assert found.unit == "%"


def test_ties_go_to_the_lowest_class():
    assert of("0-1 error %", np.ones((2, 3)), np.array([0, 1])).per_sample.tolist() == [0, 100]


def test_zero_one_error_of_pixels_that_count():
    random = np.random.default_rng(0)
    outputs, y = random.normal(size=(4, 3, 5, 6)), random.integers(3, size=(4, 5, 6))
    y[random.random(y.shape) < 0.3] = 255
    y[2] = 255
    found = of("0-1 error %", outputs, y, ignore=255)
    wrong = [np.mean((outputs.argmax(1)[i] != y[i])[y[i] != 255]) for i in (0, 1, 3)]
    assert found.compute() == pytest.approx(100 * np.mean(wrong))
    assert found.left_out() == 1
    assert np.isnan(found.per_sample).tolist() == [False, False, True, False]
    assert of("0-1 error %", outputs, y, y != 255).compute() == found.compute()


def test_f1_is_scikit_learns_macro_average():
    outputs, y, _ = drawn("1 - F1")
    expected = f1_score(y, outputs.argmax(1), average="macro")
    assert of("1 - F1", outputs, y).compute() == pytest.approx(1 - expected, rel=1e-12)


@pytest.mark.parametrize("predicted", [False, True])
def test_f1_with_a_class_that_is_not_labeled(predicted):
    """Predicted, it counts as 0; not even predicted, it is left out."""
    outputs, y, _ = drawn("1 - F1")
    y[y == 2] = 3
    outputs[:, 2] -= 0 if predicted else 100
    found = of("1 - F1", outputs, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = f1_score(y, outputs.argmax(1), average="macro", zero_division=0)
    assert found.compute() == pytest.approx(1 - expected, rel=1e-12)
    assert found.left_out() == (0 if predicted else 1)


SKLEARN = {"1 - AUROC": roc_auc_score, "1 - mAP": average_precision_score}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", SKLEARN)
def test_ranked_metrics_are_scikit_learns_with_ties(name, masked):
    outputs, y, mask = drawn(name)
    mask = mask if masked else np.ones_like(y, dtype=bool)
    expected = [SKLEARN[name](y[mask[:, k], k], outputs[mask[:, k], k]) for k in range(y.shape[1])]
    assert of(name, outputs, y, mask if masked else None).compute() == pytest.approx(1 - np.mean(expected), rel=1e-12)


def test_absent_classes_are_left_out_and_counted():
    outputs, y, _ = drawn("1 - mAP")
    y[:, 1], y[:, 3] = 0, 1
    precision = np.mean([average_precision_score(y[:, k], outputs[:, k]) for k in (0, 2, 3, 4)])
    area = np.mean([roc_auc_score(y[:, k], outputs[:, k]) for k in (0, 2, 4)])
    by_precision, by_area = of("1 - mAP", outputs, y), of("1 - AUROC", outputs, y)
    assert (by_precision.compute(), by_precision.left_out()) == (pytest.approx(1 - precision), 1)
    assert (by_area.compute(), by_area.left_out()) == (pytest.approx(1 - area), 2)


@pytest.mark.parametrize("name", SKLEARN)
def test_without_any_class_there_is_no_value(name):
    found = of(name, np.ones((3, 2)), np.zeros((3, 2), int))
    assert math.isnan(found.compute())
    assert found.left_out() == 2


@pytest.mark.parametrize("name", SKLEARN)
def test_pixels_are_ranked_together(name):
    random = np.random.default_rng(0)
    outputs, y = random.normal(size=(4, 1, 8, 8)).astype(np.float32), random.integers(2, size=(4, 1, 8, 8))
    mask = random.random(y.shape) < 0.7
    found = of(name, outputs, y, mask)
    assert found.compute() == pytest.approx(1 - SKLEARN[name](y[mask], outputs[mask]), rel=1e-12)
    assert of(name, outputs, y[:, 0], mask[:, 0]).compute() == found.compute()
    whole = of(name, outputs, y, np.array([1, 1, 0, 1]))
    assert whole.compute() == pytest.approx(of(name, outputs[[0, 1, 3]], y[[0, 1, 3]]).compute())


@pytest.mark.parametrize("name", SKLEARN)
def test_one_class_a_sample_is_each_class_against_the_others(name):
    outputs, y, _ = drawn("1 - F1")
    assert of(name, outputs, y).compute() == of(name, outputs, np.eye(5, dtype=int)[y]).compute()


def naive_mae8(outputs, y, distance=8, separation=24):
    """As PDNET does, pair by pair; None where there is none."""
    errors = [
        abs((outputs[i, j] + outputs[j, i]) / 2 - y[i, j])
        for i in range(len(y))
        for j in range(len(y))
        if j - i >= separation and y[i, j] <= distance
    ]
    return np.mean(errors) if errors else None


def test_mae8():
    outputs, y, _ = drawn("MAE8", n=3)
    y[1] = 100.0
    found = of("MAE8", outputs, y)
    expected = [naive_mae8(outputs[i, 0], y[i, 0]) for i in range(3)]
    assert expected[1] is None
    assert found.compute() == pytest.approx((expected[0] + expected[2]) / 2)
    assert (found.left_out(), found.unit) == (1, "angstrom")
    other = of("MAE8", outputs[:, 0], y[:, 0], distance=5, separation=3)
    expected = [naive_mae8(outputs[i, 0], y[i, 0], 5, 3) for i in (0, 2)]
    assert other.compute() == pytest.approx(np.mean(expected))


def pdebench(outputs, y):
    """RMSE and nRMSE as PDEBench computes them, for (n, channels, positions)."""
    errors = np.sqrt(((outputs - y) ** 2).mean(axis=2))
    return errors.mean(), (errors / np.sqrt((y**2).mean(axis=2))).mean()


def test_errors_of_values_are_pdebenchs():
    outputs, y, _ = drawn("RMSE")
    rmse, nrmse = pdebench(outputs, y)
    assert of("RMSE", outputs, y).compute() == pytest.approx(rmse, rel=1e-12)
    assert of("nRMSE", outputs, y).compute() == pytest.approx(nrmse, rel=1e-12)
    ratio = np.linalg.norm((outputs - y).reshape(40, -1), axis=1) / np.linalg.norm(y.reshape(40, -1), axis=1)
    assert of("relative L2", outputs, y).per_sample == pytest.approx(ratio, rel=1e-12)


@pytest.mark.parametrize("name", VALUES)
def test_positions_that_do_not_count(name):
    outputs, y, mask = drawn(name)
    hidden = np.where(mask, outputs, np.nan), np.where(mask, y, np.nan)
    one = [values[3][mask[3]][None, None] for values in (outputs, y)]
    assert of(name, *hidden, mask).compute() == of(name, outputs, y, mask).compute()
    if name == "relative L2":
        assert of(name, outputs, y, mask).per_sample[3] == pytest.approx(of(name, *one).compute())


@pytest.mark.parametrize("name", ["nRMSE", "relative L2"])
def test_samples_without_anything_to_be_relative_to_are_left_out(name):
    outputs, y, _ = drawn(name)
    y[7] = 0
    found = of(name, outputs, y)
    rest = np.arange(40) != 7
    assert found.compute() == pytest.approx(of(name, outputs[rest], y[rest]).compute())
    assert found.left_out() == 1


def test_broken_outputs_are_not_passed_over():
    outputs, y, _ = drawn("RMSE")
    outputs[3, 0, 0] = np.nan
    assert math.isnan(of("RMSE", outputs, y).compute())
    assert not math.isnan(of("RMSE", outputs, y).weighted(np.arange(40) < 3)[0])
    scores, labels, _ = drawn("1 - mAP")
    scores[3, 0] = np.nan
    assert math.isnan(of("1 - mAP", scores, labels).compute())


@pytest.mark.parametrize("name", [*VALUES, "MAE8"])
def test_a_scale_gives_the_original_unit(name):
    outputs, y, mask = drawn(name, n=4)
    mean, sd = np.full(y.shape[1:], 2.0), np.full(y.shape[1:], 0.5)
    found = metric(name, (mean, sd))
    found.update((outputs - mean) / sd, (y - mean) / sd, mask)
    assert found.compute() == pytest.approx(of(name, outputs, y, mask).compute())


@pytest.mark.parametrize("name", METRICS)
def test_batches_tensors_and_processes_give_the_same(name):
    outputs, y, mask = drawn(name)
    whole = of(name, outputs, y, mask)
    batched = metric(name)
    for rows in np.array_split(np.arange(len(y)), 7):
        tensors = [None if values is None else torch.as_tensor(values[rows]) for values in (outputs, y, mask)]
        tensors[0].requires_grad_()
        batched.update(*tensors)
    assert len(batched) == 40
    assert batched.compute() == pytest.approx(whole.compute(), rel=1e-12)
    gathered = metric(name)
    gathered.merge(metric(name).state())
    for rows in (np.arange(15), np.arange(15, 40)):
        one = of(name, *(part(values, rows) for values in (outputs, y, mask)))
        gathered.merge({key: np.array(value) for key, value in one.state().items()})
    assert gathered.compute() == pytest.approx(whole.compute(), rel=1e-12)
    weights = np.bincount([3, 20, 39], minlength=40)
    assert gathered.weighted(weights)[0] == pytest.approx(whole.weighted(weights)[0], rel=1e-12)
    assert (gathered.per_sample is None) == (name in ("1 - F1", "1 - AUROC", "1 - mAP"))


def test_the_rmse_by_sample_has_the_derivatives_by_weights_of_samples():
    rng = np.random.default_rng(0)
    y, mask = rng.standard_normal((30, 3)), (rng.random((30, 3)) < 0.7).astype(int)
    mask[4] = 0
    found = of("RMSE", np.zeros((30, 3)), y, mask)
    values, step = found.per_sample, 1e-5
    assert np.flatnonzero(np.isnan(values)).tolist() == [4]
    assert np.nanmean(values) == pytest.approx(found.compute(), rel=1e-12)
    for number in np.flatnonzero(mask.any(axis=1)):
        more, fewer = (found.weighted(1 + sign * step * (np.arange(30) == number))[0] for sign in (1, -1))
        assert values[number] - found.compute() == pytest.approx(29 * (more - fewer) / (2 * step), abs=1e-6)
    assert np.isnan(of("RMSE", y, y, np.zeros((30, 3))).per_sample).all()
    perfect = of("RMSE", y, y)
    assert perfect.per_sample.tolist() == [0] * 30


@pytest.mark.parametrize(("n", "degrees"), [(10, 1e9), (30, 3), (100, 3), (100, 1e9)])
def test_the_paired_test_of_rmse_keeps_its_level(n, degrees):
    """Two equally good models with errors in common, which are normal or have heavy tails."""
    rng, n_runs, n_false, n_covered = np.random.default_rng(0), 800, 0, 0
    for _ in range(n_runs):
        shared, one, other = (rng.standard_t(degrees, (n, 1)) for _ in range(3))
        errors = []
        for outputs in (shared + one, shared + other, 2 * other):
            values = of("RMSE", outputs, np.zeros((n, 1))).per_sample
            errors.append(independent_errors(values, np.arange(n)))
        n_false += paired_difference(*errors[:2], largest=np.inf).p_value <= 0.05
        low, high = paired_difference(*errors[1:], largest=np.inf).interval
        scale = (degrees / (degrees - 2)) ** 0.5
        n_covered += low <= (2**0.5 - 2) * scale <= high
    # 5 % and two standard errors.
    assert n_false / n_runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n_runs)
    if degrees > 3 and n >= 100:
        assert n_covered / n_runs >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / n_runs) - 0.01


@pytest.mark.parametrize("name", METRICS)
def test_counts_of_rows_as_weights_are_a_resample(name):
    outputs, y, mask = drawn(name)
    rows = np.random.default_rng(1).integers(40, size=60)
    again = of(name, outputs[rows], y[rows], part(mask, rows))
    weights = np.bincount(rows, minlength=40)
    assert of(name, outputs, y, mask).weighted(weights)[0] == pytest.approx(again.compute(), rel=1e-12)


def test_a_metric_goes_on_after_it_was_computed():
    outputs, y, _ = drawn("1 - F1")
    found = of("1 - F1", outputs[:20], y[:20])
    first = found.compute()
    found.update(outputs[20:], y[20:])
    assert found.compute() != first
    assert found.compute() == pytest.approx(of("1 - F1", outputs, y).compute())


@pytest.mark.parametrize("name", ["0-1 error %", "RMSE", "1 - F1", "1 - AUROC", "1 - mAP"])
def test_intervals_contain_the_value_and_depend_on_groups(name):
    outputs, y, mask = drawn(name, n=60)
    found = of(name, outputs, y, mask)
    low, high = interval(found, np.arange(60) // 3)
    assert low < found.compute() < high
    assert (low, high) == interval(found, np.arange(60) // 3) != interval(found)


def test_the_interval_of_a_mean_has_its_standard_errors():
    y = np.random.default_rng(0).normal(size=(400, 1, 2))
    found = of("RMSE", np.zeros_like(y), y)
    low, high = interval(found)
    error = found.per_sample.std(ddof=1) / 20
    assert low == pytest.approx(found.compute() - 2.09 * error, abs=0.8 * error)
    assert high == pytest.approx(found.compute() + 2.09 * error, abs=0.8 * error)


def test_intervals_of_too_few_units():
    found = of("1 - mAP", np.ones((9, 2)), np.zeros((9, 2), int))
    assert all(map(math.isnan, interval(found)))
    outputs, y, _ = drawn("RMSE")
    assert all(map(math.isnan, interval(of("RMSE", outputs, y), np.arange(40) % 7)))


@pytest.mark.parametrize("name", manifest_names())
def test_every_manifest_has_a_metric(name):
    assert len(task_metric(named_manifest(name))) == 0


def test_without_a_metric_the_task_says_which():
    names = [named_manifest(name).model_copy(update={"metric": None}) for name in ("digits", "fsd50k", "burgers")]
    assert [task_metric(manifest).name for manifest in names] == ["0-1 error %", "1 - mAP", "nRMSE"]
    assert task_metric(named_manifest("psicov")).name == "MAE8"


@pytest.mark.parametrize(
    ("shape", "name"), [((1,), "RMSE"), ((3,), "RMSE"), ((1, 1, 1), "RMSE"), ((1, 8), "nRMSE"), ((2, 8, 8), "nRMSE")]
)
def test_values_that_are_numbers_have_a_metric_of_which_the_mean_is_the_best_constant(shape, name):
    manifest = named_manifest("burgers").model_copy(update={"metric": None})
    errors = task_metric(manifest, Output("regression", shape))
    assert errors.name == name
    if name == "RMSE":
        y = np.random.default_rng(0).lognormal(size=(50, *shape))
        found = []
        for constant in (y.mean(axis=0), np.median(y, axis=0), y.min(axis=0)):
            errors = task_metric(manifest, Output("regression", shape))
            errors.update(np.broadcast_to(constant, y.shape).copy(), y)
            found.append(errors.compute())
        assert found == sorted(found)
        assert found[0] == pytest.approx(y.std(axis=0).mean())


@pytest.mark.parametrize("name", ["nRMSE", "relative L2"])
def test_a_sample_whose_y_is_0_is_left_out_also_after_y_was_standardized(name):
    y = (np.random.default_rng(0).random((20, 1, 6, 5)) < 0.3).astype(float)
    y[::4] = 0
    outputs = np.random.default_rng(1).random(y.shape)
    scale = np.full(1, y.mean()), np.full(1, y.std())
    standardized, standard_outputs = (((values - y.mean()) / y.std()).astype(np.float32) for values in (y, outputs))
    found = metric(name, scale)
    found.update(standard_outputs, standardized)
    assert found.left_out() == 5
    assert found.compute() == pytest.approx(of(name, outputs, y).compute(), rel=1e-5)


def test_wrong_requests():
    with pytest.raises(UsageError, match="Did you mean 1 - mAP"):
        metric("mAP")
    with pytest.raises(UsageError, match="options are: distance, separation"):
        metric("MAE8", cutoff=3)
    with pytest.raises(UsageError, match="have no scale"):
        metric("1 - F1", (np.zeros(()), np.ones(())))


def test_wrong_input():
    outputs, y, _ = drawn("1 - F1")
    with pytest.raises(InputError, match="has no samples"):
        metric("1 - F1").compute()
    with pytest.raises(InputError, match="Expected classes as integers"):
        of("1 - F1", outputs, y.astype(float))
    with pytest.raises(InputError, match="Expected classes as integers"):
        of("1 - mAP", outputs, y.astype(float))
    with pytest.raises(InputError, match="Expected the shape of the scores"):
        of("1 - mAP", outputs, np.ones((40, 4)))
    with pytest.raises(InputError, match="Expected distances"):
        of("MAE8", outputs, outputs)
    found = of("1 - F1", outputs, y)
    with pytest.raises(InputError, match="Expected the state of a metric 1 - F1"):
        found.merge(of("0-1 error %", outputs, y).state())
    with pytest.raises(InputError, match="earlier ones have 5"):
        found.update(np.ones((2, 3)), np.array([0, 1]))
