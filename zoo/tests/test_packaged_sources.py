"""Sources of packages of many kinds: against recorded outputs of the packages' own code, and on their own task."""

import itertools
import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import torch

from modgap import measure
from modgap.errors import InputError, UsageError
from modgap.inputs.representations import mono_waveform
from modgap.models import Output
from modgap.models.target_model import target_model
from modgap.sources import open_control, open_source, source_infos
from modgap.testing import check_source
from modgap_zoo.packaged.keras_weights import MOST_BYTES, read_keras_weights
from modgap_zoo.packaged.magika import ByteTokenizer
from modgap_zoo.readers.rendered_notes import read as read_notes
from zoo.tests.golden_inputs import golden, images, texts, waveforms

h5py = pytest.importorskip("h5py")

CPU = torch.device("cpu")
INFOS = {info.name: info for info in source_infos()}
INPUTS = {
    "magika": lambda: list(texts().values()),
    "inaspeechsegmenter": lambda: list(waveforms(16_000, 11_120)),
    "beatnet": lambda: list(waveforms(22_050, 110_250)),
    "iclabel": lambda: list(waveforms(250, 2500)),
    "onet": lambda: list(images(48)),
}


def load(name):
    """A source with its weights; the test is skipped where its package is absent."""
    if not INFOS[name].is_installed:
        pytest.skip(f"{name} needs: {INFOS[name].weights}")
    return open_source(name).load(None, head=INFOS[name].n_classes is not None)


def outputs_of(source, pieces):
    with torch.inference_mode():
        return source.model(source.input.batch(list(pieces), CPU))


def best_classes(source, pieces):
    return [source.class_names[int(number)] for number in outputs_of(source, pieces).argmax(dim=1)]


@pytest.mark.parametrize("name", INPUTS)
def test_outputs_are_those_of_the_package(name):
    source = load(name)
    record = golden(name)
    outputs = outputs_of(source, INPUTS[name]())
    if "probabilities" in record:
        np.testing.assert_allclose(outputs.softmax(dim=1), record["probabilities"], atol=2e-5)
    else:
        np.testing.assert_allclose(outputs, record["logits"], atol=1e-5)
    assert source.class_names == tuple(record.get("classes", source.class_names))
    assert sum(parameter.numel() for parameter in source.model.parameters()) == INFOS[name].parameters


