"""Models that read samples as a linear probe does: lp-ft starts as the probe, and texts are trained on as tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modgap
from modgap.baselines.baseline import Truth
from modgap.baselines.parts import Affine
from modgap.errors import InputError, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.models import Output
from modgap.sources import ImageInput, WaveformInput, open_source
from modgap.storage.json_records import with_digest
from modgap.targets import CustomData, TargetRequest
from modgap.training import loop
from modgap.training.checkpoint import RunFiles, load_tensors
from modgap.training.fitted_run import fit_source_probe
from modgap.training.linear_probe import _fit_varying
from modgap.training.method import Objective
from modgap.training.run_folder import RECORD, Run
from modgap.training.train import build_training
from modgap.training.train_request import TrainRequest, set_up_run
from modgap.training.training_data import stack_pieces
from tests.commands import run_in_process as invoke
from tests.small_hub import small_hub  # noqa: F401 - fixture
from tests.training import target_file

WORDS = (("red apple", "green leaf"), ("fast car", "old road"))


def text_file(folder: Path, samples: int = 60) -> Path:
    """Return a table of short texts of two classes, of different lengths."""
    rng = np.random.default_rng(0)
    rows = [(" ".join(rng.choice(WORDS[n % 2], rng.integers(1, 5))), "ab"[n % 2]) for n in range(samples)]
    path = folder / "texts.csv"
    path.write_text("\n".join(["text,label", *(",".join(row) for row in rows)]) + "\n")
    return path


def series_file(folder: Path) -> Path:
    """Return series of two channels with values, which become a waveform for each channel."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 2, 80)).astype(np.float32)
    np.savez(folder / "series.npz", x=x, y=x[:, :, :3].sum(1))
    return folder / "series.npz"


def photo_file(folder: Path) -> Path:
    """Return pictures of different sizes in folders by class."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(40):
        path = folder / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (int(rng.integers(20, 40)), int(rng.integers(20, 40)), 3)
        Image.fromarray((rng.random(size) * (150 + 100 * (number % 2))).astype(np.uint8)).save(path)
    return folder / "photos"


CASES = {
    "images": ("vit-fashion", lambda _: "digits", None),
    "photos of different sizes": ("vit-fashion", photo_file, None),
    "several labels": ("vit-fashion", lambda folder: target_file(folder, "multi-label"), None),
    "fields": ("vit-fashion", lambda folder: target_file(folder, "regression"), None),
    "spectrograms": ("random:vit-fashion", series_file, CustomData(kind="series")),
    "texts": ("minilm", text_file, None),
    "numbers as text": ("minilm", series_file, CustomData(kind="series")),
}
"""Source, function that makes a target, and its description."""


QUICK = tuple(CASES)[:2]
"""Cases of `make test`; the others are in `make test-long`."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for data and runs."""
    return tmp_path_factory.mktemp("native")


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.long] * (case not in QUICK)) for case in CASES])
def test_before_the_first_update_lp_ft_is_the_linear_probe(case: str, folder: Path) -> None:
    """A run without epochs has the outputs and the test error of the probe of the same source."""
    source, make, custom_data = CASES[case]
    # A number has many tokens.
    limit = 24 if case == "numbers as text" else 60
    assert_starts_as_the_probe(source, make(folder), folder / case, limit=limit, custom_data=custom_data)


def assert_starts_as_the_probe(source: str, target: str | Path, folder: Path, **options: Any) -> None:
    """Check that the outputs before the first update are those of the linear probe, with these samples."""
    probe = modgap.train("linear-probe", source, target, folder / "probe", **options)
    start = modgap.train("lp-ft", source, target, folder / "start", settings={"stage2.epochs": 0}, **options)
    table = modgap.open_target(target, custom_data=options.get("custom_data")).read(
        classes=probe.record["output"]["task"] != "regression"
    )
    some = table.select(np.flatnonzero(table.splits == 2)[:10])
    expected = modgap.load_run(probe).outputs(some)
    # The probe of MiniLM has a feature that hardly varies.
    tolerance = 0.1 if source == "minilm" else 1e-3
    np.testing.assert_allclose(modgap.load_run(start).outputs(some), expected, rtol=tolerance, atol=tolerance)
    assert start.record["result"]["test"] == pytest.approx(probe.record["result"]["test"], rel=tolerance)


