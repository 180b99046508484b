"""Linear probes of frozen sources: the model by hand, several sources, all sources, texts, values, and stored runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modgap
from modgap.errors import InputError, UsageError
from modgap.storage.json_records import with_digest
from modgap.targets import CustomData
from modgap.training import fitted_run, linear_probe
from modgap.training.run_folder import RECORD, Run
from tests.commands import run_in_process as invoke


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for runs."""
    return tmp_path_factory.mktemp("probes")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Return the run of a linear probe."""
    return modgap.train("linear-probe", "vit-fashion", "digits", folder / "run", limit=120)


def test_the_probe_is_logistic_regression_on_the_tokens_mean(run: Run) -> None:
    """The same features, read and pooled by hand, and scikit-learn's regression predict the same classes."""
    import torch

    from modgap.inputs.native_embedding import native_embedding
    from modgap.training.training_data import read_target_data

    target = modgap.open_target("digits")
    data = read_target_data(target, limit=120, seed=0)
    source = modgap.open_source("vit-fashion").load(None, head=False)
    parts = source.split()
    embedding = native_embedding(target.manifest.input, data.table, source.input)

    def features(rows: np.ndarray) -> np.ndarray:
        pieces = [embedding.pieces(data.table.samples[int(row)])[0] for row in rows]
        with torch.no_grad():
            encoded = parts.encoder(parts.embedder(source.input.batch(pieces, torch.device("cpu"))))
            return parts.tokens(encoded).mean(1).double().numpy()

    strength = float(run.record["fitted"]["setting"].split()[-1])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / strength, tol=1e-9, max_iter=10_000))
    model.fit(features(data.train), data.table.labels[data.train])
    expected = model.predict(features(data.test))
    found = modgap.load_run(run).outputs(data.table.select(data.test)).argmax(axis=1)
    assert (found == expected).mean() > 0.99
    error = 100 * (found != data.table.labels[data.test]).mean()
    assert error == pytest.approx(run.record["result"]["test"])


def test_a_probe_predicts_samples_as_the_user_has_them(run: Run, folder: Path) -> None:
    """The command, Python and the file of the export give the same outputs."""
    model = modgap.load_run(run)
    table = modgap.open_target("digits").read()
    rows = np.flatnonzero(table.splits == 2)[:20]
    images = [table.samples[int(row)] for row in rows]
    outputs = model.outputs(images)
    np.testing.assert_array_equal(model.outputs(table.select(rows)), outputs)
    exported = invoke("export", "--run", run.folder, "--format", "safetensors", "--out", folder / "probe.safetensors")
    assert exported.returncode == 0, exported.stderr
    np.testing.assert_array_equal(modgap.load_run(folder / "probe.safetensors").outputs(images), outputs)
    assert "linear-probe: vit-fashion -> digits" in repr(model)
    assert "a linear probe of vit-fashion" in str(run.record["answer"]["notes"])
    with pytest.raises(InputError, match="Sample 1 has no finite prediction"):
        model.outputs([images[0], np.full((1, 8, 8), np.nan)])


def test_sources_side_by_side_have_the_features_of_both(folder: Path) -> None:
    """The probe of two sources has as many weights as both together, and names both."""
    both = modgap.train("linear-probe", "vit-fashion,random:vit-fashion", "digits", folder / "both", limit=60)
    assert [one["name"] for one in both.record["fitted"]["sources"]] == ["vit-fashion", "random:vit-fashion"]
    assert modgap.load_run(both).predictor.parts[0].weights.shape == (10, 2 * 96)
    prints = both.record["provenance"]["source"]
    assert prints == {one["name"]: one["fingerprint"] for one in both.record["fitted"]["sources"]}
    with pytest.raises(UsageError, match="different sources"):
        modgap.train("linear-probe", "vit-fashion,vit-fashion", "digits", folder / "twice", limit=60)