@pytest.mark.parametrize("name", INPUTS)
def test_parts_compose_and_controls_depend_on_their_seed(name):
    source = load(name)
    check_source(name)
    batch = source.input.batch(INPUTS[name](), CPU)
    parts = source.split()
    with torch.inference_mode():
        encoded = parts.encoder(parts.embedder(batch))
        logits = source.model(batch)
        assert torch.equal(parts.head(encoded), logits)
        features = source.features(batch)
        # The head is a linear layer on the features, up to the order of the sums.
        torch.testing.assert_close(source.model.head.linear(features), logits, atol=1e-4, rtol=1e-4)
    first, again, other = (outputs_of(open_control(name, seed).load(None), INPUTS[name]()) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.allclose(first, logits)
    prints = [open_control(name, seed).fingerprint() for seed in (0, 1)]
    assert prints[0] != prints[1] != open_source(name).fingerprint()


SHAPES = {(2, 300): Output("classification", (3,)), (1, 8, 8): Output("classification", (3,))}


@pytest.mark.parametrize("start", ["random", "source"])
@pytest.mark.parametrize("name", INPUTS)
def test_gradients_reach_all_parameters_of_a_target_model(name, start):
    source = load(name)
    for shape, output in SHAPES.items():
        model = target_model(source, np.zeros(shape), output, embedder_start=start)
        x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
        x[0] = 0
        outputs = model(x)
        outputs.square().mean().backward()
        gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
        assert all(one is not None and one.isfinite().all() for one in gradients.values())


def test_magika_names_the_types_of_files():
    source = load("magika")
    # The bytes of the longer file are those of its beginning and its end.
    assert best_classes(source, texts().values()) == list(texts())
    files = [Path(__file__), Path(__file__).parents[1] / "README.md", Path(__file__).parents[1] / "pyproject.toml"]
    assert best_classes(source, [file.read_text(encoding="utf-8") for file in files]) == ["python", "markdown", "toml"]
    result = measure("magika", "promoter-genes", limit=60, permutations=9, splits=2)
    assert result.to_dict()["n_source_classes"] == 214


def test_bytes_of_texts_are_padded_in_the_middle():
    tokenizer = ByteTokenizer()
    assert tokenizer("  ab\u00e9 \n", max_length=10)["input_ids"] == [97, 98, 195, 169, 32, 32, 97, 98, 195, 169]
    several = tokenizer(["", "abcdefgh", b"\xff"], max_length=4, return_tensors="pt")
    assert several["input_ids"].tolist() == [[256] * 4, [97, 98, 103, 104], [255, 256, 256, 255]]
    assert several["attention_mask"].tolist() == [[0] * 4, [1] * 4, [1, 0, 0, 1]]
    long = tokenizer("a" + " " * 5000 + "b", max_length=6)["input_ids"]
    assert long == [97, 32, 32, 32, 32, 98]


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Windows of 0.7 s of sentences in two synthetic voices."""
    if which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    soundfile = pytest.importorskip("soundfile")
    sentences = ("the birch canoe slid on the smooth planks", "it is easy to tell the depth of a well")
    windows = []
    for voice in ("en+m3", "en+f4"):
        for sentence in sentences:
            path = tmp_path_factory.mktemp("speech") / "sentence.wav"
            subprocess.run(["espeak-ng", "-v", voice, "-w", str(path), sentence], check=True)
            values, rate = soundfile.read(path)
            waveform = mono_waveform(values[None], rate, 16_000)
            windows += [waveform[first : first + 11_120] for first in range(1600, len(waveform) - 12_720, 11_120)]
    return windows


@pytest.fixture(scope="module")
def music():
    """Windows of 0.7 s of chords of piano, guitar, organ and strings."""
    files = {"program": which("fluidsynth"), "sound_font": "/usr/share/sounds/sf2/TimGM6mb.sf2"}
    if not files["program"] or not Path(files["sound_font"]).is_file():
        pytest.skip("fluidsynth or its sound font is not installed")
    table = read_notes(
        {role: [Path(file)] for role, file in files.items()},
        pitches=(48, 55, 60, 62, 64, 67), velocities=(90,), seconds=1.0, rate=16_000, programs=(0, 24, 19, 48),
    )  # fmt: skip
    notes = np.stack([table.samples[row][0] for row in range(len(table.samples))]).reshape(4, 6, -1)
    chords = [notes[:, [0, 2, 4, 5]].sum(axis=1), notes[:, [1, 3, 5]].sum(axis=1)]
    return [wave[:11_120] for chord in chords for wave in chord]


def test_inaspeechsegmenter_tells_speech_music_and_noise_apart(speech, music):
    source = load("inaspeechsegmenter")
    heard = best_classes(source, speech)
    assert heard.count("speech") >= len(heard) - 1 > 8
    assert set(best_classes(source, music)) == {"music"}
    noise = 0.05 * np.random.default_rng(0).standard_normal((4, 11_120)).astype(np.float32)
    assert set(best_classes(source, noise)) == {"noise"}
    assert outputs_of(source, np.zeros((1, 11_120), np.float32)).isfinite().all()


@pytest.mark.parametrize("beats", [100, 120, 150])
def test_beatnet_hears_the_tempo_of_clicks(beats):
    source = load("beatnet")
    seconds = np.arange(source.input.window) / 22_050
    since = seconds % (60 / beats)
    clicks = 0.5 * np.exp(-60 * since) * np.sin(2 * np.pi * 1000 * since)
    parts = source.split()
    with torch.inference_mode():
        tokens = parts.encoder(parts.embedder(torch.from_numpy(clicks[None].astype(np.float32))))
        activation = 1 - source.model.head.linear(tokens).softmax(dim=2)[0, 50:, 2].numpy()
    centered = activation - activation.mean()
    correlation = np.correlate(centered, centered, "full")[len(centered) - 1 :]
    # There are 50 frames a second.
    period = 15 + correlation[15:45].argmax()
    assert period == 50 * 60 / beats
    assert correlation[period] > 0.7 * correlation[0]


def activity(kind, seed):
    """Ten seconds at 250 Hz as EEG has them: a rhythm, a power line or muscles over noise that falls by 1/f."""
    rng = np.random.default_rng(seed)
    seconds, hertz = np.arange(2500) / 250, np.fft.rfftfreq(2500, 1 / 250)

    def noise(shape):
        wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(2500)) * shape, 2500)
        return wave / wave.std()

    background = noise(np.where((hertz >= 1) & (hertz <= 100), 1, 0.1) / np.maximum(hertz, 0.1))
    phase = 2 * np.pi * 10 * seconds + 0.1 * np.cumsum(rng.standard_normal(2500))
    waves = {
        "brain": background + 1.5 * np.sin(phase) * (1 + 0.5 * np.sin(2 * np.pi * 0.3 * seconds)),
        "line noise": 0.3 * background + np.sin(2 * np.pi * 50 * seconds),
        "muscle": 0.2 * background + noise((hertz > 20) & (hertz < 100)),
    }
    return waves[kind].astype(np.float32)


@pytest.mark.parametrize(("kind", "least"), [("brain", 20), ("line noise", 20), ("muscle", 17)])
def test_iclabel_names_the_origin_of_most_activities(kind, least):
    classes = best_classes(load("iclabel"), [activity(kind, seed) for seed in range(20)])
    assert classes.count(kind) >= least


def test_the_inputs_of_iclabel_are_those_of_the_package():
    source, record = load("iclabel"), golden("iclabel")
    with torch.inference_mode():
        features = source.model.embedder.features(source.input.batch(INPUTS["iclabel"](), CPU))
    np.testing.assert_allclose(features[:, 0], record["spectra"], atol=2e-5)
    np.testing.assert_allclose(features[:, 1], record["autocorrelations"], atol=1e-5)


def test_onet_tells_a_face_from_other_parts_of_a_photograph():
    source = load("onet")
    data = pytest.importorskip("skimage.data")
    photograph = data.astronaut().transpose(2, 0, 1).astype(np.float32) / 255
    corners = [(70, 170), (300, 100), (200, 20), (0, 0), (350, 300)]
    crops = [photograph[:, row : row + 120, column : column + 110] for row, column in corners]
    assert best_classes(source, crops) == ["face"] + 4 * ["no face"]


def write_keras(path, arrays, **options):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **options)


@pytest.fixture
def write(tmp_path):
    """Function that writes arrays to a new HDF5 file, and returns its path; a file stays open once it was read."""
    numbers = itertools.count()

    def write_arrays(arrays, **options):
        path = tmp_path / f"model{next(numbers)}.hdf5"
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                if isinstance(values, h5py.ExternalLink):
                    file[name] = values
                else:
                    file.create_dataset(name, data=values, **options)
        return path

    return write_arrays


def test_weights_of_keras_are_arrays_of_32_bits_alone(write):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = read_keras_weights(write({"model_weights/dense_1/dense_1_1/kernel:0": kernel}))
    assert list(found) == ["dense_1/kernel"]
    assert torch.equal(found["dense_1/kernel"], torch.from_numpy(kernel))
    for name, values in {
        "model_weights/dense_1/kernel:0": kernel.astype(np.float64),
        "model_weights/kernel:0": kernel,
        "optimizer_weights/a/b:0": kernel,
        "model_weights/dense_1/names": np.array([b"text"]),
    }.items():
        with pytest.raises(InputError, match=rf"not a file of weights of Keras: it has '{name}'"):
            read_keras_weights(write({name: values}))


def test_files_of_keras_are_not_trusted(write, tmp_path):
    kernel = "model_weights/conv2d_12/conv2d_12/kernel:0"
    packed = write({kernel: np.zeros((1000, 1000), np.float32)}, compression="gzip")
    with pytest.raises(InputError, match=r"describes weights of 4,000,000 bytes, and the file has"):
        read_keras_weights(packed)
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(packed.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cannot read .* as HDF5"):
        read_keras_weights(cut)
    with pytest.raises(InputError, match="has a link to another file"):
        read_keras_weights(write({kernel: h5py.ExternalLink("/etc/passwd", "x")}))
    with cut.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match=r"A file of Keras of at most 268,435,456 bytes"):
        read_keras_weights(cut)
    with pytest.raises(InputError, match="cannot be read"):
        read_keras_weights(tmp_path / "none.hdf5")
    with pytest.raises(InputError, match=r"model\d\.hdf5 do not fit inaspeechsegmenter"):
        open_source("inaspeechsegmenter", weights=str(write({kernel: np.zeros((7, 4), np.float32)}))).load(None)


def test_an_encoder_of_bytes_takes_no_more_tokens_than_its_package():
    source = open_control("magika").load(None)
    with pytest.raises(UsageError, match="The encoder takes 2048 tokens, but got 2049"):
        source.split().encoder(torch.zeros(1, 2049, 64))
