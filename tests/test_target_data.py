"""Targets as the trainer needs them: samples of one shape, finite values, labels that have a class."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from modgap.api.opening import target_request
from modgap.errors import InputError
from modgap.targets import open_target
from modgap.targets.custom import CustomData
from modgap.training.batches import BatchFeed
from modgap.training.evaluation import Evaluator
from modgap.training.fitted_run import true_values
from modgap.training.methods.orca import alignment_classes
from modgap.training.training_data import is_table, read_target_data
from tests.training import run

CPU = torch.device("cpu")
MANIFEST = """
schema = 1
name = "small"
title = "Small"
modality = "test"
task = "{task}"
{more}
[input]
kind = "image"
[reader]
name = "arrays"
options = {{ kind = "image" }}
[[files]]
role = "data"
path = "small.npz"
"""


def opened(folder, y, *, task=None, more="", x=None, **arrays):
    """Open a target of 40 images, with a manifest if a task is named."""
    x = np.random.default_rng(0).standard_normal((len(y), 1, 12, 10)).astype(np.float32) if x is None else x
    np.savez(folder / "small.npz", x=x, y=y, **arrays)
    (folder / "small.toml").write_text(MANIFEST.format(task=task, more=more))
    return open_target(str(folder / ("small.toml" if task else "small.npz")))


@pytest.mark.parametrize(("lowest", "message"), [(0, "range from 0 to 3"), (-1, "range from -1 to 2")])
def test_labels_without_a_class_raise_an_error(tmp_path, lowest, message):
    target = opened(tmp_path, np.arange(40) % 4 + lowest, task="classification", more='classes = ["a", "b"]')
    with pytest.raises(InputError, match=rf"{message}\. Expected 0 to 1, because 2 classes have names"):
        read_target_data(target)


def test_classes_without_samples_get_an_output(tmp_path):
    target = opened(tmp_path, np.arange(40) % 4, task="classification", more='classes = ["a", "b", "c", "d", "e", "f"]')
    assert read_target_data(target).output.shape == (6,)


def test_values_without_a_stated_loss_are_standardized(tmp_path):
    """The metric stays in the original unit: for a model that predicts the training mean it is that mean's error."""
    rng = np.random.default_rng(1)
    y = (np.array([300.0, -2e-4]) + np.array([50, 1e-5]) * rng.standard_normal((40, 2))).astype(np.float32)
    data = read_target_data(opened(tmp_path, y))
    shown = data.ground_truth(data.train)[0]
    # The two values of one channel each have their own mean and sd.
    assert np.allclose(shown.mean(0), 0, atol=1e-3)
    assert np.allclose(shown.std(0), 1, atol=1e-3)
    mean = y[data.train].mean(axis=0)
    judged = Evaluator(data, CPU, torch.float32, 8).metric(Zero((2,)), data.test)
    errors = np.sqrt(((y[data.test] - mean) ** 2).mean(axis=0))
    assert judged.compute() == pytest.approx(errors.mean(), rel=1e-4)


class Zero(torch.nn.Module):
    """A model that predicts the mean of the standardized values."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return torch.zeros(len(x), *self.shape)


def test_fields_are_standardized_by_channel_within_the_mask(tmp_path):
    rng = np.random.default_rng(1)
    y = rng.standard_normal((40, 2, 12, 10)).astype(np.float32) * np.array([1, 7])[:, None, None] + 5
    masks = (rng.random(y.shape) < 0.5).astype(np.uint8)
    y[masks == 0] = np.nan
    data = read_target_data(opened(tmp_path, y.astype(np.float32), masks=masks))
    values = y[data.train]
    assert np.allclose(data.y_standardization[0], np.nanmean(values, axis=(0, 2, 3)), rtol=1e-5)
    assert np.allclose(data.y_standardization[1], np.nanstd(values, axis=(0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("masked", [np.nan, 1000.0])
def test_masked_values_do_not_count_in_fitted_models_and_clusters(tmp_path, masked):
    """A probe predicts the values that count, and clusters are the same, whatever the masked values are."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 1, 12, 10)).astype(np.float32)
    y = x.mean((2, 3), keepdims=True) + np.zeros((1, 12, 10), np.float32)
    masks = (rng.random(y.shape) < 0.8).astype(np.uint8)
    results = []
    for fill in (0.0, masked):
        target = opened(tmp_path, np.where(masks, y, fill).astype(np.float32), x=x, masks=masks)
        data = read_target_data(target)
        truth = true_values(data, data.train)
        assert np.isfinite(truth.matrix).all()
        counts = truth.mask != 0
        assert np.array_equal(truth.y[counts], data.ground_truth(data.train)[0][counts])
        results.append((alignment_classes(data), truth.y))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])