@pytest.mark.parametrize("source", ["minilm", "vit-fashion"])
def test_the_start_is_the_affine_map_of_the_probe_on_the_same_features(source: str, folder: Path) -> None:
    """The network before the first update has the scores of the probe that was fitted for it."""
    target = text_file(folder) if source == "minilm" else "digits"
    request = TrainRequest("lp-ft", source, TargetRequest(str(target)), samples=SampleRequest(limit=60))
    opened, setup, _ = set_up_run(request)
    model = build_training(request, opened, setup, RunFiles()).model
    data = setup[1]
    probe = fit_source_probe(source, opened, data, 0, "cpu")
    samples = [data.table.samples[int(row)] for row in data.test[:8]]
    pieces = stack_pieces([data.transform.pieces(one)[0] for one in samples], torch.device("cpu"), torch.float32)
    with torch.no_grad():
        outputs = model.eval()(pieces)
    np.testing.assert_allclose(outputs, probe.scores(samples), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Return a run of lp-ft."""
    return modgap.train("lp-ft", "vit-fashion", "digits", folder / "run", settings={"stage2.epochs": 2}, limit=120)


def test_lp_ft_trains_all_of_the_source_at_a_tenth_of_the_rate(run: Run, folder: Path) -> None:
    """Embedder, encoder and predictor change; a rate of the user holds; its distortion can be measured."""
    assert run.record["recipe"]["stage2"]["learning_rate"] == pytest.approx(1e-5)
    fixed = {"stage2.epochs": 0, "stage2.learning_rate": 3e-4}
    start = modgap.train("lp-ft", "vit-fashion", "digits", folder / "start", settings=fixed, limit=120)
    assert start.record["recipe"]["stage2"]["learning_rate"] == 3e-4
    before, after = load_tensors(start.weights), load_tensors(run.weights)
    assert before.keys() == after.keys()
    parts = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert parts == {"embedder", "encoder", "predictor"}
    assert torch.equal(before["predictor.scale"], after["predictor.scale"])
    table = modgap.open_target("digits").read()
    model = modgap.load_run(run)
    assert model.features(table.select(np.arange(3))).shape == (3, 96)
    measured = invoke("distortion", "--source", "vit-fashion", "--run", run.folder, "--limit", "60", "--json")
    assert measured.returncode == 0, measured.stderr
    shown = invoke("methods", "lp-ft")
    assert "1e-05" in shown.stdout


def test_features_that_hardly_vary_are_left_out_of_the_start() -> None:
    """They are constant for the probe, whatever the task, so that no score depends on them."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, 6)) * [1, 1, 1, 1, 1e-6, 0] + 1
    for output, y in (
        (Output("classification", (2,)), (values[:, 0] > 1).astype(int)),
        (Output("regression", (1,)), values[:, :1]),
    ):
        for part in _fit_varying(values, Truth(output, y), 0):
            assert isinstance(part, Affine)
            np.testing.assert_allclose(part.weights[:, 4:], 0, atol=1e-12)
            assert np.abs(part.weights[:, 0]).max() > 0


HUB_MODELS = ("roberta-mlm", "gpt2-clm", "llama-clm", "t5-bare", "swin", "clip")
"""Models of families that cut, mask and pool in different ways."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in ("clip", "llama-clm"))) for name in HUB_MODELS]
)
def test_lp_ft_starts_as_the_probe_of_models_of_a_hub(name: str, hub: Any, folder: Path) -> None:
    """Texts and photos enter every family of models as they do for a linear probe."""
    hub(name)
    target = photo_file(folder) if name in ("swin", "clip") else text_file(folder)
    source = f"hf:small/{name}"
    probe = modgap.train("linear-probe", source, target, folder / f"{name}-probe")
    start = modgap.train("lp-ft", source, target, folder / f"{name}-start", settings={"stage2.epochs": 0})
    table = modgap.open_target(target).read()
    some = table.select(np.flatnonzero(table.splits == 2)[:6])
    expected = modgap.load_run(probe).outputs(some)
    np.testing.assert_allclose(modgap.load_run(start).outputs(some), expected, rtol=1e-3, atol=1e-3)


def test_sources_of_sound_of_any_length_are_refused(hub: Any, folder: Path) -> None:
    """Their input is prepared by a library, through which no gradient passes."""
    hub("wav2vec2")
    with pytest.raises(UsageError, match="by a library's function"):
        modgap.train(
            "lp-ft", "hf:small/wav2vec2", series_file(folder), folder / "wave", custom_data=CustomData(kind="series")
        )


class _StoppedError(Exception):
    """The end of a run by its progress."""


@pytest.mark.parametrize(
    ("method", "source"), [("lp-ft", "vit-fashion"), pytest.param("finetune", "minilm", marks=pytest.mark.long)]
)
def test_a_resumed_run_ends_with_the_same_bits(method: str, source: str, folder: Path) -> None:
    """The probe is not fitted again, and the batches of texts are the same."""
    target = text_file(folder) if source == "minilm" else "digits"
    settings = {"stage2.epochs": 2, "stage2.batch_size": 8, "checkpoint_seconds": 0}
    whole = modgap.train(method, source, target, folder / f"{method}-whole", settings=settings, limit=40)
    n_updates = 0

    def stop(_stage: str, share: float) -> None:
        nonlocal n_updates
        n_updates += share > 0
        if n_updates == 7:
            raise _StoppedError

    out = folder / f"{method}-stopped"
    with pytest.raises(_StoppedError):
        modgap.train(method, source, target, out, settings=settings, limit=40, progress=stop)
    resumed = modgap.train(method, source, target, out, settings=settings, limit=40, resume=True)
    assert n_updates == 7
    assert resumed.record["result"] == whole.record["result"]
    first, second = load_tensors(whole.weights), load_tensors(resumed.weights)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def fine_tuned(folder: Path) -> Run:
    """Return a run of fine-tuning on texts."""
    settings = {"stage2.epochs": 2, "stage2.batch_size": 8, "stage2.learning_rate": 3e-4}
    return modgap.train("finetune", "minilm", text_file(folder), folder / "fine-tuned", settings=settings)


@pytest.mark.parametrize("method", ["finetune", "scratch", "frozen", "l2-sp"])
def test_methods_train_on_texts(method: str, fine_tuned: Run, hub: Any, folder: Path) -> None:
    """Texts become tokens as for a ranking, and the run predicts texts, lines of a file and a column of a table."""
    if method == "finetune":
        done = fine_tuned
        assert done.record["result"]["test"] < 40
    else:
        hub("bert-texts")
        settings = {"stage2.epochs": 2, "stage2.batch_size": 8}
        done = modgap.train(method, "hf:small/bert-texts", text_file(folder), folder / method, settings=settings)
    model = modgap.load_run(done)
    assert model.features(["green leaf", "fast car and more"]).shape[0] == 2
    alone = np.concatenate([model.outputs([text]) for text in ("green leaf", "old road old road")])
    np.testing.assert_allclose(model.outputs(["green leaf", "old road old road"]), alone, atol=1e-5)
    (folder / "lines.txt").write_text("green leaf\n\nfast car\n")
    (folder / "new.csv").write_text("text\ngreen leaf\nfast car\n")
    predictions = []
    for name in ("lines.txt", "new.csv"):
        out = folder / f"{method}-{name}.csv"
        predicted = invoke("predict", "--run", done.folder, "--data", folder / name, "--out", out)
        assert predicted.returncode == 0, predicted.stderr
        predictions.append([line.split(",")[1:] for line in out.read_text().splitlines()])
    assert predictions[0] == predictions[1]
    assert [row[0] for row in predictions[0][1:]] == model.predict(["green leaf", "fast car"]).tolist()


def test_the_discrepancy_with_a_trained_embedder_of_texts_is_measured(fine_tuned: Run, folder: Path) -> None:
    """The word vectors of the run stand before the source's encoder and a head that is fitted on other texts."""
    texts = text_file(folder)
    options = ("--source", "minilm", "--target", texts, "--head", f"probe:{texts}", "--embedder", fine_tuned.folder)
    measured = invoke("discrepancy", *options, "--split", "test", "--permutations", "0", "--json")
    assert measured.returncode == 0, measured.stderr


def test_the_longest_text_tells_how_many_fit_into_the_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches are those that a user would have chosen for it."""
    texts, sizes, compute, gradient = text_file(folder), [], loop.fitting_batch, Objective.gradient
    # Four times two words, and a token at each end.
    longest = 10

    def fitting_batch(model: Any, pass_one: Any) -> int:
        assert tuple(pass_one.args[0].x.shape) == (1, 3, longest)
        assert compute(model, pass_one) > 8
        return 8

    def sized_gradient(step: Objective, parts: Any, *arguments: Any) -> Any:
        sizes.append([len(part.x) for part in parts])
        return gradient(step, parts, *arguments)

    monkeypatch.setattr(loop, "fitting_batch", fitting_batch)
    monkeypatch.setattr(Objective, "gradient", sized_gradient)
    modgap.train("finetune", "minilm", texts, folder / "divided", settings={"stage2.epochs": 1})
    assert sizes
    assert all(max(parts) == 8 for parts in sizes)


def test_the_tokens_of_a_text_are_those_of_a_ranking(folder: Path) -> None:
    """The padded tokens of a batch, prepared, are what the source's tokenizer gives; long texts are cut."""
    source_input = open_source("minilm").load(None, head=False).input
    texts = ["one", "one two three four", "x " * 2000]
    batch = stack_pieces([source_input.tokens(text) for text in texts], torch.device("cpu"), torch.float32)
    expected = source_input.batch(texts, torch.device("cpu"))
    prepared = source_input.prepare(batch)
    assert prepared.keys() == expected.keys()
    assert all(torch.equal(prepared[name], expected[name]) for name in expected)
    assert source_input.tokens(texts[2], 5).shape[1] == 5


def test_the_probe_of_texts_that_are_cut_sees_the_same_tokens(folder: Path) -> None:
    """With a length for the tokens, lp-ft starts from the probe of the shorter texts."""
    settings = {"stage2.epochs": 0, "target_sequence_length": 4}
    cut = modgap.train("lp-ft", "minilm", text_file(folder), folder / "cut", settings=settings)
    whole = modgap.train("lp-ft", "minilm", text_file(folder), folder / "whole", settings={"stage2.epochs": 0})
    model = modgap.load_run(cut)
    texts = ["green leaf red apple green leaf", "green leaf"]
    outputs = model.outputs(texts)
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)
    assert np.abs(modgap.load_run(whole).outputs(texts)[0] - outputs[0]).max() > 1e-3
    scales = [load_tensors(run.weights)["predictor.mean"] for run in (cut, whole)]
    assert not torch.allclose(scales[0], scales[1], atol=1e-4)


