"""Programs of linear probes, lp-ft and texts give the outputs of `predict` without modgap."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import modgap
from modgap.errors import UsageError
from modgap.inputs.representations import fold_series, spectrogram
from modgap.targets import CustomData
from modgap.training.export import export_model
from modgap.training.program_inputs import _Folding, _Spectrogram
from modgap.training.run_folder import Run
from tests.commands import run_in_process as invoke
from tests.test_native_models import photo_file, series_file, text_file
from tests.training import skip_without_exporter

SERIES = CustomData(kind="series")
CASES = {
    "images": ("linear-probe", "vit-fashion", lambda _: "digits", None),
    "sources side by side": ("linear-probe", "vit-fashion,random:vit-fashion", lambda _: "digits", None),
    "raw values": ("linear-probe", "vit-fashion,raw", lambda _: "digits", None),
    "photos of different sizes": ("linear-probe", "vit-fashion", photo_file, None),
    "values from spectrograms": ("linear-probe", "vit-fashion", series_file, SERIES),
    "lp-ft": ("lp-ft", "vit-fashion", lambda _: "digits", None),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for data, runs and programs."""
    return tmp_path_factory.mktemp("programs")


def outputs_of(path: Path, *arrays: np.ndarray) -> np.ndarray:
    """Return the outputs of a program."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(*map(torch.from_numpy, arrays)).detach().numpy()
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([one.name for one in session.get_inputs()], arrays, strict=True)))[0]


def exported(folder: Path, run: Run, suffix: str) -> Path:
    """Return the program of a run."""
    file_format = {".pt2": "torch-export", ".onnx": "onnx"}[suffix]
    skip_without_exporter(file_format)
    path = folder / f"{run.folder.name}-{file_format}{suffix}"
    done = invoke("export", "--run", run.folder, "--format", file_format, "--out", path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def trained(folder: Path) -> Callable[[str], Run]:
    """Return the run of a case, which is made once."""

    @functools.cache
    def get(case: str) -> Run:
        method, source, make, custom_data = CASES[case]
        settings = {"stage2.epochs": 1} if method == "lp-ft" else None
        options = {"limit": 60, "custom_data": custom_data, "settings": settings}
        return modgap.train(method, source, make(folder), folder / case, **options)

    return get


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize("case", CASES)
def test_programs_of_probes_have_the_outputs_of_predictions(
    case: str, suffix: str, folder: Path, trained: Callable[[str], Run]
) -> None:
    """The source, the pooled features and the affine head are one network, for any number of samples."""
    run = trained(case)
    path = exported(folder, run, suffix)
    described = json.loads(path.with_suffix(".json").read_text())["input"]
    rng = np.random.default_rng(0)
    scale = {"photos of different sizes": 255, "values from spectrograms": 1}.get(case, 16)
    samples = (scale * rng.random((5, *described["shape"]))).astype(np.float32)
    expected = modgap.load_run(run).outputs(samples)
    for number in (1, 5):
        found = outputs_of(path, samples[:number])
        np.testing.assert_allclose(found, expected[:number], rtol=1e-3, atol=1e-3)
    assert described["representation"] is None


@pytest.mark.long
@pytest.mark.parametrize("method", ["linear-probe", "finetune"])
def test_programs_of_texts_take_tokens(
    method: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Plain onnxruntime predicts for texts, with the tokenizer that lies beside the program."""
    tokenizers = pytest.importorskip("tokenizers")
    settings = {"stage2.epochs": 1, "stage2.batch_size": 8} if method == "finetune" else None
    run = modgap.train(method, "minilm", text_file(folder), folder / f"texts-{method}", settings=settings)
    texts = ["green leaf", "fast car", "old road with many more words than that", "x " * 1000]
    expected = modgap.load_run(run).outputs(texts)
    path = exported(folder, run, ".onnx")
    tokenizer = tokenizers.Tokenizer.from_file(str(path.with_suffix(".tokenizer.json")))
    encoded = tokenizer.encode_batch(texts)
    arrays = [np.array([getattr(one, name) for one in encoded]) for name in ("ids", "attention_mask")]
    assert arrays[0].shape[1] == 512
    np.testing.assert_allclose(outputs_of(path, *arrays), expected, rtol=1e-3, atol=1e-3)
    short = tokenizer.encode_batch(texts[:1])
    arrays = [np.array([getattr(one, name) for one in short]) for name in ("ids", "attention_mask")]
    np.testing.assert_allclose(outputs_of(path, *arrays), expected[:1], rtol=1e-3, atol=1e-3)
    documented = (
        (Path(__file__).parents[1] / "docs" / "prediction.md").read_text().split("```python\n")[3].split("```")[0]
    )
    for suffix in (".onnx", ".tokenizer.json"):
        shutil.copy(path.with_suffix(suffix), tmp_path / f"model{suffix}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["example", *texts[:3]])
    exec(compile(documented, "prediction.md", "exec"), {})
    printed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert printed == modgap.load_run(run).predict(texts[:3]).tolist()
    described = json.loads(path.with_suffix(".json").read_text())["input"]
    assert (described["arrays"], described["max_tokens"]) == (["input_ids", "attention_mask"], 512)
    path.unlink()
    path.with_suffix(".json").unlink()
    refused = invoke("export", "--run", run.folder, "--format", "onnx", "--out", path)
    assert path.with_suffix(".tokenizer.json").name in refused.stderr


def test_probes_without_a_program_are_refused(folder: Path) -> None:
    """Sources that take different inputs, and baselines, have no program."""
    options = {"custom_data": SERIES}
    run = modgap.train("linear-probe", "vit-fashion,minilm", series_file(folder), folder / "different", **options)
    with pytest.raises(UsageError, match="take different inputs"):
        export_model(modgap.load_run(run), folder / "different.onnx", "onnx")
    run = modgap.train("linear-probe", "vit-fashion,raw", photo_file(folder), folder / "sizes")
    with pytest.raises(UsageError, match="take different inputs"):
        export_model(modgap.load_run(run), folder / "sizes.onnx", "onnx")
    run = modgap.train("baseline:linear", None, series_file(folder), folder / "baseline", **options)
    with pytest.raises(UsageError, match="fitted without"):
        export_model(modgap.load_run(run), folder / "baseline.onnx", "onnx")


@pytest.mark.parametrize("length", [33, 64, 100, 1460, 3000])
def test_images_of_series_in_the_network_are_those_of_arrays(length: int) -> None:
    """Spectrograms and foldings of tensors equal those of NumPy."""
    series = np.random.default_rng(0).standard_normal((2, length)).astype(np.float32)
    for front, expected in ((_Folding, fold_series), (_Spectrogram, spectrogram)):
        found = front(2, length)(torch.from_numpy(series)[None])[0]
        np.testing.assert_allclose(found, expected(series), rtol=1e-4, atol=1e-4)
