"""Series standardized one by one: read so from each format, and by a trained model from new samples."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.torch_version import TorchVersion

import modgap
from modgap.errors import InputError, UsageError
from modgap.targets import CustomData, open_target
from modgap.training.export import LOWEST_TORCH, export_model
from modgap.training.predictions import predict_data
from tests.commands import run_in_process

LENGTH = 40


def series(size=36, channels=2, seed=0):
    """Series of two classes that differ in frequency, each channel with an offset and a scale of its own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % 2
    clock = np.arange(LENGTH)
    waves = np.sin(clock * (0.3 + 0.4 * labels[:, None, None]) + rng.random((size, channels, 1)) * 6)
    return waves * rng.uniform(1, 50, (size, channels, 1)) + rng.normal(0, 90, (size, channels, 1)), labels


def naive(sample):
    """The definition, channel by channel."""
    return np.stack([(one - one.mean()) / one.std() if np.ptp(one) else 0 * one for one in sample])


def read(path, standardize="sample", **description):
    return open_target(str(path), custom_data=CustomData(standardize=standardize, **description)).read()


def write_rows(path, x, labels):
    lines = [",".join([*map(repr, map(float, row)), f"c{label}"]) for row, label in zip(x[:, 0], labels, strict=True)]
    path.write_text("\n".join([",".join([*(f"t{i}" for i in range(x.shape[2])), "label"]), *lines]) + "\n")


def write_long(path, x, labels):
    lines = ["who,a,b,label"]
    for number, (sample, label) in enumerate(zip(x, labels, strict=True)):
        lines += [f"{number},{first!r},{second!r},c{label}" for first, second in sample.T.tolist()]
    path.write_text("\n".join(lines) + "\n")


def write_ts(path, x, labels):
    header = (
        "@problemName t\n@timeStamps false\n@univariate false\n@dimensions 2\n@equalLength true\n"
        f"@seriesLength {LENGTH}\n@classLabel true c0 c1\n@data\n"
    )
    rows = [
        ":".join([*(",".join(map(repr, one.tolist())) for one in sample), f"c{label}"])
        for sample, label in zip(x, labels, strict=True)
    ]
    path.write_text(header + "\n".join(rows) + "\n")


@pytest.mark.parametrize("form", ["npz", "npy", "rows", "long", "ts"])
def test_each_format_of_series_is_standardized_sample_by_sample(tmp_path, form):
    x, labels = series(channels=1 if form == "rows" else 2)
    x[5, 0] = 0.1
    description = {"kind": "series"}
    if form == "npz":
        np.savez(tmp_path / "data.npz", x=x, y=labels)
        path = tmp_path / "data.npz"
    elif form == "npy":
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", labels)
        path = tmp_path / "x.npy"
    elif form == "ts":
        pytest.importorskip("aeon")
        path, description = tmp_path / "data.ts", {}
        write_ts(path, x, labels)
    else:
        path = tmp_path / "data.csv"
        (write_rows if form == "rows" else write_long)(path, x, labels)
        description |= {"series_column": "who"} if form == "long" else {}
    table = read(path, **description)
    for row in range(len(x)):
        np.testing.assert_allclose(table.samples[row], naive(x[row]), rtol=1e-5, atol=1e-6)
    assert not table.samples[5][0].any()
    plain = read(path, None, **description)
    np.testing.assert_allclose(plain.samples[3], x[3], rtol=1e-6)
    np.testing.assert_array_equal(plain.labels, table.labels)


def test_missing_cells_are_filled_before_a_row_is_standardized(tmp_path):
    x, labels = series(channels=1)
    write_rows(tmp_path / "data.csv", x, labels)
    text = (tmp_path / "data.csv").read_text().splitlines()
    (tmp_path / "data.csv").write_text("\n".join([*text[:3], "," + text[3].split(",", 1)[1], *text[4:]]) + "\n")
    filled = read(tmp_path / "data.csv", None, kind="series", fill="median").samples[2]
    table = read(tmp_path / "data.csv", kind="series", fill="median")
    np.testing.assert_allclose(table.samples[2], naive(filled), rtol=1e-5, atol=1e-6)


