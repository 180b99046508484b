"""Schedules and augmentation of the recipes, and the metrics of the published values."""

import logging

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, root_mean_squared_error

from modgap.errors import UsageError
from modgap.targets import named_manifest, open_target
from modgap.transfer.batches import BatchFeed, generator, mask_spectrogram
from modgap.transfer.benchmark_recipe import benchmark_augmentation
from modgap.transfer.metrics import metric, task_metric
from modgap.transfer.optimization import learning_rate_factor
from modgap.transfer.recipe import FullStage, resolve_recipe
from modgap.transfer.train import _announce_conversion
from modgap.transfer.training_data import read_target_data


def test_cosine_decays_from_one_to_zero():
    settings = FullStage(warmup_epochs=2, decay_epochs=10, decay="cosine")
    factors = [learning_rate_factor(settings, epoch) for epoch in (1, 2, 4, 6, 8, 10, 12)]
    expected = [0.5, 1, (1 + np.cos(np.pi / 4)) / 2, 0.5, (1 + np.cos(3 * np.pi / 4)) / 2, 0, 0]
    assert factors == pytest.approx(expected)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), ("cosine", 30.0)),
        (("stage2.epochs=7",), ("cosine", 7.0)),
        (("stage2.epochs=0",), ("linear", None)),
        (("stage2.decay_epochs=none",), ("linear", None)),
        (("stage2.decay_epochs=15",), ("linear", 15.0)),
        (("stage2.decay=cosine", "stage2.decay_epochs=15"), ("cosine", 15.0)),
    ],
)
def test_targets_without_a_recipe_get_a_cosine_schedule(overrides, expected):
    stage = resolve_recipe(named_manifest("digits"), overrides=overrides).stage2
    assert (stage.decay, stage.decay_epochs) == expected


def test_recipes_of_benchmarks_keep_their_schedule():
    stage = resolve_recipe(named_manifest("fsd50k")).stage2
    assert (stage.decay, stage.decay_epochs, stage.warmup_epochs) == ("linear", 100, 5)


# Augmentation


@pytest.mark.parametrize(
    ("name", "setting", "missing"),
    [
        ("cifar100", "crop-flip", ""),
        ("fsd50k", "spec-augment", "background noise with probability 0.75 and a weight of at most 0.5"),
        ("cosmic", None, "addition of a background of -0.9 to 3 times the sky level of the exposure, at random"),
        ("digits", None, ""),
    ],
)
def test_augmentation_of_a_recipe_is_applied_or_warned_of(caplog, name, setting, missing):
    manifest = named_manifest(name)
    assert benchmark_augmentation(manifest) == (setting, missing)
    assert resolve_recipe(manifest).stage2.augmentation == (setting or "none")
    with caplog.at_level(logging.WARNING):
        _announce_conversion(manifest)
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    text = f"The recipe of {name} has an augmentation that modgap does not apply: {missing}."
    assert warned == ([text] if missing else [])


def test_masks_of_spectrograms_have_the_published_sizes():
    rng = np.random.default_rng(0)
    spectrogram = rng.standard_normal((1, 96, 102)).astype(np.float32)
    before = spectrogram.copy()
    masked = [mask_spectrogram(spectrogram, generator(0, 1, 2, row)) for row in range(400)]
    np.testing.assert_array_equal(spectrogram, before)
    changed = [not np.array_equal(one, spectrogram) for one in masked]
    assert 0.4 < np.mean(changed) < 0.6
    lowest = spectrogram.min()
    sizes = []
    for one in masked:
        hidden = (one == lowest)[0] & (spectrogram != lowest)[0]
        # A hidden value lies in a hidden band or at a hidden time.
        bands, times = hidden.mean(axis=1) > 0.98, hidden.mean(axis=0) > 0.98
        assert not (hidden & ~bands[:, None] & ~times[None]).any()
        np.testing.assert_array_equal(one[0][~hidden], spectrogram[0][~hidden])
        sizes.append((bands.sum(), times.sum()))
    largest = np.max(sizes, axis=0)
    assert 14 < largest[0] <= 2 * 14
    assert 20 < largest[1] <= 2 * 20
    again = mask_spectrogram(spectrogram, generator(0, 1, 2, 7))
    np.testing.assert_array_equal(again, masked[7])


