"""Sketches of targets: subsets are recognized at any size, and other data is not."""

from types import SimpleNamespace

import numpy as np
import pytest

from modgap.ranking.history.sketches import LENGTH, TargetSketch, matching_targets, sketch_target
from modgap.targets.samples import ArraySamples, TextSamples


def samples(numbers):
    return ArraySamples(np.array(numbers, np.float32)[:, None] + np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(("whole", "part"), [(100, 100), (100, 10), (3000, 3000), (3000, 150), (3000, 30)])
def test_a_subset_is_the_same_target(whole, part):
    rng = np.random.default_rng(whole + part)
    sketch, other = sketch_target(samples(range(whole))), sketch_target(samples(rng.permutation(whole)[:part]))
    assert sketch.overlap(other) == other.overlap(sketch) == 1
    assert matching_targets(other, {"whole": sketch}) == {"whole"}


def naive_overlap(one, other):
    return len(set(one) & set(other)) / min(len(set(one)), len(set(other)))


@pytest.mark.parametrize("shared", [0, 50, 500, 1500])
def test_the_overlap_is_about_the_share_of_the_smaller_one(shared):
    one, other = range(2000), range(2000 - shared, 6000 - shared)
    found = sketch_target(samples(one)).overlap(sketch_target(samples(other)))
    true = naive_overlap(one, other)
    assert found == pytest.approx(true, abs=4 * np.sqrt(true * (1 - true) / 80) + 1e-9)
    if not shared:
        assert matching_targets(sketch_target(samples(one)), {"other": sketch_target(samples(other))}) == set()


def test_the_order_of_the_samples_does_not_matter_but_their_values_do():
    sketch = sketch_target(samples(range(500)))
    assert sketch_target(samples(range(499, -1, -1))) == sketch
    assert len(sketch.hashes) == LENGTH
    assert sketch_target(samples(range(1, 501))).digest != sketch.digest
    texts = sketch_target(TextSamples(("a", "b", "\ud800")))
    assert texts.is_complete
    assert len(texts.hashes) == 3
    assert TargetSketch((), True).overlap(texts) == 0


def test_large_targets_are_read_at_even_distances(monkeypatch):
    monkeypatch.setattr("modgap.ranking.history.sketches.MOST_SAMPLES", 100)
    read = []

    class Counted:
        def __len__(self):
            return 1000

        def __getitem__(self, index):
            read.append(index)
            return np.full(3, index, np.float32)

    sketch_target(Counted())
    assert len(read) == 100
    assert (read[0], read[-1]) == (0, 999)


@pytest.mark.parametrize("seconds", [0.001, 0.3])
def test_the_time_of_a_slow_target_is_told_once(monkeypatch, caplog, seconds):
    caplog.set_level("INFO", "modgap")
    now = [0.0]
    monkeypatch.setattr("modgap.ranking.history.sketches.time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Slow:
        def __len__(self):
            return 100

        def __getitem__(self, index):
            now[0] += seconds
            return np.full(3, index, np.float32)

    assert len(sketch_target(Slow()).hashes) == 100
    texts = [record.getMessage() for record in caplog.records]
    told = ["Reading 100 samples to recognize the target among earlier ones takes about 30 s."]
    assert texts == (told if seconds > 0.01 else [])