def test_samples_that_are_no_series_are_refused_with_what_works(tmp_path):
    x, labels = series(channels=1)
    write_rows(tmp_path / "data.csv", x, labels)
    for kind in ("table", "text"):
        with pytest.raises(UsageError, match=f"applies to series, and the samples of .* are read as {kind}. Remove it"):
            read(tmp_path / "data.csv", kind=kind)
    np.savez(tmp_path / "images.npz", x=np.zeros((4, 6, 6)), y=[0, 1, 0, 1])
    with pytest.raises(UsageError, match="are read as image"):
        read(tmp_path / "images.npz", kind="image")
    with pytest.raises(UsageError, match=r"Unknown `custom_data\[\"standardize\"\]` 'samples'. Did you mean sample"):
        read(tmp_path / "data.csv", "samples", kind="series")
    (tmp_path / "photos" / "a").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"`custom_data.*standardize.*` does not apply"):
        read(tmp_path / "photos")
    with pytest.raises(UsageError, match="applies to custom data, not to target digits"):
        read("digits")


def test_a_step_of_a_manifest_is_the_option(tmp_path):
    x, labels = series()
    np.savez(tmp_path / "data.npz", x=x, y=labels)
    (tmp_path / "waves.toml").write_text(
        'schema = 1\nname = "waves"\ntitle = "Waves"\nmodality = "motion"\ntask = "classification"\n'
        '[input]\nkind = "series"\n[reader]\nname = "arrays"\noptions = { kind = "series" }\n'
        '[[steps]]\nname = "zscore"\noptions = { by_channel = true }\n[[files]]\nrole = "data"\npath = "data.npz"\n'
    )
    by_step = open_target(str(tmp_path / "waves.toml")).read()
    by_option = read(tmp_path / "data.npz", kind="series")
    for row in range(len(x)):
        np.testing.assert_array_equal(by_step.samples[row], by_option.samples[row])


@pytest.fixture(name="scaled")
def two_files(tmp_path):
    """Two files of the same series but for offset and scale of each channel of each sample."""
    x, labels = series(size=60)
    rng = np.random.default_rng(1)
    other = x * rng.uniform(2, 9, (*x.shape[:2], 1)) + rng.normal(0, 400, (*x.shape[:2], 1))
    for name, values in (("first", x), ("second", other)):
        np.savez(tmp_path / f"{name}.npz", x=values, y=labels)
    return tmp_path


@pytest.mark.parametrize("method", ["baseline:linear", "linear-probe", "finetune"])
def test_a_trained_model_standardizes_new_samples_by_itself(scaled, method):
    source = None if method.startswith("baseline") else "vit-fashion"
    settings = {"stage2.epochs": 1} if method == "finetune" else None
    run = modgap.train(
        method,
        source,
        scaled / "first.npz",
        scaled / "run",
        settings=settings,
        custom_data={"kind": "series", "standardize": "sample"},
    )
    model = modgap.load_run(run)
    outputs = [model.predict_proba(np.load(scaled / f"{name}.npz")["x"]) for name in ("first", "second")]
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-3)
    table = read(scaled / "first.npz", kind="series")
    np.testing.assert_allclose(model.predict_proba(table), outputs[0], atol=1e-5)
    assert np.ptp(outputs[0][:, 0]) > 0.05
    if method == "finetune" and TorchVersion(torch.__version__) >= LOWEST_TORCH["torch-export"]:
        export_model(model, scaled / "model.pt2", "torch-export")
        assert json.loads((scaled / "model.json").read_text())["input"]["steps"] == ["standardize-each by channel"]
    predicted = run_in_process(
        "predict", "--run", run.folder, "--data", scaled / "second.npz", "--out", scaled / "out.npz"
    )
    assert predicted.returncode == 0, predicted.stderr
    np.testing.assert_allclose(np.load(scaled / "out.npz")["outputs"], outputs[1], atol=1e-5)


