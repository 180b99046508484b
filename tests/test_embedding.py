import numpy as np
import pytest
import torch
from PIL import Image

from modgap.errors import InputError, UsageError
from modgap.inputs.native_embedding import Embedding, native_embedding
from modgap.inputs.representations import fold_series, spectrogram
from modgap.sources import ImageInput
from modgap.targets.manifest import InputSpec
from modgap.targets.samples import ArraySamples, Table

PLAIN = ImageInput((4, 4), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bicubic")


def table(array):
    splits = np.array([0] * (len(array) - 1) + [2])
    return Table(ArraySamples(array), np.arange(len(array)) % 2, splits=splits)


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((1, 24), (1, 6, 4)),
        ((6, 100), (1, 24, 25)),
        ((1, 1460), (1, 73, 20)),
        ((1, 13), (1, 7, 2)),
        ((2, 3), (1, 2, 3)),
    ],
)
def test_fold_keeps_values_in_rows_of_one_width(shape, image):
    series = np.arange(np.prod(shape)).reshape(shape)
    folded = fold_series(series)
    assert folded.shape == image
    if shape[1] % image[2] == 0:
        np.testing.assert_array_equal(folded.ravel(), series.ravel())


def test_spectrogram_is_the_windowed_fourier_transform():
    series = np.random.default_rng(0).standard_normal((2, 1460))
    picture = spectrogram(series)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64)
    # A window lies every 16 values; the fourth one from the left begins with the series itself.
    first = int(np.argmin([np.abs(picture[0, :33, t] - _slice(series[0], window, 0)).max() for t in range(8)]))
    for step in range(20):
        np.testing.assert_allclose(picture[0, :33, first + step], _slice(series[0], window, 16 * step), atol=1e-10)
        np.testing.assert_allclose(picture[0, 33:, first + step], _slice(series[1], window, 16 * step), atol=1e-10)


def _slice(channel, window, start):
    return np.log1p(np.abs(np.fft.rfft(window * channel[start : start + 64])))


@pytest.mark.parametrize(("length", "rows"), [(100, 33), (2048, 65), (20_000, 513)])
def test_the_window_follows_the_length(length, rows):
    assert spectrogram(np.zeros((1, length))).shape[1] == rows


def test_range_is_that_of_the_training_split():
    array = np.array([2.0, 6.0, 100.0], np.float32).reshape(3, 1, 1, 1) * np.ones((1, 1, 2, 2), np.float32)
    embedding = native_embedding(InputSpec(kind="image"), table(array), PLAIN)
    assert embedding == Embedding("image", 2.0, 6.0)
    assert embedding.pieces(array[1])[0].max() == 1
    given = native_embedding(InputSpec(kind="image", low=0, high=255), table(array), PLAIN)
    assert (given.low, given.high) == (0, 255)


@pytest.mark.parametrize("representation", ["fold", "spectrogram"])
def test_values_with_a_large_offset_are_scaled_in_double_precision(representation):
    near_zero = np.random.default_rng(0).random((6, 1, 80))
    pieces = []
    for offset in (0, 1.7e9):
        table = Table(ArraySamples(near_zero + offset), splits=np.zeros(6, int))
        embedding = native_embedding(InputSpec(kind="series"), table, PLAIN, representation)
        pieces.append(embedding.pieces(table.samples[0])[0])
    assert pieces[1].dtype == np.float32
    if representation == "fold":
        np.testing.assert_allclose(pieces[1], pieces[0], atol=1e-5)
    assert len(np.unique(pieces[1])) > 20


def test_short_series_are_folded_and_long_ones_become_spectrograms():
    rng = np.random.default_rng(0)
    for length, chosen in ((24, "fold"), (300, "spectrogram")):
        data = table(rng.random((4, 1, length)).astype(np.float32))
        assert native_embedding(InputSpec(kind="series"), data, PLAIN).representation == chosen
        assert native_embedding(InputSpec(kind="series"), data, PLAIN, "fold").representation == "fold"


def test_what_does_not_apply_or_cannot_be_scaled_is_refused():
    flat = table(np.ones((3, 1, 2, 2), np.float32))
    with pytest.raises(InputError, match="Samples must differ"):
        native_embedding(InputSpec(kind="image"), flat, PLAIN)
    with pytest.raises(UsageError, match="`representation='fold'` does not apply"):
        native_embedding(InputSpec(kind="image"), flat, PLAIN, "fold")
    with pytest.raises(InputError, match="needs at least 32"):
        spectrogram(np.zeros((1, 20)))
    broken = np.ones((3, 1, 2, 2), np.float32)
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN or infinite values in 1"):
        native_embedding(InputSpec(kind="image"), table(broken), PLAIN)


def test_channels_are_repeated_or_averaged_to_three():
    one = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(PLAIN.prepare(one), one.repeat(1, 3, 1, 1))
    three = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(PLAIN.prepare(three), three)
    six = torch.rand(2, 6, 4, 4)
    torch.testing.assert_close(PLAIN.prepare(six), six.reshape(2, 3, 2, 4, 4).mean(2))


def test_resizing_is_antialiased_as_pillows():
    pixels = np.random.default_rng(0).random((40, 52)).astype(np.float32)
    own = ImageInput((10, 13), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic")
    done = own.prepare(torch.from_numpy(pixels)[None, None])[0, 0]
    wanted = np.asarray(Image.fromarray(pixels).resize((13, 10), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(done.numpy(), (wanted - 0.5) / 0.25, atol=1e-4)