def test_each_source_side_by_side_has_an_l2_strength(folder: Path) -> None:
    """A block whose standardized features are multiplied is one with another strength, as scikit-learn finds it."""
    from modgap.baselines.baseline import Truth
    from modgap.baselines.predictors import fit_linear
    from modgap.models import Output

    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    values = rng.standard_normal((90, 12)) * rng.uniform(0.1, 9, 12) + labels[:, None]
    strengths = np.array([2.0] * 5 + [200.0] * 7)
    truth = Truth(Output("classification", (3,)), labels)
    (part,) = fit_linear(values, truth, [2.0], (strengths / 2.0) ** -0.5)
    standardized = StandardScaler().fit_transform(values)
    by_hand = LogisticRegression(C=1, tol=1e-10, max_iter=10_000).fit(standardized / np.sqrt(strengths), labels)
    logits = by_hand.decision_function(standardized / np.sqrt(strengths))
    np.testing.assert_allclose(part(values) - part(values).mean(1, keepdims=True), logits, atol=2e-3)
    targets = rng.standard_normal((90, 1))
    (part,) = fit_linear(values, Truth(Output("regression", (1,)), targets), [2.0], (strengths / 2.0) ** -0.5)
    weights = np.linalg.solve(standardized.T @ standardized + np.diag(strengths), standardized.T @ targets)
    np.testing.assert_allclose(part(values), standardized @ weights + targets.mean(), atol=1e-8)
    assert linear_probe.relative_strengths(3)[:3] == [(1.0, 1.0, 1.0), (10.0, 1.0, 1.0), (1.0, 10.0, 10.0)]
    assert linear_probe.relative_strengths(5) == [(1.0,) * 5]


def test_raw_values_stand_beside_sources(folder: Path) -> None:
    """The values of images and series are further features; texts have none, and values alone are a baseline."""
    raw = modgap.train("linear-probe", "raw,vit-fashion", "digits", folder / "raw", limit=60)
    assert [one["name"] for one in raw.record["fitted"]["sources"]] == ["vit-fashion", "raw"]
    assert raw.record["provenance"]["source"]["architecture"]
    model = modgap.load_run(raw)
    assert model.predictor.parts[0].weights.shape == (10, 96 + 64)
    table = modgap.open_target("digits").read()
    rows = np.flatnonzero(table.splits == 2)[:5]
    changed = model.outputs([table.samples[int(row)] + 1.0 for row in rows])
    assert np.abs(changed - model.outputs(table.select(rows))).max() > 1e-3
    values = modgap.train("linear-probe", "vit-fashion,raw", "gunpoint", folder / "raw-series")
    assert values.record["result"]["test"] < 30
    for source, target, message in (("raw", "digits", "stand beside sources"), ("minilm,raw", "freesolv", "kind text")):
        with pytest.raises(UsageError, match=message):
            modgap.train("linear-probe", source, target, folder / "refused-raw", limit=40)


def test_a_finished_run_is_resumed_with_the_provenance_that_it_has(run: Run, folder: Path) -> None:
    """The source stands where trained runs have it."""
    assert run.record["provenance"]["source"] == run.record["fitted"]["sources"][0]["fingerprint"]
    again = modgap.train("linear-probe", "vit-fashion", "digits", run.folder, limit=120, resume=True)
    assert again.record["result"]["test"] == run.record["result"]["test"]


@pytest.mark.long
def test_all_takes_the_source_with_the_lowest_cross_validated_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every source that reads the target and its control are compared; the test samples of one are measured."""
    infos = [one for one in linear_probe.source_infos() if one.name in ("vit-fashion", "minilm")]
    monkeypatch.setattr(linear_probe, "source_infos", lambda: infos)
    best = modgap.train("linear-probe", "all", "digits", folder / "all", limit=60)
    compared = {one["name"]: one["error"] for one in best.record["fitted"]["compared"]}
    assert {"vit-fashion", "random:vit-fashion"} <= set(compared)
    assert compared[best.record["fitted"]["features"]] == min(compared.values())
    assert "Linear probes that were compared" in str(best.record["answer"])
    assert best.record["provenance"]["source"] == best.record["fitted"]["sources"][0]["fingerprint"]
    again = modgap.train("linear-probe", "all", "digits", folder / "all", limit=60, resume=True)
    assert again.record["result"]["test"] == best.record["result"]["test"]


@pytest.mark.long
def test_all_sources_are_compared_on_a_part_of_many_samples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of them are compared on all, and the answer tells both."""
    names = ("vit-fashion", "minilm", "efficientnet-lite0")
    infos = [one for one in linear_probe.source_infos() if one.name in names]
    monkeypatch.setattr(linear_probe, "source_infos", lambda: infos)
    monkeypatch.setattr(fitted_run, "FEW", 25)
    run = modgap.train("linear-probe", "all", "digits", folder / "part", limit=60)
    compared = run.record["fitted"]["compared"]
    few = sorted([one for one in compared if one["samples"] == 25], key=lambda one: one["error"])
    finalists = [one for one in compared if one["samples"] == 60]
    assert [one["name"] for one in finalists] == [one["name"] for one in few[:3]]
    assert len(few) > 3
    best = min(finalists, key=lambda one: one["error"])
    assert run.record["fitted"]["features"] == best["name"]
    alone = modgap.train("linear-probe", best["name"], "digits", folder / "alone", limit=60)
    assert run.record["result"]["test"] == alone.record["result"]["test"]
    (table,) = [one for one in run.record["answer"]["tables"] if one["title"] == "Linear probes that were compared"]
    assert [row[2] for row in table["rows"]] == ["60"] * 3 + ["25"] * len(few)