def test_waveforms_and_images_are_prepared_in_the_network_as_for_a_source() -> None:
    """Loudness and standardization agree with those of arrays."""
    rng = np.random.default_rng(0)
    waveforms = [rng.standard_normal(50).astype(np.float32) * 0.01, np.zeros(50, np.float32)]
    for source_input in (WaveformInput(8000, 50, standardize=True), WaveformInput(8000, 50, loudness=-20.0)):
        expected = source_input.batch(waveforms, torch.device("cpu"))
        torch.testing.assert_close(source_input.prepare(torch.from_numpy(np.stack(waveforms))), expected)
    image_input = ImageInput((8, 8), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), "bicubic")
    images = [rng.random((1, 12, 10)).astype(np.float32) for _ in range(2)]
    prepared = image_input.prepare(torch.from_numpy(np.stack(images)))
    torch.testing.assert_close(prepared, image_input.batch(images, torch.device("cpu")))


def test_what_cannot_be_trained_natively_is_refused(run: Run, folder: Path) -> None:
    """Methods that train an embedder first, a source that does not read the target, and changed records."""
    import json
    import shutil

    texts = text_file(folder)
    for method, source, message in (
        ("emb", "minilm", "Method emb trains an embedder first"),
        ("finetune", "vit-fashion", "Choose a source that takes text"),
        ("lp-ft", "vit-fashion,minilm", "vit-fashion,minilm"),
    ):
        with pytest.raises(UsageError, match=message):
            modgap.train(method, source, texts, folder / "refused")
    shutil.copytree(run.folder, folder / "changed")
    record = json.loads((folder / "changed" / RECORD).read_text())
    record.pop("digest", None)
    for change in ({"piece_shape": [1, 8]}, {"piece_shape": [1, 8, 10**9]}, {"length": "3"}, {"low": "x"}):
        native = {**record["inputs"]["native"], **change}
        changed = {**record, "inputs": {**record["inputs"], "native": native}}
        (folder / "changed" / RECORD).write_text(with_digest(json.dumps(changed)))
        with pytest.raises(InputError, match="does not describe its samples"):
            modgap.load_run(folder / "changed")
