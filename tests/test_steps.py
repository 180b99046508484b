"""Preprocessing steps against their formulas, and splits by position."""

import numpy as np
import pytest

from modgap.baselines.baseline import SampleForm
from modgap.baselines.series import BY_SAMPLE
from modgap.errors import InputError, UsageError
from modgap.targets.manifest import InputSpec
from modgap.targets.samples import ArraySamples, ConcatenatedSamples, Table
from modgap.targets.splits import draw_test_split, hold_out_validation
from modgap.targets.steps import get_step


class Ragged:
    """Samples of different shape that count how often they are read."""

    def __init__(self, items):
        self.items = items
        self.reads = 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.reads += 1
        return self.items[index]


def table(size=12, shape=(1, 6, 5), **more):
    rng = np.random.default_rng(0)
    array = rng.normal(3, 2, (size, *shape)).astype(np.float32)
    splits = np.array([0, 0, 0, 0, 1, 2] * (size // 6))
    return Table(ArraySamples(array), splits=splits, **more)


def test_the_error_for_an_unknown_step_has_the_nearest_name():
    with pytest.raises(UsageError, match=r"Unknown step 'clip-target'\. Did you mean clip-targets"):
        get_step("clip-target")


def test_zscore_is_by_sample_and_leaves_constants_at_zero():
    original = [np.arange(10.0)[None], np.full((1, 4), 7.0)]
    done = get_step("zscore")(Table(Ragged(original)))
    np.testing.assert_allclose(done.samples[0][0], (original[0][0] - 4.5) / np.std(original[0]), rtol=1e-6)
    np.testing.assert_array_equal(done.samples[1], np.zeros((1, 4)))
    assert done.samples[0].dtype == np.float32


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6 / 7, 7.0])
@pytest.mark.parametrize("length", [3, 10, 100, 129, 1000])
def test_constant_samples_are_zero_although_their_mean_is_rounded(value, length):
    for options in ({}, {"by_channel": True}):
        done = get_step("zscore")(Table(Ragged([np.full((2, length), value)])), **options)
        assert not done.samples[0].any()


def test_samples_without_values_and_with_the_smallest_differences_are_standardized():
    done = get_step("zscore")(Table(Ragged([np.zeros((2, 0)), np.array([[0, 1e-200], [0, 1]])])), by_channel=True)
    assert done.samples[0].shape == (2, 0)
    assert np.isfinite(done.samples[1]).all()
    assert done.samples[1][1].tolist() == [-1, 1]


def test_channels_are_standardized_as_the_baselines_do_it():
    rng = np.random.default_rng(0)
    series = rng.normal([[5], [-3]], [[2], [0.1]], (4, 2, 30))
    series[1, 0] = 0.1
    step = get_step("zscore")(Table(ArraySamples(series)), by_channel=True)
    by_step = np.stack([step.samples[row] for row in range(4)])
    centered = series[0] - series[0].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(by_step[0], centered / series[0].std(axis=1, keepdims=True), rtol=1e-6)
    form = SampleForm(InputSpec(kind="series"), (2, 30))
    rows = BY_SAMPLE.compute(ArraySamples(series), form)
    np.testing.assert_array_equal(by_step.reshape(4, -1), rows.astype(np.float32))
    assert not by_step[1, 0].any()


def test_scale_divides():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 6)
    np.testing.assert_allclose(get_step("scale")(Table(ArraySamples(pixels)), divisor=4).samples[1], pixels[1] / 4)
    with pytest.raises(InputError, match="a divisor other than 0"):
        get_step("scale")(Table(ArraySamples(pixels)), divisor=0)