def test_probes_of_texts_and_of_values(folder: Path) -> None:
    """Texts pass through a source of text; real values are predicted by ridge regression."""
    rng = np.random.default_rng(0)
    words = [["red apple", "green leaf"], ["fast car", "old road"]]
    lines = ["text,label"]
    lines += [f"{' '.join(rng.choice(words[n % 2], 3))},{'ab'[n % 2]}" for n in range(60)]
    (folder / "texts.csv").write_text("\n".join(lines) + "\n")
    texts = modgap.train("linear-probe", "minilm", folder / "texts.csv", folder / "texts")
    assert texts.record["result"]["test"] < 20
    assert modgap.load_run(texts).predict(["green leaf", "fast car"]).tolist() == ["a", "b"]
    x = rng.standard_normal((60, 1, 10)).astype(np.float32)
    np.savez(folder / "values.npz", x=x, y=x.sum(axis=2))
    series = {"custom_data": CustomData(kind="series")}
    values = modgap.train("linear-probe", "vit-fashion", folder / "values.npz", folder / "values", **series)
    predicted = modgap.load_run(values).predict(np.zeros((2, 1, 10)))
    assert predicted.shape == (2, 1)
    assert np.isfinite(predicted).all()


def test_what_does_not_fit_a_probe_is_refused(run: Run, folder: Path) -> None:
    """Settings, a missing source, a source that does not read the target, the distortion, and another source."""
    for options, message in {
        "linear-probe --source vit-fashion --set stage2.epochs=1": "have no --set",
        "linear-probe": "A linear probe needs a source",
        "linear-probe --source vit-fashion --target ner-tweets": "The source takes image",
        "linear-probe --source vit-fashio": "Did you mean vit-fashion",
    }.items():
        target = () if "--target" in options else ("--target", "digits")
        refused = invoke("train", "--method", *options.split(), *target, "--out", folder / "refused")
        assert refused.returncode == 2, options
        assert message in refused.stderr, options
        assert not (folder / "refused").exists()
    refused = invoke("distortion", "--source", "vit-fashion", "--run", run.folder, "--out", folder / "distortion")
    assert "trained no source" in refused.stderr


def test_a_source_with_other_weights_is_noticed(run: Run, folder: Path) -> None:
    """The features are not in the run, so the source must be the one that the probe was fitted on."""
    import shutil

    shutil.copytree(run.folder, folder / "changed")
    record = json.loads((folder / "changed" / RECORD).read_text())
    record.pop("digest", None)
    for change, message in (
        ({"fingerprint": {"architecture": "other", "weights": "other"}}, "has other weights here"),
        ({"representation": "tokens"}, "does not apply"),
        ({"input_size": 10**9}, "not one that modgap fitted"),
        ({"name": "hf:somebody/model"}, "a run does not contact a hub"),
    ):
        described = {**record["fitted"]["sources"][0], **change}
        changed = {**record, "fitted": {**record["fitted"], "sources": [described]}}
        (folder / "changed" / RECORD).write_text(with_digest(json.dumps(changed)))
        with pytest.raises(InputError, match=message):
            modgap.load_run(folder / "changed")


def test_features_are_those_of_a_ranking(folder: Path) -> None:
    """The command and the function give features, logits, labels and numbers of the samples."""
    found = modgap.features("vit-fashion", "digits", limit=40, split="test")
    assert found.features.shape == (40, 96)
    assert found.logits is not None
    assert found.logits.shape == (40, 10)
    table = modgap.open_target("digits").read()
    np.testing.assert_array_equal(table.labels[found.samples], found.labels)
    assert (table.splits[found.samples] == 2).all()
    file = folder / "features.npz"
    options = ("--limit", "40", "--split", "test", "--out", file)
    done = invoke("features", "--source", "vit-fashion", "--target", "digits", *options)
    assert done.returncode == 0, done.stderr
    assert "96 features of 40 samples" in done.stdout
    with np.load(file) as arrays:
        np.testing.assert_array_equal(arrays["features"], found.features)
        assert arrays["target_classes"].tolist() == list(map(str, range(10)))
        assert json.loads(str(arrays["provenance"]))["source"]["architecture"]
    refused = invoke("features", "--source", "vit-fashion", "--target", "digits", "--out", folder / "features.csv")
    assert refused.returncode == 2
    assert "does not end with .npz" in refused.stderr
