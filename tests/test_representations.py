import numpy as np
import pytest
import torch

from modgap.errors import InputError, UsageError
from modgap.forward.batched_inference import output_batches
from modgap.inputs.native_embedding import Embedding, native_embedding
from modgap.inputs.representations import (
    chunk_spans,
    log_mel_spectrograms,
    mono_waveform,
    numbers_as_text,
    one_hot_as_letters,
    resample,
    stretch,
)
from modgap.sources import AudioInput, ImageInput, Source, TextInput, WaveformInput
from modgap.targets.manifest import InputSpec, LogMel
from modgap.targets.samples import ArraySamples, Table, TextSamples

IMAGE = ImageInput((8, 8), (0.0,), (1.0,), "bilinear")
TEXT = TextInput(None, 34)
AUDIO = AudioInput(None, 16_000)
WINDOWED = WaveformInput(16_000, 80)


def table(samples):
    return Table(samples, np.arange(len(samples)) % 2, splits=np.zeros(len(samples), np.int64))


@pytest.mark.parametrize("ends", ["zeros", "reflect"])
@pytest.mark.parametrize(("decibels", "fft"), [(True, None), (False, None), (True, 2048)])
def test_log_mel_is_librosas(librosa, decibels, fft, ends):
    rng = np.random.default_rng(0)
    sound = (np.sin(np.arange(22_050) / 20) + 0.1 * rng.standard_normal(22_050)).astype(np.float32)
    options = LogMel(
        bands=96,
        window=1920,
        fft=fft,
        hop=220,
        decibels=decibels,
        high_hz=8000,
        edge_padding=ends,
        scale="htk" if fft else "slaney",
    )
    (found,) = log_mel_spectrograms(sound[None], 22_050, options)
    power = librosa.feature.melspectrogram(
        y=sound,
        sr=22_050,
        n_fft=fft or 1920,
        win_length=1920,
        hop_length=220,
        n_mels=96,
        htk=bool(fft),
        norm=None if fft else "slaney",
        fmax=8000,
        pad_mode="constant" if ends == "zeros" else "reflect",
    )  # fmt: skip
    wanted = librosa.power_to_db(power, ref=1.0) if decibels else power
    assert found.shape == (1, *wanted.shape)
    if decibels:
        np.testing.assert_allclose(found[0], wanted, atol=2e-3)
    else:
        np.testing.assert_allclose(found[0], wanted, rtol=1e-3, atol=1e-5 * wanted.max())


def test_chunks_are_cut_by_the_clock_and_padded():
    sound = np.arange(2500, dtype=np.float32)[None]
    options = LogMel(bands=8, window=64, hop=50, chunk=1.0, chunk_hop=0.5, frames=25, center=True)
    pieces = log_mel_spectrograms(sound, 1000, options)
    assert [piece.shape for piece in pieces] == [(1, 8, 25)] * 4
    (second,) = log_mel_spectrograms(sound[:, 500:1500], 1000, options)
    np.testing.assert_array_equal(pieces[1], second)
    assert (pieces[0][..., 21:] == 0).all()
    assert abs(pieces[0][..., :21].mean()) < 1e-4
    (short,) = log_mel_spectrograms(sound[:, :300], 1000, options)
    (repeated,) = log_mel_spectrograms(np.tile(sound[:, :300], 4)[:, :1000], 1000, options)
    assert (short != repeated).any()
    (short,) = log_mel_spectrograms(sound[:, :300], 1000, options.model_copy(update={"short_padding": "repeat"}))
    np.testing.assert_array_equal(short, repeated)


def test_samples_of_several_pieces_get_the_mean_of_their_logits():
    rng = np.random.default_rng(1)
    clips = [rng.standard_normal((frames, 1, 8, 8)).astype(np.float32) for frames in (3, 1, 5, 2)]
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5)).eval()
    source = Source(model, IMAGE, tuple("abcde"), False, lambda: None, model)
    embedding = Embedding("frames", 0.0, 1.0)
    for size in (1, 2, 64):
        batches = output_batches(
            source, clips, np.arange(4), embedding, device=torch.device("cpu"), batch_size=size
        )  # fmt: skip
        found = np.concatenate(list(batches))
        with torch.inference_mode():
            wanted = [model(torch.from_numpy(clip)).double().mean(0).numpy() for clip in clips]
        np.testing.assert_allclose(found, np.stack(wanted), atol=1e-6)


