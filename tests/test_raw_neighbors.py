"""Nearest neighbors of raw values: their choice, and their errors beside those of a short fine-tuning."""

import numpy as np
import pytest

from modgap.errors import InputError
from modgap.ranking.raw_values import nearest_neighbors, raw_features, raw_neighbors_errors
from modgap.targets import open_target
from modgap.targets.samples import ArraySamples
from modgap.transfer.pilot import pilot_halves
from tests.training import target_file


def votes_of_nearest(known, labels, unknown, k):
    """Majority class of the k nearest, of equal ones the smallest, one sample at a time."""
    found = []
    for values in unknown:
        nearest = np.argsort(((known - values) ** 2).sum(1), kind="stable")[:k]
        found.append(np.bincount(labels[nearest]).argmax())
    return np.array(found)


@pytest.mark.parametrize("scale", ["as they are", "standardized"])
def test_the_scale_is_chosen_on_the_labeled_samples(scale):
    rng = np.random.default_rng(1)
    labels = np.arange(200) % 2
    features = rng.standard_normal((200, 6))
    # One value tells the classes apart; it is the smallest or the largest of all.
    features[:, 0] = (labels + 0.1 * features[:, 0]) * (0.1 if scale == "standardized" else 20)
    predicted, chosen = nearest_neighbors(features[:80], labels[:80], features[80:])
    values = features if scale == "as they are" else (features - features[:80].mean(0)) / features[:80].std(0)
    assert chosen.endswith(scale)
    np.testing.assert_array_equal(
        predicted, votes_of_nearest(values[:80], labels[:80], values[80:], int(chosen.split()[0]))
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_the_number_is_chosen_without_the_own_group(grouped):
    rng = np.random.default_rng(0)
    # The two samples of a group are nearly the same, and of one class, which its neighbors tell only roughly.
    centers = np.repeat(rng.standard_normal((40, 1)), 2, axis=0)
    labels = np.repeat((centers[::2, 0] + rng.standard_normal(40) > 0).astype(int), 2)
    features = np.hstack([centers, centers]) + 1e-6 * rng.standard_normal((80, 2))
    groups = np.repeat(np.arange(40), 2)
    units = groups if grouped else np.arange(80)
    scaled = {"as they are": features, "standardized": (features - features.mean(0)) / features.std(0)}
    errors = {}
    for scale, values in scaled.items():
        for k in (1, 5):
            wrong = [
                votes_of_nearest(values[units != unit], labels[units != unit], values[units == unit], k)
                != labels[units == unit]
                for unit in np.unique(units)
            ]
            errors[f"{k} of values {scale}"] = np.concatenate(wrong).mean()
    _, chosen = nearest_neighbors(features, labels, features, groups if grouped else None)
    assert chosen == min(errors, key=errors.get)
    assert chosen[0] == ("5" if grouped else "1"), "the twin of a sample says its class"


def test_the_weights_count_in_the_choice():
    rng = np.random.default_rng(0)
    # One sample in ten is of the second class, and half of these are close pairs among the samples of the first.
    labels = np.arange(200) % 10 // 9
    features = rng.standard_normal((200, 1))
    rare = np.flatnonzero(labels)
    features[rare[1:10:2]] = features[rare[:10:2]] + 1e-6
    by_class = np.where(labels, 1 / len(rare), 1 / (200 - len(rare)))
    chosen = [nearest_neighbors(features, labels, features, weights=weights)[1][0] for weights in (None, by_class)]
    assert chosen == ["5", "1"]


def test_three_samples_have_one_neighbor():
    features, labels = np.array([[0.0], [1.0], [5.0]]), np.array([0, 0, 1])
    predicted, chosen = nearest_neighbors(features, labels, np.array([[0.4], [4.0]]))
    assert chosen == "1 of values as they are"
    assert predicted.tolist() == [0, 1]
    # Without another group nothing can be left out.
    assert nearest_neighbors(features, labels, features, np.zeros(3))[1] == "1 of values as they are"


def test_the_errors_are_on_the_samples_that_judge_a_short_fine_tuning(tmp_path):
    target = open_target(str(target_file(tmp_path, "classification", samples=60)))
    found = raw_neighbors_errors(target, 3)
    halves = pilot_halves(target, 3)
    labels = np.asarray(halves.table.class_labels)
    flat = np.stack([np.asarray(halves.table.samples[row], float).ravel() for row in range(len(labels))])
    assert flat.shape[1] <= 1024
    predicted, _ = nearest_neighbors(flat[halves.train], labels[halves.train], flat[halves.test])
    np.testing.assert_array_equal(found.errors.errors, predicted != labels[halves.test])
    assert found.trained == len(halves.train)
    assert found.training_variance == (0.0, np.inf)
    assert found.settings == ()
    assert found.errors.averages[0] == pytest.approx((predicted != labels[halves.test]).mean())


def test_raw_values_far_from_0_keep_their_differences():
    near_zero = np.random.default_rng(0).random((30, 1, 5))
    features = raw_features(ArraySamples(near_zero + 1.7e9), np.arange(30))
    expected = (near_zero - near_zero.mean(axis=0))[:, 0]
    np.testing.assert_allclose(features, expected, atol=1e-6)
    unchanged = raw_features(ArraySamples(near_zero), np.arange(30))
    np.testing.assert_array_equal(unchanged, near_zero[:, 0].astype(np.float32))


def test_texts_have_no_raw_values(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "".join(f"word {n},{'ab'[n % 2]}\n" for n in range(40)))
    with pytest.raises(InputError):
        raw_neighbors_errors(open_target(str(path)), 0)
