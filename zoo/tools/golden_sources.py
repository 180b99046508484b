"""Record the outputs of original models for zoo/tests/golden, each by its package's own code.

python zoo/tools/golden_sources.py NAME ...

This was run once, in an environment of its own with the packages that the function of a source names, because they need
libraries that modgap does not use. The inputs are those of zoo/tests/golden_inputs.py.
"""

import collections
import collections.abc
import importlib.util
import io
import json
import os
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from zoo.tests.golden_inputs import images, texts, waveforms  # noqa: E402 - the folder of the project comes first


def bare_package(name: str) -> Path:
    """Make a package importable without its `__init__`, which may need libraries that are not used here.

    Args:
        name: Name of the package; packages above it come first.

    Returns:
        Its folder.
    """
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed"
    assert spec.submodule_search_locations is not None
    module = types.ModuleType(name)
    module.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = module
    return Path(module.__path__[0])


def magika() -> dict[str, Any]:
    """Probabilities of the types of texts, with magika 1.0.3 and onnxruntime."""
    from magika import Magika
    from magika.types import Seekable

    original = Magika()
    config = original._model_config
    features = [
        original._extract_features_from_seekable(
            Seekable(io.BytesIO(text.encode() if isinstance(text, str) else text)),
            config.beg_size, config.mid_size, config.end_size, config.padding_token, config.block_size,
            config.use_inputs_at_offsets,
        )
        for text in texts().values()
    ]  # fmt: skip
    probabilities = original._get_raw_predictions([(Path("-"), one) for one in features])
    return {"classes": [str(one) for one in config.target_labels_space], "probabilities": probabilities}


def inaspeechsegmenter() -> dict[str, Any]:
    """Probabilities of speech, music and noise, with inaSpeechSegmenter 0.6.7 and keras 3.12."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    np.int, np.lib.pad = int, np.pad  # type: ignore[attr-defined] # the package needs numpy before 1.24
    folder = bare_package("inaSpeechSegmenter")
    from inaSpeechSegmenter.sidekit_mfcc import mfcc

    spectrograms = np.stack([mfcc(wave, get_mspec=True)[3][:, :21] for wave in waveforms(16_000, 11_120)])
    axes = (1, 2)
    patches = spectrograms - spectrograms.mean(axis=axes, keepdims=True)
    patches /= spectrograms.std(axis=axes, keepdims=True)
    model = keras.models.load_model(folder / "keras_speech_music_noise_cnn.hdf5", compile=False)
    # Keras 3 reads an axis too many for the input from files of Keras 2, so that the layers run one by one.
    outputs = keras.ops.convert_to_tensor(patches.astype(np.float32))
    for layer in model.layers:
        outputs = layer(outputs)
    return {"probabilities": keras.ops.convert_to_numpy(outputs)}


def beatnet() -> dict[str, Any]:
    """Logits of beats, averaged over frames, with BeatNet 1.1.3 and madmom 0.16.1."""
    import torch

    collections.MutableSequence = collections.abc.MutableSequence  # type: ignore[attr-defined]
    np.float, np.int = float, int  # type: ignore[attr-defined] # madmom needs numpy before 1.24
    bare_package("madmom")
    bare_package("madmom.audio")
    folder = bare_package("BeatNet")
    from BeatNet.log_spect import LOG_SPECT
    from BeatNet.model import BDA

    features = LOG_SPECT(sample_rate=22_050, win_length=1411, hop_size=441, n_bands=[24])
    logits = []
    for wave in waveforms(22_050, 110_250):
        model = BDA(272, 150, 2, "cpu").eval()
        model.load_state_dict(torch.load(folder / "models" / "model_1_weights.pt", weights_only=True))
        with torch.no_grad():
            logits.append(model(torch.from_numpy(features.process_audio(wave).T)[None])[0].mean(dim=1).numpy())
    return {"logits": logits}


def iclabel() -> dict[str, Any]:
    """Probabilities of origins for one map, with mne-icalabel 0.10.0, mne 1.11 and onnxruntime."""
    import mne
    import onnxruntime
    from mne_icalabel.iclabel import features

    waves = waveforms(250, 2500).astype(np.float64)
    activities = 3 * (waves - waves.mean(axis=1, keepdims=True)) / waves.std(axis=1, keepdims=True)
    raw = mne.io.RawArray(activities, mne.create_info(len(waves), 250.0, "eeg"), verbose="error")
    ica = SimpleNamespace(n_components_=len(waves))
    spectra = 0.99 * features._eeg_rpsd(raw, ica, activities)
    autocorrelations = 0.99 * features._eeg_autocorr_welch(raw, ica, activities)
    radius = np.hypot(*np.mgrid[-1:1:32j, -1:1:32j])
    scalp_map = np.where(radius <= 1, 0.99 * np.exp(-((radius / 0.4) ** 2) / 2), 0)
    folder = Path(features.__file__).parent
    session = onnxruntime.InferenceSession(folder / "network" / "assets" / "ICLabelNet.onnx")
    # The network averages over four maps of a component, which the package mirrors and inverts.
    inputs = {
        "topo": np.tile(scalp_map, (4 * len(waves), 1, 1, 1)),
        "psds": np.tile(spectra.transpose(3, 2, 0, 1), (4, 1, 1, 1)),
        "autocorr": np.tile(autocorrelations.transpose(3, 2, 0, 1), (4, 1, 1, 1)),
    }
    (probabilities,) = session.run(None, {name: value.astype(np.float32) for name, value in inputs.items()})
    return {
        "spectra": spectra[0, :, 0].T,
        "autocorrelations": autocorrelations[0, :, 0].T,
        "probabilities": probabilities,
    }


def onet() -> dict[str, Any]:
    """Probabilities of no face and a face, with facenet-pytorch 2.6.0."""
    import torch

    folder = bare_package("facenet_pytorch")
    bare_package("facenet_pytorch.models")
    from facenet_pytorch.models.mtcnn import ONet

    model = ONet(pretrained=False).eval()
    model.load_state_dict(torch.load(folder / "data" / "onet.pt", weights_only=True))
    with torch.no_grad():
        pixels = torch.from_numpy(255 * images(48))
        return {"probabilities": model((pixels - 127.5) * 0.0078125)[2].numpy()}


def rounded(value: Any) -> Any:
    """Return numbers in nested lists with eight digits, which is more than floating-point numbers of 32 bits have."""
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


SOURCES = {one.__name__: one for one in (magika, inaspeechsegmenter, beatnet, iclabel, onet)}


def main(names: list[str]) -> None:
    """Record the outputs of sources, and print their names."""
    for name in names or SOURCES:
        record = {key: rounded(np.asarray(value).tolist()) for key, value in SOURCES[name]().items()}
        text = json.dumps({"content": SOURCES[name].__doc__, **record})
        (ROOT / "zoo" / "tests" / "golden" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(name, len(text))


if __name__ == "__main__":
    main(sys.argv[1:])
