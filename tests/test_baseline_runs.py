"""Runs of baselines: fitted, tested, predicted with, exported and compared as other runs are, and refused elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest

import modgap
from modgap.errors import InputError, UsageError
from modgap.storage.json_records import with_digest
from modgap.training.run_folder import RECORD, Run, open_run
from tests.commands import run_in_process as invoke


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a table of flowers, with groups, and one of short texts."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    rows = rng.normal(size=(120, 4)) + labels[:, None] * [1, 2, 0, 0]
    lines = ["a,b,c,d,person,label"]
    lines += [
        ",".join([*(f"{value:.4f}" for value in row), f"p{number // 3}", "xyz"[label]])
        for number, (row, label) in enumerate(zip(rows, labels, strict=True))
    ]
    (folder / "flowers.csv").write_text("\n".join(lines) + "\n")
    words = "sun rain snow wind cold warm".split()  # noqa: SIM905
    texts = [" ".join(rng.choice(words[2 * label : 2 * label + 3], 6)) for label in labels % 2]
    lines = ["text,label", *(f"{text},{'ab'[label]}" for text, label in zip(texts, labels % 2, strict=True))]
    (folder / "texts.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(tables: Path) -> Run:
    """Return the run of the best baseline of the table of flowers."""
    data = {"kind": "table", "group": "person"}
    return modgap.train("baseline", None, tables / "flowers.csv", tables / "run", custom_data=data)


def test_the_best_baseline_is_a_run_like_any_other(run: Run, tables: Path) -> None:
    """Its record has the error of validation and test with an interval, and what it was compared with."""
    result, baseline = run.record["result"], run.record["fitted"]
    low, high = result["interval"]
    assert low <= result["test"] <= high
    assert result["validation"] is not None
    compared = {one["name"]: one["error"] for one in baseline["compared"]}
    assert set(compared) == {"linear", "neighbors", "extra-trees", "boosting"}
    assert compared[baseline["name"]] == min(compared.values())
    assert run.record["answer"]["headline"].startswith("The test 0-1 error is")
    assert "Baselines that were compared" in str(run.record["answer"])
    assert f"{100 * compared[baseline['name']]:.4g} %" in str(run.record["answer"])
    assert run.record["answer"]["question"].startswith(f"How good is the baseline {baseline['name']} on ")
    assert f"The validation 0-1 error is {result['validation']:.4g} %." in run.record["answer"]["notes"]
    model = modgap.load_run(run)
    frame = (tables / "flowers.csv").read_text().splitlines()[1:]
    x = np.array([[float(value) for value in line.split(",")[:4]] for line in frame])
    y = np.array([line.split(",")[5] for line in frame])
    assert (model.predict(x[:, None]) == y).mean() > 0.7
    assert model.predict_proba(x[:3, None]).sum(axis=1) == pytest.approx(np.ones(3))
    assert repr(model).startswith("TrainedModel(baseline: ")
    assert repr(model).endswith("flowers.csv, samples of shape (1, 4), 3 classes)")
    assert open_run(run.folder).record["fitted"] == baseline


@pytest.mark.parametrize("length", [1, 11, 13, 24])
@pytest.mark.parametrize("fill", [None, "median"])
def test_samples_with_another_number_of_values_are_refused(tmp_path: Path, length: int, fill: str | None) -> None:
    """A model of series of one length stretches none, and no value fills a whole row."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 12)), np.arange(40) % 2
    data: object = (x + y[:, None], y)
    if fill:
        data = tmp_path / "table.csv"
        header = ",".join([*(f"{letter}" for letter in "abcdefghijkm"), "label"])
        rows = (",".join([*map(str, row), str(label)]) for row, label in zip(x, y, strict=True))
        data.write_text("\n".join([header, *rows]) + "\n")
    custom = {"kind": "table", "fill": fill} if fill else {"kind": "series"}
    model = modgap.load_run(modgap.train("baseline:linear", None, data, tmp_path / "run", custom_data=custom))
    assert len(model.predict(x[:3])) == 3
    with pytest.raises(
        InputError, match=rf"Sample 0 does not fit the model: It has shape \(1, {length}\). Expected \(1, 12\)"
    ):
        model.predict(np.ones((2, length)))