def test_spectrograms_alone_are_masked():
    import torch

    data = read_target_data(open_target("digits"), limit=60)
    with pytest.raises(UsageError, match="for spectrograms of sound, but the samples of this target are of kind image"):
        BatchFeed(data, 0, torch.device("cpu"), torch.float32, "spec-augment")
    sounds = read_target_data(open_target("spoken-digits"), limit=60)
    feed = BatchFeed(sounds, 0, torch.device("cpu"), torch.float32, "spec-augment")
    plain = BatchFeed(sounds, 0, torch.device("cpu"), torch.float32)
    rows = sounds.train[:30]
    (first,), (again,), (without,) = (one.load([rows], 0, 1) for one in (feed, feed, plain))
    assert torch.equal(first.x, again.x)
    differs = [not torch.equal(a, b) for a, b in zip(first.x, without.x, strict=True)]
    assert 5 < sum(differs) < 25


# Metrics


def test_auroc_with_a_threshold_is_that_of_the_predictions():
    rng = np.random.default_rng(0)
    y = (rng.random((6, 1, 8, 8)) < 0.3).astype(np.float32)
    outputs = rng.standard_normal(y.shape).astype(np.float32) + y
    ours = metric("1 - AUROC", threshold=0.0)
    ours.update(outputs, y)
    assert ours.compute() == pytest.approx(1 - roc_auc_score(y.ravel(), outputs.ravel() > 0), abs=1e-12)
    scores = metric("1 - AUROC")
    scores.update(outputs, y)
    assert scores.compute() == pytest.approx(1 - roc_auc_score(y.ravel(), outputs.ravel()), abs=1e-6)
    assert scores.compute() < ours.compute()


def test_cosmic_has_the_published_metric_with_the_protocol_of_orca_alone():
    manifest = named_manifest("cosmic")
    y = np.array([[1.0, 1.0, 0.0, 0.0]])
    outputs = np.array([[-1.0, 2.0, -2.0, -3.0]])
    values = {}
    for protocol in ("validation", "orca"):
        errors = task_metric(manifest, protocol=protocol)
        errors.update(outputs[:, None], y[:, None])
        values[protocol] = errors.compute()
    assert values == {"validation": 0.0, "orca": 0.25}


def test_rmse_of_numbers_is_the_root_over_the_samples():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((50, 3))
    outputs = y + rng.standard_normal((50, 3)) * [0.1, 1, 10]
    errors = metric("RMSE")
    errors.update(outputs[:20], y[:20])
    errors.update(outputs[20:], y[20:])
    expected = np.mean([root_mean_squared_error(y[:, k], outputs[:, k]) for k in range(3)])
    assert errors.compute() == pytest.approx(expected, rel=1e-12)
    assert errors.per_sample is None
    rows = rng.integers(50, size=50)
    assert errors.compute(rows) == pytest.approx(
        np.mean([root_mean_squared_error(y[rows, k], outputs[rows, k]) for k in range(3)]), rel=1e-12
    )


def test_rmse_leaves_out_masked_numbers():
    y, outputs = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [2.0], [np.nan]])
    errors = metric("RMSE")
    errors.update(outputs, y, np.array([[1], [1], [0]]))
    assert errors.compute() == pytest.approx(np.sqrt(0.5))
    assert errors.left_out() == 1


@pytest.mark.parametrize("name", ["diabetes", "freesolv", "gasoline", "meats"])
def test_packaged_numbers_are_judged_by_the_rmse(name):
    assert task_metric(named_manifest(name)).name == "RMSE"
