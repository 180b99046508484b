"""Schedules and augmentation of the recipes, and the metrics of the published values."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, root_mean_squared_error

from modgap.errors import UsageError
from modgap.targets import named_manifest, open_target
from modgap.targets.samples import Table
from modgap.training.batches import BatchFeed, add_background, augment, check_augmentation, generator, mask_spectrogram
from modgap.training.loop import learning_rate_factor
from modgap.training.metrics import metric, task_metric
from modgap.training.recipe import FullStage, benchmark_augmentation, resolve_recipe
from modgap.training.train import _announce_conversion
from modgap.training.training_data import InputTransform, read_target_data
from tests.fixtures.audio import tone, wav


def test_cosine_decays_from_one_to_zero():
    settings = FullStage(warmup_epochs=2, decay_epochs=10, decay="cosine")
    factors = [learning_rate_factor(settings, epoch) for epoch in (1, 2, 4, 6, 8, 10, 12)]
    expected = [0.5, 1, (1 + np.cos(np.pi / 4)) / 2, 0.5, (1 + np.cos(3 * np.pi / 4)) / 2, 0, 0]
    assert factors == pytest.approx(expected)


def test_rate_drops_after_the_epochs_that_the_user_names():
    settings = FullStage(warmup_epochs=0, drop_epochs=(1, 3))
    # The updates in the middle and at the end of each of four epochs.
    factors = [learning_rate_factor(settings, epoch / 2) for epoch in range(1, 9)]
    assert factors == pytest.approx([1, 1, 0.2, 0.2, 0.2, 0.2, 0.04, 0.04])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), ("cosine", 30.0)),
        (("stage2.epochs=7",), ("cosine", 7.0)),
        (("stage2.epochs=0",), ("linear", None)),
        (("stage2.decay=cosine",), ("cosine", 30.0)),
        (("stage2.decay=linear", "stage2.epochs=7"), ("linear", 7.0)),
        (("stage2.decay_epochs=none",), ("linear", None)),
        (("stage2.decay_epochs=15",), ("linear", 15.0)),
        (("stage2.decay=cosine", "stage2.decay_epochs=15"), ("cosine", 15.0)),
    ],
)
def test_targets_without_a_recipe_get_a_cosine_schedule(overrides, expected):
    stage = resolve_recipe(named_manifest("digits"), overrides=overrides).stage2
    assert (stage.decay, stage.decay_epochs) == expected


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_decay_that_ends_within_the_warm_up_is_refused(stage):
    settings = [f"{stage}.decay_epochs=2", f"{stage}.warmup_epochs=2"]
    with pytest.raises(UsageError, match=rf"{stage}\.decay_epochs=2 is not after the warm-up of 2 epochs"):
        resolve_recipe(named_manifest("digits"), overrides=settings)
    assert resolve_recipe(named_manifest("digits"), overrides=["stage2.epochs=1"]).stage2.decay_epochs == 1


def test_recipes_of_benchmarks_keep_their_schedule():
    stage = resolve_recipe(named_manifest("fsd50k")).stage2
    assert (stage.decay, stage.decay_epochs, stage.warmup_epochs) == ("linear", 100, 5)


# Augmentation


@pytest.mark.parametrize(
    ("name", "setting", "missing"),
    [
        ("cifar100", "crop-flip", ""),
        ("fsd50k", "noise-spec-augment", ""),
        ("cosmic", "background-level", ""),
        ("digits", None, ""),
        ("cifar100", None, "rotation by up to 15 degrees"),
    ],
)
def test_augmentation_of_a_recipe_is_applied_or_warned_of(caplog, name, setting, missing):
    manifest = named_manifest(name)
    if missing:
        training = manifest.training.model_copy(update={"augmentation": missing})
        manifest = manifest.model_copy(update={"training": training})
    assert benchmark_augmentation(manifest) == (setting, missing)
    assert resolve_recipe(manifest).stage2.augmentation == (setting or "none")
    with caplog.at_level(logging.WARNING):
        _announce_conversion(manifest)
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    text = f"The recipe of {name} has an augmentation that modgap does not apply: {missing}."
    assert warned == ([text] if missing else [])


def test_a_part_of_an_augmentation_that_is_unknown_is_named():
    manifest = named_manifest("fsd50k")
    training = manifest.training.model_copy(update={"augmentation": "SpecAugment; a change of pitch"})
    stated = manifest.model_copy(update={"training": training})
    assert benchmark_augmentation(stated) == ("spec-augment", "a change of pitch")


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


def test_spectrograms_alone_are_masked(tmp_path):
    import torch

    data = read_target_data(open_target("digits"), limit=60)
    with pytest.raises(UsageError, match="for spectrograms of sound, but the samples of this target are of kind image"):
        BatchFeed(data, 0, torch.device("cpu"), torch.float32, "spec-augment")
    for number in range(60):
        path = tmp_path / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wav(tone(200 + 20 * number, 1.0, 16_000), 16_000))
    sounds = read_target_data(open_target(str(tmp_path)), limit=60)
    feed = BatchFeed(sounds, 0, torch.device("cpu"), torch.float32, "spec-augment")
    plain = BatchFeed(sounds, 0, torch.device("cpu"), torch.float32)
    rows = sounds.train[:30]
    (first,), (again,), (without,) = (one.load([rows], 0, 1) for one in (feed, feed, plain))
    assert torch.equal(first.x, again.x)
    differs = [not torch.equal(a, b) for a, b in zip(first.x, without.x, strict=True)]
    assert 5 < sum(differs) < 25


def spectrograms(noise):
    """Twenty clips of a constant, and noise of another one, whose spectrograms are constant too."""
    spec = named_manifest("fsd50k").input
    table = Table((np.ones((1, 22_050), np.float32),) * 20, noise=noise)
    transform = InputTransform(spec, (1, 96, 102), np.zeros(1, np.float32), np.ones(1, np.float32))
    return SimpleNamespace(table=table, transform=transform)


def test_noise_has_the_published_share_and_weight(caplog):
    tone = np.sin(np.arange(3 * 22_050, dtype=np.float32))[None]
    data = spectrograms((tone,))
    noise = data.transform.pieces(tone)[0]
    clean = data.transform.pieces(data.table.samples[0])[0]
    direction = (noise - clean).ravel() / np.square(noise - clean).sum()
    weights = []
    for number in range(300):
        random = generator(0, 1, 2, number)
        mixed = augment("noise-spec-augment", clean, data, number % 20, random)
        # Masks leave most values as they are, so the weight is that of the unmasked ones on average.
        weights.append(float((mixed - clean).ravel() @ direction))
    # A quarter has no noise, and half of these no mask, so they are unchanged.
    assert 0.07 < np.mean(np.array(weights) == 0) < 0.19
    assert np.quantile(weights, 0.95) < 0.55
    assert np.median(weights) > 0.1
    check_augmentation("noise-spec-augment", data)
    assert not caplog.records
    check_augmentation("noise-spec-augment", spectrograms(None))
    assert "no files of noise" in caplog.text


def test_background_levels_have_the_published_range():
    image = np.random.default_rng(0).standard_normal((1, 8, 8)).astype(np.float32)
    transform = InputTransform(named_manifest("cosmic").input, (1, 8, 8), np.array([50.0]), np.array([20.0]))
    added = [(add_background(image, 30.0, transform, generator(0, 1, 0, row)) - image) * 20 / 30 for row in range(2000)]
    assert all(np.ptp(one) < 1e-5 for one in added)
    levels = [float(one.mean()) for one in added]
    assert -0.9 <= min(levels) < -0.88
    assert 2.97 < max(levels) <= 3.001
    # A uniform distribution from -0.9 to 3 has a mean of 1.05 and a standard error of 1.126 / sqrt(2000).
    assert abs(np.mean(levels) - 1.05) < 4 * 1.126 / np.sqrt(2000)
    digits = read_target_data(open_target("digits"), limit=60)
    with pytest.raises(UsageError, match="needs the level of each sample's background"):
        check_augmentation("background-level", digits)


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
    assert errors.per_sample.mean() == pytest.approx(expected, rel=1e-12)
    rows = rng.integers(50, size=50)
    assert errors.weighted(np.bincount(rows, minlength=50))[0] == pytest.approx(
        np.mean([root_mean_squared_error(y[rows, k], outputs[rows, k]) for k in range(3)]), rel=1e-12
    )


def test_rmse_leaves_out_masked_numbers():
    y, outputs = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [2.0], [np.nan]])
    errors = metric("RMSE")
    errors.update(outputs, y, np.array([[1], [1], [0]]))
    assert errors.compute() == pytest.approx(np.sqrt(0.5))
    assert errors.left_out() == 1


@pytest.mark.parametrize("name", ["diabetes", "freesolv"])
def test_packaged_numbers_are_judged_by_the_rmse(name):
    assert task_metric(named_manifest(name)).name == "RMSE"


def test_an_augmentation_of_the_recipe_can_be_switched_off():
    assert resolve_recipe(named_manifest("fsd50k")).stage2.augmentation != "none"
    assert resolve_recipe(named_manifest("fsd50k"), {}, ["stage2.augmentation=none"]).stage2.augmentation == "none"
