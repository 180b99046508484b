"""Targets whose training samples lack classes."""

import numpy as np
import pytest

from modgap.errors import InputError
from tests.training import run

VIT = "random:timm:test_vit"


def train_on(folder, labels, classes):
    """Train shortly on samples with these labels, where validation and test samples have all classes."""
    rng = np.random.default_rng(0)
    y = np.array([*labels, *classes * 10])
    splits = np.array([0] * len(labels) + [1, 2] * (5 * len(classes)))
    np.savez(folder / "target.npz", x=rng.random((len(y), 3, 8, 8), dtype=np.float32), y=y, splits=splits)
    return run(folder / "run", "finetune", VIT, folder / "target.npz", folder, input_size=32)


def test_target_with_one_class_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'training samples of .* have one class \("cat"\)\. At least two are needed'):
        train_on(tmp_path, ["cat"] * 20, ["cat"])


def test_training_samples_of_one_class_are_refused(tmp_path):
    with pytest.raises(InputError, match=r'training samples of .* have one class \("dog"\)\. At least two are needed'):
        train_on(tmp_path, ["dog"] * 20, ["cat", "dog"])


def test_classes_without_training_samples_are_named(tmp_path, caplog):
    train_on(tmp_path, ["cat", "owl"] * 10, ["cat", "dog", "owl"])
    assert "1 class has no training samples, so the model never learns to predict it: dog." in caplog.text
