"""musicnn, and the checkpoints of TensorFlow in which its weights are: against the original, and damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from modgap.errors import InputError
from modgap.process.installed_packages import find_package_folder
from modgap.sources import open_source
from modgap_zoo.packaged.tensorflow_bundle import data_file, read_tensorflow_bundle
from zoo.tests.tensorflow_bundles import tensor_message, write_bundle, write_table

GOLDEN = json.loads(Path(__file__).with_name("musicnn_logits.json").read_text())
"""Logits of the package's own graph, computed with TensorFlow 2.15 from librosa's spectrograms of `waveforms`."""
NAMES = {"mtt": "musicnn", "msd": "musicnn-msd"}
SECONDS = np.arange(47_616) / 16_000

installed = pytest.mark.skipif(find_package_folder("musicnn") is None, reason="musicnn is not installed")


def waveforms():
    """A tone with vibrato, a rising tone, and noise: three windows of three seconds."""
    loudness = 1 + 0.3 * np.sin(2 * np.pi * 3 * SECONDS)
    tone = 0.1 * np.sin(2 * np.pi * 440 * SECONDS) * loudness
    rising = 0.1 * np.sin(2 * np.pi * (200 + 150 * SECONDS) * SECONDS)
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(SECONDS))
    return [wave.astype(np.float32) for wave in (tone, rising, noise)]


@pytest.mark.bundle
@installed
@pytest.mark.parametrize("tags", NAMES)
def test_outputs_are_those_of_the_original_graph(tags):
    source = open_source(NAMES[tags]).load(None)
    batch = source.input.batch(waveforms(), torch.device("cpu"))
    with torch.inference_mode():
        logits = source.model(batch)
        features = source.features(batch)
        np.testing.assert_allclose(source.model.head.linear(features), logits, atol=1e-5)
    np.testing.assert_allclose(logits, GOLDEN[tags], atol=2e-4)
    assert len(source.class_names) == logits.shape[1] == 50
    assert features.shape == (3, 200)


@pytest.mark.bundle
@installed
def test_a_tone_with_vibrato_is_heard_as_a_slow_and_quiet_flute():
    source = open_source("musicnn").load(None)
    with torch.inference_mode():
        logits = source.model(source.input.batch(waveforms()[:1], torch.device("cpu")))[0]
    best = [source.class_names[int(number)] for number in logits.argsort(descending=True)[:3]]
    assert best == ["flute", "slow", "quiet"]


@pytest.mark.long
@pytest.mark.bundle
@installed
def test_the_spectrogram_is_librosas(librosa):
    source = open_source("musicnn").load(None)
    batch = source.input.batch(waveforms(), torch.device("cpu"))
    found = source.model.embedder.spectrogram(batch)
    assert found.shape == (3, 187, 96)
    for wave, one in zip(waveforms(), found, strict=True):
        power = librosa.feature.melspectrogram(
            y=wave, sr=16_000, hop_length=256, n_fft=512, n_mels=96, pad_mode="reflect"
        )
        np.testing.assert_allclose(one, np.log10(10_000 * power.T + 1), atol=1e-4)


@pytest.mark.bundle
@installed
def test_the_control_needs_no_package_and_both_files_count_for_the_fingerprint(monkeypatch, tmp_path):
    folder = find_package_folder("musicnn") / "MTT_musicnn"
    for file in (folder / ".index", data_file(folder / ".index")):
        (tmp_path / f"mtt{file.name}").write_bytes(file.read_bytes())
    own = open_source("musicnn", weights=tmp_path / "mtt.index")
    before = own.fingerprint()
    assert before["weights"] == open_source("musicnn").fingerprint()["weights"]
    values = bytearray(data_file(tmp_path / "mtt.index").read_bytes())
    values[100] ^= 1
    data_file(tmp_path / "mtt.index").write_bytes(values)
    assert open_source("musicnn", weights=tmp_path / "mtt.index").fingerprint() != before
    (tmp_path / "mtt.data-00000-of-00001").write_bytes(values[:1000])
    with pytest.raises(InputError, match=r"mtt.index describes tensors of .* has 1,000\. The checkpoint is damaged"):
        open_source("musicnn", weights=tmp_path / "mtt.index").load(None)


TENSORS = {"dense/kernel": np.arange(6.0).reshape(2, 3), "dense/bias": np.ones(3), "step": np.float32(7)}


def test_a_checkpoint_is_read_without_tensorflow(tmp_path):
    write_bundle(tmp_path / "model.index", TENSORS)
    found = read_tensorflow_bundle(tmp_path / "model.index")
    assert set(found) == set(TENSORS)
    for name, values in TENSORS.items():
        assert found[name].dtype == torch.float32
        np.testing.assert_array_equal(found[name], values)


def test_damaged_checkpoints_get_one_line(tmp_path):
    index = tmp_path / "model.index"
    write_bundle(index, TENSORS, compression=1)
    with pytest.raises(InputError, match="its blocks are compressed"):
        read_tensorflow_bundle(index)
    write_bundle(index, TENSORS)
    content = index.read_bytes()
    index.write_bytes(content[:-1] + b"x")
    with pytest.raises(InputError, match="its end is not that of a table"):
        read_tensorflow_bundle(index)
    rng = np.random.default_rng(0)
    for _ in range(3000):
        changed = bytearray(content)
        for position in rng.integers(len(changed), size=rng.integers(1, 4)):
            changed[position] = rng.integers(256)
        index.write_bytes(changed)
        try:
            read_tensorflow_bundle(index)
        except InputError:
            continue
    data_file(index).unlink()
    with pytest.raises(InputError, match=r"checkpoint file .* cannot be read"):
        read_tensorflow_bundle(index)


def test_an_index_describes_no_more_than_the_checkpoint_has(tmp_path):
    index = tmp_path / "model.index"
    data = bytes(4000)
    names = [b"tensor %05d" % number for number in range(20_000)]
    write_table(index, [(name, tensor_message([1000], 0, 4000)) for name in names], data)
    with pytest.raises(InputError, match=r"describes tensors of 80,000,000 bytes, and .* has 4,000"):
        read_tensorflow_bundle(index)
    write_table(index, [(name, tensor_message([1], 0, 4)) for name in names], data, repeats=9999)
    with pytest.raises(InputError, match="its blocks overlap"):
        read_tensorflow_bundle(index)
    write_table(index, [(b"x" * 2000, tensor_message([1], 0, 4))], data)
    with pytest.raises(InputError, match="a name has more than 1,024 bytes"):
        read_tensorflow_bundle(index)
    index.write_bytes(bytes(1 << 21))
    with pytest.raises(InputError, match=r"has 2,097,152 bytes\. A checkpoint file of at most 1,048,576 bytes"):
        read_tensorflow_bundle(index)


@pytest.mark.parametrize(("shape", "size"), [([0, 2**62], 0), ([1] * 70, 4), ([2**31, 2**31, 2**31], 4)])
def test_shapes_that_no_array_has_get_one_line(tmp_path, shape, size):
    write_table(tmp_path / "model.index", [(b"x", tensor_message(shape, 0, size))], bytes(4))
    with pytest.raises(InputError, match=r"does not hold the tensor x that model\.index describes"):
        read_tensorflow_bundle(tmp_path / "model.index")