def test_numbers_become_words_within_the_budget():
    samples = ArraySamples(np.linspace(0, 1, 2 * 2 * 40, dtype=np.float32).reshape(2, 2, 40))
    embedding = native_embedding(InputSpec(kind="series"), table(samples), TEXT)
    assert embedding.to_dict() == {"representation": "tokens", "low": 0.0, "high": 1.0, "numbers": 16, "levels": 100}
    (text,) = embedding.pieces(samples[0])
    assert len(text.split()) == 16
    assert text.split()[0] == "1"
    assert numbers_as_text(np.array([[-5.0, 0.5, 9.0]]), 0, 1, 16) == "0 50 99"


def test_more_channels_than_the_text_has_room_for_are_averaged():
    channels = np.repeat([0.0, 0.2, 0.4, 0.6], 2)[:, None]
    assert numbers_as_text(channels, 0, 1, 4) == "0 20 40 60"
    assert len(numbers_as_text(np.zeros((600, 3)), 0, 1, 255).split()) == 255


def test_letters_of_one_hot_channels():
    spec = InputSpec(kind="series", alphabet="ACGT")
    one_hot = np.eye(4, dtype=np.float32)[:, [3, 0, 1]]
    one_hot[:, 1] = 0
    embedding = native_embedding(spec, table(ArraySamples(np.stack([one_hot] * 2))), TEXT)
    assert embedding.pieces(one_hot) == ["TNC"] == [one_hot_as_letters(one_hot, "ACGT")]
    with pytest.raises(InputError, match="'AC' has 2 letters"):
        native_embedding(InputSpec(kind="series", alphabet="AC"), table(ArraySamples(np.stack([one_hot] * 2))), TEXT)


def test_sound_is_brought_to_the_sources_rate():
    tone = np.sin(2 * np.pi * 50 * np.arange(8000) / 8000, dtype=np.float64).astype(np.float32)[None]
    doubled = mono_waveform(tone, 8000, 16_000)
    assert doubled.shape == (16_000,)
    wanted = np.sin(2 * np.pi * 50 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(doubled[200:-200], wanted[200:-200], atol=1e-2)
    as_audio = native_embedding(InputSpec(kind="audio", rate=8000), table(ArraySamples(np.stack([tone] * 2))), AUDIO)
    assert (as_audio.low, [piece.shape for piece in as_audio.pieces(tone)]) == (None, [(16_000,)])


def test_series_with_a_rate_are_resampled_and_others_are_stretched_to_one_window():
    ramp = np.linspace(0, 10, 50, dtype=np.float32)
    series = np.stack([ramp, 10 - ramp])
    samples = table(ArraySamples(np.stack([series] * 2)))
    rated = native_embedding(InputSpec(kind="series", rate=400), samples, AUDIO)
    assert [piece.shape for piece in rated.pieces(series)] == [(2000,), (2000,)]
    slow = native_embedding(InputSpec(kind="series", rate=10), samples, AUDIO)
    stretched = native_embedding(InputSpec(kind="series"), samples, AUDIO)
    assert slow == stretched
    assert [piece.shape for piece in stretched.pieces(series)] == [(16_000,), (16_000,)]
    windowed = native_embedding(InputSpec(kind="series"), samples, WINDOWED)
    first, second = windowed.pieces(series)
    # The largest and the smallest value of the training split become 1 and -1.
    np.testing.assert_allclose(first, np.linspace(-1, 1 + 0.016, 80, endpoint=False), atol=0.03)
    np.testing.assert_allclose(first, -second, atol=3e-3)
    many = np.repeat(series, 40, axis=0)
    assert len(native_embedding(InputSpec(kind="series"), table(ArraySamples(many[None])), WINDOWED).pieces(many)) == 32
    golden = [-0.984858, -0.959802, -0.934497, -0.90953, -0.88437, -0.859087]
    np.testing.assert_allclose(first[:6], golden, atol=2e-6)


def test_long_sound_enters_in_windows_that_are_evenly_spaced():
    sound = np.arange(80 * 70, dtype=np.float32)[None]
    embedding = native_embedding(InputSpec(kind="audio", rate=16_000), table(ArraySamples(sound[None])), WINDOWED)
    windows = embedding.pieces(sound)
    assert len(windows) == 32
    assert (windows[0][0], windows[-1][-1]) == (0, 80 * 70 - 1)
    assert [len(window) for window in windows] == [80] * 32
    (short,) = embedding.pieces(sound[:, :30])
    np.testing.assert_array_equal(short, np.pad(sound[0, :30], (0, 50)))


@pytest.mark.parametrize("representation", ["rows", "patches"])
def test_images_are_read_by_rows_or_patches(representation):
    images = np.arange(2 * 3 * 16 * 16, dtype=np.float32).reshape(2, 3, 16, 16)
    embedding = native_embedding(InputSpec(kind="image"), table(ArraySamples(images)), WINDOWED, representation)
    (waveform,) = embedding.pieces(images[0])
    assert waveform.shape == (80,)
    assert embedding.to_dict()["patch"] == (8 if representation == "patches" else None)
    gray = images[0].mean(axis=0)
    if representation == "patches":
        gray = np.concatenate([gray[:8, :8].ravel(), gray[:8, 8:].ravel(), gray[8:, :8].ravel(), gray[8:, 8:].ravel()])
    wanted = 2 * (stretch(gray.ravel(), 80) - embedding.low) / (embedding.high - embedding.low) - 1
    np.testing.assert_allclose(waveform, wanted, atol=1e-5)


ONE_OF_EACH = {
    "image": ArraySamples(np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)),
    "series": ArraySamples(np.random.default_rng(0).random((4, 2, 100), dtype=np.float32)),
    "audio": ArraySamples(np.random.default_rng(0).random((4, 1, 900), dtype=np.float32)),
    "video": ArraySamples(np.random.default_rng(0).random((4, 2, 3, 8, 8), dtype=np.float32)),
    "text": TextSamples(["a", "b", "c", "d"]),
}
CELLS = {
    ("image", "image"): "image", ("image", "text"): "tokens", ("image", "audio"): "rows",
    ("series", "image"): "spectrogram", ("series", "text"): "tokens", ("series", "audio"): "waveform",
    ("audio", "image"): "log-mel", ("audio", "text"): "tokens", ("audio", "audio"): "waveform",
    ("video", "image"): "frames", ("video", "text"): None, ("video", "audio"): None,
    ("text", "image"): None, ("text", "text"): "text", ("text", "audio"): None,
}  # fmt: skip