def test_a_baseline_of_all_labeled_samples_has_no_validation_error(run: Run, tables: Path) -> None:
    data = {"kind": "table", "group": "person"}
    labeled = modgap.train(
        "baseline:linear", None, tables / "flowers.csv", tables / "labeled", protocol="labeled", custom_data=data
    )
    samples = run.record["samples"]
    assert labeled.record["samples"]["train"] == samples["train"] + samples["validation"]
    assert labeled.record["result"]["validation"] is None
    assert labeled.record["result"]["test"] is not None


def test_predictions_of_the_test_split_have_the_recorded_error(run: Run, tables: Path) -> None:
    """The stored model predicts what was measured, also after the export to one file."""
    target = modgap.open_target(tables / "flowers.csv", custom_data={"kind": "table", "group": "person"})
    table = target.read()
    rows = np.flatnonzero(table.splits == 2)
    model = modgap.load_run(run)
    names = np.array(table.classes)[table.labels[rows]]
    assert 100 * (model.predict(table.select(rows)) != names).mean() == pytest.approx(run.record["result"]["test"])
    assert (
        invoke("export", "--run", run.folder, "--format", "safetensors", "--out", tables / "one.safetensors").returncode
        == 0
    )
    again = modgap.load_run(tables / "one.safetensors")
    np.testing.assert_array_equal(again.outputs(table.select(rows)), model.outputs(table.select(rows)))


def test_the_command_predicts_reports_and_compares(run: Run, tables: Path) -> None:
    """A table of new rows, the page, and the comparison with another baseline by the names of both."""
    assert (
        invoke("predict", "--run", run.folder, "--data", tables / "flowers.csv", "--out", tables / "p.csv").returncode
        == 0
    )
    assert (tables / "p.csv").read_text().startswith("sample,person,predicted,p(x),p(y),p(z)\n0,p0,x,")
    assert invoke("report", run.folder).returncode == 0
    page = (run.folder / "report.html").read_text()
    assert "Baselines that were compared" in page
    assert '<th scope="col" class="num">cross-validated error</th>' in page
    arguments = ("--target", tables / "flowers.csv", "--kind", "table", "--group", "person", "--out", tables / "linear")
    assert invoke("train", "--method", "baseline:linear", *arguments, "--quiet").returncode == 0
    compared = invoke("compare", run.folder, tables / "linear").stdout
    assert f"baseline:{run.record['fitted']['name']}" in compared
    assert "baseline:linear" in compared