def test_numbers_of_a_table_are_no_field_if_there_are_as_many_as_columns(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "same.npz", x=rng.standard_normal((60, 3)), y=rng.standard_normal((60, 3)) * [1, 100, 1e4])
    table = open_target(str(tmp_path / "same.npz"), custom_data=CustomData(kind="table"))
    data = read_target_data(table)
    assert data.output.shape == (3,)
    assert data.scale[1] == pytest.approx([1, 100, 1e4], rel=0.5)
    series = open_target(str(tmp_path / "same.npz"), custom_data=CustomData(kind="series"))
    assert read_target_data(series).output.shape == (1, 3)


def test_a_metric_of_classes_takes_values_as_they_are(tmp_path):
    y = (np.random.default_rng(1).random((40, 1, 12, 10)) < 0.3).astype(np.float32)
    target = opened(tmp_path, y, task="regression", more='metric = { name = "1 - AUROC" }')
    data = read_target_data(target)
    assert data.scale is None
    assert Evaluator(data, CPU, torch.float32, 8).metric(Zero((1, 12, 10)), data.test).compute() == 0.5


def test_values_with_a_stated_loss_are_not_standardized(tmp_path):
    y = (300 + np.random.default_rng(1).standard_normal(40)).astype(np.float32)
    data = read_target_data(opened(tmp_path, y, task="regression", more='loss = { name = "mean squared error" }'))
    assert data.y_standardization is None
    assert np.array_equal(data.ground_truth(data.train)[0][:, 0], y[data.train])


def test_large_numbers_are_learned(tmp_path):
    """Without standardization the outputs would stay near 0 in so few updates."""
    x = np.random.default_rng(0).standard_normal((60, 1, 12, 10)).astype(np.float32)
    opened(tmp_path, (1e4 + 10 * x.mean((1, 2, 3))).astype(np.float32), x=x)
    done = run(tmp_path / "run", "finetune", "random:timm:test_vit", tmp_path / "small.npz", tmp_path, input_size=32)
    assert done.record["output"]["mean"] == pytest.approx([1e4], rel=1e-3)
    assert done.record["result"]["test"] < 2


@pytest.mark.parametrize("part", [0, 1, 2])
def test_the_error_for_values_that_are_not_finite_names_the_sample(tmp_path, part):
    y = np.random.default_rng(1).standard_normal(40).astype(np.float32)
    data = read_target_data(opened(tmp_path, y))
    rows = (data.train, data.validation, data.test)[part]
    y[rows[1]] = np.inf
    target = opened(tmp_path, y)
    with pytest.raises(
        InputError, match=rf"y of sample {rows[1]} has NaN or infinite values\. Remove the sample, or provide masks"
    ):
        read_target_data(target).ground_truth(rows)


def test_samples_that_are_not_finite_raise_an_error_in_every_split(tmp_path):
    data = read_target_data(opened(tmp_path, np.arange(40) % 4))
    x = np.random.default_rng(0).standard_normal((40, 1, 12, 10)).astype(np.float32)
    x[data.test[0], 0, 3, 3] = np.nan
    data = read_target_data(opened(tmp_path, np.arange(40) % 4, x=x))
    BatchFeed(data, 0, CPU, torch.float32).load([data.train], 0, 0)
    with pytest.raises(InputError, match=r"Sample \d+ has NaN or infinite values"):
        BatchFeed(data, 0, CPU, torch.float32).load([data.test], 0, 0)


def photos(folder, sizes):
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
    return open_target(str(folder))


def test_images_of_one_size_keep_it_and_others_get_the_size_of_the_source(tmp_path):
    assert read_target_data(photos(tmp_path / "one", [(40, 30)] * 24), size=(32, 32)).transform.shape == (3, 40, 30)
    assert read_target_data(photos(tmp_path / "large", [(140, 130)] * 24), size=(32, 32)).transform.shape == (3, 32, 32)
    sizes = [(40 + n, 30) for n in range(24)]
    data = read_target_data(photos(tmp_path / "several", sizes), size=(32, 32))
    assert data.transform.shape == (3, 32, 32)
    (part,) = BatchFeed(data, 0, CPU, torch.float32).load([data.train], 0, 0)
    assert part.x.shape[1:] == (3, 32, 32)
    assert abs(float(part.x.mean())) < 0.05
    assert read_target_data(photos(tmp_path / "unknown", sizes)).transform.shape[0] == 3


@pytest.mark.parametrize(("names", "kind"), [("age bmi sex height", "table"), ("t0 t1 t2 t3", "series")])
def test_a_data_frame_with_names_of_its_own_is_a_table(names, kind, own_cache):
    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((40, 4)), columns=names.split())
    request = target_request((frame, np.arange(40) % 2), None, None, None)
    assert (request.custom_data.kind if request.custom_data else "series") == kind
    assert is_table(request.open().manifest) == (kind == "table")
    stated = target_request((frame, np.arange(40) % 2), {"kind": "series"}, None, None)
    assert not is_table(stated.open().manifest)