def test_standardize_fits_on_the_training_split_of_samples_and_targets():
    rng = np.random.default_rng(1)
    values = rng.normal(100, 0.1, (12, 4)).astype(np.float32)
    done = get_step("standardize")(table(targets=ArraySamples(values)), epsilon=0.5)
    train = done.splits == 0
    for samples, raw in ((done.samples, table().samples.array), (done.targets, values)):
        mean = raw[train].mean(axis=0, dtype=np.float64)
        sd = raw[train].std(axis=0, ddof=1, dtype=np.float64)
        np.testing.assert_allclose(
            np.stack([samples[i] for i in range(12)]), (raw - mean) / (sd + 0.5), rtol=1e-3, atol=1e-5
        )
    mean, sd = done.target_scale
    np.testing.assert_allclose(done.targets[5] * sd + mean, values[5], rtol=1e-5)
    with pytest.raises(InputError, match="at least two training samples"):
        get_step("standardize")(Table(ArraySamples(values), splits=np.full(12, 2)))
    with pytest.raises(InputError, match="values of one shape"):
        get_step("standardize")(Table(Ragged([np.zeros(3), np.zeros(4)])))


def test_standardize_reads_a_sample_at_a_time_and_no_more_than_once():
    samples = Ragged([np.full(3, float(k)) for k in range(10)])
    get_step("standardize")(Table(samples))
    # The first one is read once more for its shape.
    assert samples.reads == 11


def test_windows_have_the_stride_of_their_class_and_keep_split_and_group():
    series = [np.arange(length, dtype=np.float32)[None] for length in (10, 4, 3, 9)]
    original = Table(
        Ragged(series), np.array([0, 1, 0, 1]), ["a", "b"], np.array([0, 0, 1, 2]), {"groups": np.array([5, 6, 7, 8])}
    )
    done = get_step("windows")(original, length=3, strides=[4, 2])
    expected = [
        (i, start) for i, stride in ((0, 4), (1, 2), (3, 2)) for start in range(0, series[i].shape[1] - 3, stride)
    ]
    assert len(done) == len(expected) == 6
    for number, (i, start) in enumerate(expected):
        np.testing.assert_array_equal(done.samples[number], series[i][:, start : start + 3])
    rows = [i for i, _ in expected]
    np.testing.assert_array_equal(done.labels, original.labels[rows])
    np.testing.assert_array_equal(done.splits, original.splits[rows])
    np.testing.assert_array_equal(done.groups["groups"], original.groups["groups"][rows])
    assert len(get_step("windows")(original, length=3, strides=[2])) == 4 + 1 + 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 3, "strides": [1, 0]}, "stride of at least 1 for 2 classes"),
        ({"length": 3, "strides": [1, 2, 3][:0]}, "stride of at least 1"),
        ({"length": 50, "strides": [1]}, "series longer than 50"),
    ],
)
def test_windows_that_cannot_be_cut(options, message):
    original = Table(ArraySamples(np.zeros((2, 1, 8))), np.array([0, 1]))
    with pytest.raises(InputError, match=message):
        get_step("windows")(original, **options)
    with pytest.raises(InputError, match="one class each"):
        get_step("windows")(Table(original.samples), length=2, strides=[1])


def test_crop_cuts_samples_targets_and_masks_alike():
    original = table(shape=(2, 8, 9))
    original = Table(original.samples, targets=ArraySamples(original.samples.array[:, :1]), masks=original.samples)
    done = get_step("crop")(original, start=[1, 2], size=[4, 5])
    expected = original.samples.array[:, :, 1:5, 2:7]
    np.testing.assert_array_equal(done.samples[3], expected[3])
    np.testing.assert_array_equal(done.targets[3], expected[3, :1])
    np.testing.assert_array_equal(done.masks[3], expected[3])
    with pytest.raises(InputError, match="at least"):
        _ = get_step("crop")(original, start=[5, 5], size=[4, 4]).samples[0]
    with pytest.raises(InputError, match="a start and a size"):
        get_step("crop")(original, start=[5], size=[4, 4])


