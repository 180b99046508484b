"""The error of one prediction for all samples, beside which a trained model is tested."""

import numpy as np
import pytest
from scipy.stats import ttest_rel
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import average_precision_score

from modgap.targets import CustomData, open_target
from modgap.training import constant
from modgap.training.constant import compare_with_constant, constant_metric
from modgap.training.metrics import metric
from modgap.training.training_data import read_target_data

from .training import target_file

SERIES = CustomData(kind="series")


def read(folder, y, **arrays):
    x = np.random.default_rng(0).standard_normal((len(y), 2, 24)).astype(np.float32)
    np.savez(folder / "own.npz", x=x, y=y, **arrays)
    return read_target_data(open_target(str(folder / "own.npz"), custom_data=SERIES))


@pytest.mark.parametrize("most", [100, 2**22])
@pytest.mark.parametrize("task", ["classification", "multi-label", "regression"])
def test_a_constant_prediction_is_the_dummy_of_scikit_learn(tmp_path, monkeypatch, task, most):
    monkeypatch.setattr(constant, "MOST_VALUES", most)
    target = open_target(str(target_file(tmp_path, task, image=False, samples=60)), custom_data=SERIES)
    data = read_target_data(target)
    read_truth = data.real_values if task == "regression" else data.ground_truth
    train, test = (read_truth(rows)[0] for rows in (data.train, data.test))
    if task == "regression":
        predicted = DummyRegressor().fit(np.zeros((len(train), 1)), train.reshape(len(train), -1)).constant_
        residuals = (predicted.reshape(1, *train.shape[1:]) - test) ** 2
        norms = np.sqrt((test**2).mean(axis=-1))
        expected = (np.sqrt(residuals.mean(axis=-1)) / norms).mean()
    elif task == "classification":
        dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(train), 1)), train)
        expected = 100 * (dummy.predict(np.zeros((len(test), 1))) != test).mean()
    else:
        shares = np.tile(train.mean(axis=0), (len(test), 1))
        expected = 1 - np.mean([average_precision_score(test[:, k], shares[:, k]) for k in range(test.shape[1])])
    assert constant_metric(data).compute() == pytest.approx(expected, rel=1e-5)


def test_masked_values_do_not_count(tmp_path):
    rng = np.random.default_rng(0)
    y, masks = rng.standard_normal((60, 1, 24)).astype(np.float32) + 3, np.zeros((60, 1, 24), np.uint8)
    masks[:, :, :12] = 1
    first = constant_metric(read(tmp_path, y, masks=masks)).compute()
    assert first == constant_metric(read(tmp_path, np.where(masks, y, np.nan), masks=masks)).compute()
    other = np.where(masks, y, 1000).astype(np.float32)
    assert first == constant_metric(read(tmp_path, other, masks=masks)).compute()


def test_the_p_value_is_that_of_a_paired_t_test(tmp_path):
    rng = np.random.default_rng(0)
    data = read(tmp_path, rng.integers(0, 2, 400))
    y = data.ground_truth(data.test)[0]
    errors = metric("0-1 error %")
    errors.update(np.eye(2)[np.where(rng.random(len(y)) < 0.7, y, 1 - y)], y)
    found, expected = compare_with_constant(errors, data, 0), constant_metric(data).per_sample
    assert found["constant_error"] == expected.mean()
    assert found["chance_p"] == pytest.approx(ttest_rel(errors.per_sample, expected).pvalue, rel=0.2)


def test_few_samples_have_no_p_value(tmp_path):
    data = read(tmp_path, np.arange(30) % 2)
    y = data.ground_truth(data.test)[0]
    assert len(y) < 8
    errors = metric("0-1 error %")
    errors.update(np.eye(2)[y], y)
    assert compare_with_constant(errors, data, 0) == {"constant_error": pytest.approx(50, abs=20), "chance_p": None}


def test_values_whose_lowest_constant_is_another_have_no_p_value(tmp_path):
    data = read(tmp_path, np.random.default_rng(0).standard_normal((60, 1, 24)))
    errors = metric("nRMSE", data.scale)
    y = data.ground_truth(data.test)[0]
    errors.update(0.9 * y, y)
    found = compare_with_constant(errors, data, 0)
    assert found["chance_p"] is None
    assert found["constant_error"] > errors.compute()


@pytest.mark.parametrize("name", ["1 - F1", "1 - mAP", "1 - AUROC"])
def test_metrics_without_a_constant_to_beat_have_p_values_by_permutation(tmp_path, name):
    """Predictions that have nothing to do with the labels are significant in 5 % of the cases, others nearly always."""
    rng, levels = np.random.default_rng(0), {0.0: [], 2.0: []}
    y = rng.integers(0, 4, 200) if name == "1 - F1" else (rng.random((200, 4)) < 0.2).astype(np.int64)
    data = read(tmp_path, y)
    y = data.ground_truth(data.test)[0]
    scores = np.eye(4)[y.astype(int)] if name == "1 - F1" else y
    for effect, p_values in levels.items():
        for seed in range(200 if effect == 0 else 5):
            found = metric(name)
            found.update(effect * scores + rng.standard_normal((len(y), 4)), y)
            p_values.append(compare_with_constant(found, data, seed)["chance_p"])
    assert np.mean(np.array(levels[0.0]) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert max(levels[2.0]) <= 0.05


def test_permutations_are_of_whole_samples_without_masks():
    y = np.array([[0, 1], [1, 0], [1, 1]])
    whole, masked = metric("1 - mAP"), metric("1 - mAP")
    whole.update(np.arange(6.0).reshape(3, 2), y)
    masked.update(np.arange(6.0).reshape(3, 2), y, np.array([[1, 1], [1, 0], [1, 1]]))
    permuted = whole.permuted(np.array([2, 0, 1]))
    assert permuted.state()["positive"].reshape(3, 2).tolist() == y[[2, 0, 1]].tolist()
    assert masked.permuted(np.arange(3)) is None
    errors = metric("0-1 error %")
    errors.update(np.eye(2), np.arange(2))
    assert errors.permuted(np.arange(2)) is None


def test_models_that_know_nothing_are_seldom_called_better(tmp_path):
    """Predictions that have nothing to do with the classes are significantly better in about 2.5 % of the cases."""
    rng, n_better = np.random.default_rng(0), 0
    data = read(tmp_path, np.append(rng.random(798) < 0.7, [False, True]).astype(np.int64))
    labels = data.table.labels
    for _ in range(1_000):
        # The largest training class is 1 throughout, so that only the test samples are drawn anew.
        labels[data.test] = rng.random(len(data.test)) < 0.5
        errors = metric("0-1 error %")
        errors.update(np.eye(2)[rng.integers(0, 2, len(data.test))], labels[data.test])
        found = compare_with_constant(errors, data, 0)
        n_better += errors.compute() < found["constant_error"] and found["chance_p"] <= 0.05
    assert n_better <= 40
