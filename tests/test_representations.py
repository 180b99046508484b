import numpy as np
import pytest
import torch

from modgap.errors import InputError, UsageError
from modgap.forward.batched_inference import output_batches
from modgap.inputs.native_embedding import Embedding, native_embedding
from modgap.inputs.representations import log_mel_spectrograms, mono_waveform, numbers_as_text, one_hot_as_letters
from modgap.sources import AudioInput, ImageInput, Source, TextInput
from modgap.targets.manifest import InputSpec, LogMel
from modgap.targets.samples import ArraySamples, Table, TextSamples

IMAGE = ImageInput((8, 8), (0.0,), (1.0,), "bilinear")
TEXT = TextInput(None, 34)
AUDIO = AudioInput(None, 16_000)


def table(samples):
    return Table(samples, np.arange(len(samples)) % 2, splits=np.zeros(len(samples), np.int64))


@pytest.fixture(scope="module", name="librosa")
def librosa_without_compilation():
    """The library with plain functions in place of those that it would compile for 15 seconds at its import."""
    numba = pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("vectorize", "guvectorize"):
            patch.setattr(numba, name, lambda *signatures, **options: lambda function: function)
        library = pytest.importorskip("librosa")
        # Its parts are imported when they are first used.
        assert library.feature.melspectrogram
        assert library.power_to_db
    return library


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


def test_letters_of_one_hot_channels():
    spec = InputSpec(kind="series", alphabet="ACGT")
    one_hot = np.eye(4, dtype=np.float32)[:, [3, 0, 1]]
    one_hot[:, 1] = 0
    embedding = native_embedding(spec, table(ArraySamples(np.stack([one_hot] * 2))), TEXT)
    assert embedding.pieces(one_hot) == ["TNC"] == [one_hot_as_letters(one_hot, "ACGT")]
    with pytest.raises(InputError, match="'AC' has 2 letters"):
        native_embedding(InputSpec(kind="series", alphabet="AC"), table(ArraySamples(np.stack([one_hot] * 2))), TEXT)


def test_sound_is_brought_to_the_sources_rate_and_series_are_not():
    tone = np.sin(2 * np.pi * 50 * np.arange(8000) / 8000, dtype=np.float64).astype(np.float32)[None]
    doubled = mono_waveform(tone, 8000, 16_000)
    assert doubled.shape == (16_000,)
    wanted = np.sin(2 * np.pi * 50 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(doubled[200:-200], wanted[200:-200], atol=1e-2)
    samples = ArraySamples(np.stack([tone, tone]))
    as_series = native_embedding(InputSpec(kind="series", rate=10), table(samples), AUDIO)
    assert as_series.pieces(tone)[0].shape == (8000,)
    as_audio = native_embedding(InputSpec(kind="audio", rate=8000), table(samples), AUDIO)
    assert as_audio.pieces(tone)[0].shape == (16_000,)


def test_what_source_and_samples_do_not_share_is_refused():
    words = table(TextSamples(["a word", "another"]))
    assert native_embedding(InputSpec(kind="text"), words, TEXT).pieces("a word") == ["a word"]
    with pytest.raises(UsageError, match=r"takes image, but .* are text\. Choose a source that takes text"):
        native_embedding(InputSpec(kind="text"), words, IMAGE)
    images = table(ArraySamples(np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)))
    with pytest.raises(UsageError, match="tokens does not apply"):
        native_embedding(InputSpec(kind="image"), images, IMAGE, "tokens")
    sounds = table(ArraySamples(np.ones((2, 1, 400), np.float32)))
    with pytest.raises(InputError, match="rate in hertz"):
        native_embedding(InputSpec(kind="series"), sounds, IMAGE, "log-mel")