@pytest.mark.parametrize(("samples", "source"), CELLS)
def test_each_cell_of_the_table_works_or_is_refused_with_the_reason(samples, source):
    spec = InputSpec(kind=samples, rate=400 if samples == "audio" else None)
    source_input = {"image": IMAGE, "text": TEXT, "audio": WINDOWED}[source]
    data = table(ONE_OF_EACH[samples])
    if CELLS[samples, source] is None:
        with pytest.raises(UsageError, match=f"takes {source}, but this target's samples are {samples}"):
            native_embedding(spec, data, source_input)
        return
    embedding = native_embedding(spec, data, source_input)
    assert embedding.representation == CELLS[samples, source]
    pieces = embedding.pieces(data.samples[0])
    assert pieces
    if source == "audio":
        assert source_input.batch(pieces, torch.device("cpu")).shape == (len(pieces), 80)
    elif source == "image":
        assert source_input.batch(pieces, torch.device("cpu")).shape == (len(pieces), 1, 8, 8)
    else:
        assert all(isinstance(piece, str) and piece for piece in pieces)


def test_what_source_and_samples_do_not_share_is_refused():
    words = table(TextSamples(["a word", "another"]))
    assert native_embedding(InputSpec(kind="text"), words, TEXT).pieces("a word") == ["a word"]
    with pytest.raises(UsageError, match=r"takes image, but .* are text\. Choose a source that takes text"):
        native_embedding(InputSpec(kind="text"), words, IMAGE)
    images = table(ArraySamples(np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)))
    with pytest.raises(UsageError, match="`representation='tokens'` does not apply"):
        native_embedding(InputSpec(kind="image"), images, IMAGE, "tokens")
    sounds = table(ArraySamples(np.ones((2, 1, 400), np.float32)))
    with pytest.raises(InputError, match="rate in hertz"):
        native_embedding(InputSpec(kind="series"), sounds, IMAGE, "log-mel")


@pytest.mark.parametrize("rates", [(100_000, 40), (100_000, 160), (2_000, 16_000)])
def test_a_resampled_waveform_has_the_duration_of_the_waveform(rates):
    rate, new_rate = rates
    waveform = np.ones(4 * rate // 10, np.float32)
    assert len(resample(waveform, rate, new_rate)) == pytest.approx(len(waveform) * new_rate / rate, abs=1)


def test_chunks_have_at_least_one_value():
    spans = chunk_spans(5, 0.01, LogMel(bands=1, window=2, hop=1, chunk=4))
    assert spans == [(start, start + 1) for start in range(5)]