@pytest.mark.parametrize("form", ["rows", "long"])
def test_series_in_tables_have_the_baselines_of_series(tmp_path, form):
    pytest.importorskip("aeon")
    x, labels = series(size=40, channels=1 if form == "rows" else 2)
    (write_rows if form == "rows" else write_long)(tmp_path / "data.csv", x, labels)
    description = {"kind": "series"} | ({"series_column": "who"} if form == "long" else {})
    run = modgap.train("baseline:minirocket", None, tmp_path / "data.csv", tmp_path / "run", custom_data=description)
    assert run.record["fitted"]["name"] == "minirocket"
    if form == "rows":
        table = {"kind": "table"}
        with pytest.raises(UsageError, match="Baseline minirocket does not suit"):
            modgap.train("baseline:minirocket", None, tmp_path / "data.csv", tmp_path / "no", custom_data=table)


def test_features_and_discrepancy_do_not_depend_on_offset_and_scale(scaled):
    data = ("--kind", "series", "--standardize", "sample")
    for name in ("first", "second"):
        command = ("features", "--source", "vit-fashion", "--target", scaled / f"{name}.npz", *data)
        done = run_in_process(*command, "--out", scaled / f"{name}-features.npz", "--quiet")
        assert done.returncode == 0, done.stderr
    first, second = (np.load(scaled / f"{name}-features.npz")["features"] for name in ("first", "second"))
    np.testing.assert_allclose(first, second, atol=1e-2 * np.abs(first).max())
    measured = [
        modgap.measure(
            "vit-fashion",
            scaled / f"{name}.npz",
            custom_data={"kind": "series", "standardize": "sample"},
            estimators="soft",
            permutations=0,
        )["soft"].held_out
        for name in ("first", "second")
    ]
    assert measured[0] == pytest.approx(measured[1], abs=0.02)


@pytest.mark.parametrize("lengths", [(30, 30), (24, 30)])
def test_new_series_in_long_format_are_predicted_series_by_series(tmp_path, lengths):
    x, labels = series(size=60)
    x = [sample[:, : lengths[number % 2]] for number, sample in enumerate(x)]
    write_long(tmp_path / "long.csv", x, labels)
    lines = (tmp_path / "long.csv").read_text().splitlines()
    moments = [moment for sample in x for moment in range(sample.shape[1])]
    rows = [f"{moment},{line}" for moment, line in zip(moments, lines[1:], strict=True)]
    (tmp_path / "long.csv").write_text("\n".join([f"t,{lines[0]}", *rows]) + "\n")
    description = {"series_column": "who", "time_column": "t", "standardize": "sample"}
    run = modgap.train("baseline:linear", None, tmp_path / "long.csv", tmp_path / "run", custom_data=description)
    expected = modgap.load_run(run).predict_proba(x)
    # The rows are in another order, and the table has no labels and further columns.
    mixed = [f"{rows[row].rsplit(',', 1)[0]},9" for row in np.random.default_rng(0).permutation(len(rows))]
    (tmp_path / "new.csv").write_text("\n".join(["t,who,a,b,further", *mixed]) + "\n")
    predicted = predict_data(modgap.load_run(run), str(tmp_path / "new.csv"))
    assert predicted.names == tuple(map(str, range(60)))
    np.testing.assert_allclose(predicted.outputs, expected, atol=1e-6)
    # The predictions of a data frame are in the order in which the series begin.
    frame = pd.read_csv(tmp_path / "new.csv")
    in_order = modgap.load_run(run).predict_proba(frame)
    np.testing.assert_allclose(in_order, expected[frame["who"].unique()], atol=1e-6)
    (tmp_path / "new.csv").write_text("who,a,b\n1,2,3\n")
    with pytest.raises(UsageError, match="lacks t of the columns"):
        predict_data(modgap.load_run(run), str(tmp_path / "new.csv"))
    (tmp_path / "new.csv").write_text("t,who,a,b\n1,,2,3\n2,5,2,3\n")
    with pytest.raises(InputError, match=r"rows of .* have no value in who, t"):
        predict_data(modgap.load_run(run), str(tmp_path / "new.csv"))