def test_texts_are_read_from_lines_and_tables(tables: Path) -> None:
    """A run on texts predicts for a .txt file, a table with a column text, and a list of texts."""
    trained = invoke("train", "--method", "baseline", "--target", tables / "texts.csv", "--out", tables / "texts")
    assert trained.returncode == 0, trained.stdout
    assert "tf-idf" in trained.stdout
    (tables / "new.txt").write_text("sun rain sun\n\nwarm cold wind\n")
    assert (
        invoke("predict", "--run", tables / "texts", "--data", tables / "new.txt", "--out", tables / "t.csv").returncode
        == 0
    )
    lines = (tables / "t.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["0", "a"], ["2", "b"]]
    model = modgap.load_run(tables / "texts")
    assert model.predict(["sun rain sun", "warm cold wind"]).tolist() == ["a", "b"]
    assert "texts" in repr(model)
    with pytest.raises(UsageError, match="got one text"):
        model.predict("sun")
    with pytest.raises(InputError, match="It is no text"):
        model.predict([3])
    predicted = invoke(
        "predict", "--run", tables / "texts", "--data", tables / "flowers.csv", "--out", tables / "u.csv"
    )
    assert predicted.returncode == 2
    assert "has no column text" in predicted.stderr


def test_an_interrupted_run_begins_again(run: Run, tables: Path) -> None:
    """A record without a result is that of a run that was interrupted; its end has the same bits."""
    folder = tables / "interrupted"
    data = {"kind": "table", "group": "person"}
    arguments = ("baseline:linear", None, tables / "flowers.csv", folder)
    finished = modgap.train(*arguments, custom_data=data)
    weights = finished.weights.read_bytes()
    record = json.loads((folder / RECORD).read_text())
    for name in ("digest", "answer", "fitted"):
        record.pop(name, None)
    (folder / RECORD).write_text(with_digest(json.dumps({**record, "result": None, "files": {}})))
    with pytest.raises(UsageError, match="already contains a run"):
        modgap.train(*arguments, custom_data=data)
    again = modgap.train(*arguments, custom_data=data, resume=True)
    assert again.record["result"] == finished.record["result"]
    assert again.weights.read_bytes() == weights
    assert (
        modgap.train(*arguments, custom_data=data, resume=True).record["result"]["test"]
        == again.record["result"]["test"]
    )


def test_what_makes_no_sense_for_a_baseline_is_refused_with_what_works(run: Run, tables: Path) -> None:
    """Sources, settings, sweeps, exports as programs and the distortion of a source need a source."""
    flowers = ("--target", tables / "flowers.csv", "--kind", "table", "--group", "person")
    for options, message in {
        "baseline --source vit-fashion": "fitted without a source, and has no --source",
        "baseline --set stage2.epochs=1": "have no --set",
        "baseline --input-size 64": "has no --input-size",
        "baseline --sweep stage2.epochs=1,2": "has no --sweep",
        "baseline:minirocket": "Baseline minirocket does not suit the target",
        "baseline --tensorboard": "--tensorboard logs epochs, and this method has none",
        "baseline:lineer": "Did you mean linear",
        "finetune": "The method needs a source. Pass --source",
    }.items():
        refused = invoke("train", "--method", *options.split(), *flowers, "--out", tables / "refused")
        assert refused.returncode == 2, options
        assert message in refused.stderr, options
        assert not (tables / "refused").exists()
    refused = invoke("export", "--run", run.folder, "--format", "onnx", "--out", tables / "model.onnx")
    assert refused.returncode == 2
    assert "fitted without training a network" in refused.stderr
    refused = invoke("distortion", "--source", "vit-fashion", "--run", run.folder, "--out", tables / "distortion")
    assert refused.returncode == 2
    assert "trained no source" in refused.stderr
    with pytest.raises(UsageError, match="fitted without training"):
        modgap.load_run(run).features(np.zeros((1, 1, 4)))


def test_a_changed_baseline_is_refused(run: Run, tables: Path) -> None:
    """A file with other bytes, and a record with a name of another baseline, with its digest computed again."""
    import shutil

    folder = tables / "changed"
    shutil.copytree(run.folder, folder)
    record = json.loads((folder / RECORD).read_text())
    record.pop("digest", None)
    record["fitted"]["parts"][0]["kind"] = "trees" if record["fitted"]["name"] == "linear" else "affine"
    (folder / RECORD).write_text(with_digest(json.dumps(record)))
    with pytest.raises(InputError, match="is not one that modgap fitted"):
        modgap.load_run(folder)
    changed = {**json.loads((run.folder / RECORD).read_text()), "digest": None}
    changed["fitted"]["shape"] = [1, 2**63]
    (folder / RECORD).write_text(with_digest(json.dumps({k: v for k, v in changed.items() if k != "digest"})))
    with pytest.raises(InputError, match="its samples have the shape"):
        modgap.load_run(folder)
    (folder / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(InputError):
        modgap.load_run(folder)


def test_a_missing_library_is_named(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of several leaves the baseline out with a warning; alone it is refused."""
    import sys

    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    arguments = {"limit": 40}
    with pytest.raises(InputError, match=r"scikit-image. Install it with: pip install 'modgap\[baselines\]'"):
        modgap.train("baseline:hog", None, "digits", tables / "hog", **arguments)


def test_the_list_and_a_baseline_are_shown() -> None:
    """Modgap baselines has a row for each, and the reference of one."""
    listed = invoke("baselines").stdout
    assert "minirocket" in listed
    assert "tf-idf-words" in listed
    shown = invoke("baselines", "minirocket").stdout
    assert "Dempster et al. 2021" in shown
    assert "aeon" in shown