def test_pad_surrounds_and_cuts_at_the_end():
    samples = [np.ones((3, 2, 2)), np.ones((3, 9, 9))]
    targets = [np.full((1, 2, 2), 5.0), np.full((1, 9, 9), 5.0)]
    done = get_step("pad")(Table(Ragged(samples), targets=Ragged(targets)), size=[6, 6], start=2, target_fill=9)
    small = np.zeros((6, 6))
    large = np.zeros((6, 6))
    small[2:4, 2:4] = 1
    large[2:, 2:] = 1
    np.testing.assert_array_equal(done.samples[0], np.stack([small] * 3))
    np.testing.assert_array_equal(done.samples[1][0], large)
    np.testing.assert_array_equal(done.targets[0][0], np.where(small, 5, 9))
    with pytest.raises(InputError, match="a start below it"):
        get_step("pad")(Table(Ragged(samples)), size=[3, 3], start=3)


def test_targets_are_clipped_in_the_named_splits():
    values = np.full((6, 1, 2), 30.0)
    original = Table(ArraySamples(values), splits=np.array([0, 1, 2, 0, 1, 2]), targets=ArraySamples(values))
    done = get_step("clip-targets")(original, maximum=16, splits=["train", "val"])
    assert [float(done.targets[i].max()) for i in range(6)] == [16, 16, 30, 16, 16, 30]
    with pytest.raises(InputError, match="expected targets to clip"):
        get_step("clip-targets")(Table(ArraySamples(values)), maximum=1)
    with pytest.raises(InputError, match="got training"):
        get_step("clip-targets")(original, maximum=1, splits=["training"])


def test_coordinates_are_the_grid_last_axis_first():
    done = get_step("coordinates")(Table(ArraySamples(np.zeros((1, 2, 3, 5), np.float32))))
    rows, columns = np.meshgrid(np.linspace(0, 1, 3), np.linspace(0, 1, 5), indexing="ij")
    np.testing.assert_allclose(done.samples[0][2:], [columns, rows], rtol=1e-6)
    assert get_step("coordinates")(Table(ArraySamples(np.zeros((1, 1, 7))))).samples[0].shape == (2, 7)


def test_concatenated_samples_are_those_of_the_parts():
    parts = [np.arange(3), np.arange(0), np.arange(10, 12)]
    samples = ConcatenatedSamples(tuple(ArraySamples(part) for part in parts))
    assert len(samples) == 5
    assert [int(samples[i]) for i in range(5)] == [0, 1, 2, 10, 11]
    assert int(samples[-1]) == 11
    with pytest.raises(IndexError):
        samples[5]


@pytest.mark.parametrize(
    ("size", "validation", "n_validation"),
    [(50_000, 0.2, 10_000), (4830, 0.1, 483), (1000, 0.1, 100), (3456, 100, 100)],
)
def test_validation_by_position_has_the_benchmarks_sizes(size, validation, n_validation):
    done = hold_out_validation(np.zeros(size, np.int64), validation)
    assert (done[-n_validation:] == 1).all()
    assert (done[:-n_validation] == 0).all()
    assert (hold_out_validation(np.zeros(size, np.int64), validation, "start")[:n_validation] == 1).all()


def test_invalid_validation_sizes_are_rejected():
    splits = np.array([0, 0, 0, 2])
    np.testing.assert_array_equal(hold_out_validation(splits, "size-of-test"), [0, 0, 1, 2])
    assert hold_out_validation(splits, None) is splits
    for wrong in (3, 0.0, 7):
        with pytest.raises(InputError, match="expected to move some of the 3"):
            hold_out_validation(splits, wrong)
    for wrong, position in (("half", "end"), (0.5, "middle"), (True, "end")):
        with pytest.raises(InputError, match="expected validation to be"):
            hold_out_validation(splits, wrong, position)


def test_a_drawn_test_split_is_seeded():
    first = draw_test_split(100, 0.1, 0)
    assert (first == 2).sum() == 10
    np.testing.assert_array_equal(first, draw_test_split(100, 0.1, 0))
    assert (first != draw_test_split(100, 0.1, 1)).any()
