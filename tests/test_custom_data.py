"""Custom data on the command line, without code and without a manifest."""

import json

import numpy as np
import pytest
from PIL import Image

from modgap.cli.commands import name_options
from modgap.errors import InputError, UsageError
from modgap.targets import CustomData, open_target
from modgap.training.training_data import read_target_data

QUICK = (
    "--source", "efficientnet-lite0", "--input-size", "48", "--trials", "500", "--permutations", "2", "--splits", "2",
    "--json",
)  # fmt: skip
pytestmark = pytest.mark.bundle


def rows_of(rng, labels, length):
    """Series that differ by class in frequency."""
    clock = np.arange(length)
    return np.stack([np.sin(clock * (0.2 + 0.3 * label) + rng.random() * 6) for label in labels])


def report(done):
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Traceback") == 0
    return json.loads(done.stdout)


@pytest.fixture
def sounds(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("low", "middle", "high")):
        folder = tmp_path / "sounds" / name
        folder.mkdir(parents=True)
        for number in range(12):
            # Two channels, another rate and another length now and then, as in real folders of sounds.
            rate = 8000 if number % 4 else 11_025
            wave = 0.3 * np.sin(2 * np.pi * 300 * (label + 1) * np.arange(rate // (1 + number % 2)) / rate)
            wave += 0.01 * rng.standard_normal(len(wave))
            stereo = wave if number % 3 else np.stack([wave, wave], axis=1)
            soundfile.write(folder / f"{number}.{'flac' if number % 2 else 'wav'}", stereo, rate)
    return tmp_path / "sounds"


def test_a_folder_of_sounds_by_class(modgap, sounds):
    record = report(modgap("discrepancy", *QUICK, "--target", sounds))
    assert (record["n_samples"], record["n_target_classes"]) == (36, 3)
    assert record["provenance"]["embedding"]["representation"] == "log-mel"
    assert record["estimates"]["search"]["held_out"] < record["chance"]


def test_a_csv_with_one_series_in_each_row(modgap, tmp_path):
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 3
    lines = [",".join(f"{v:.4f}" for v in row) for row in rows_of(rng, labels, 128)]
    text = ",".join(f"t{i}" for i in range(128)) + ",label\n"
    (tmp_path / "data.csv").write_text(text + "\n".join(f"{a},{b}" for a, b in zip(lines, labels, strict=True)))
    ambiguous = modgap("discrepancy", *QUICK, "--target", tmp_path / "data.csv")
    assert ambiguous.returncode == 2
    assert "--kind table or --kind series" in ambiguous.stderr
    record = report(modgap("discrepancy", *QUICK, "--target", tmp_path / "data.csv", "--kind", "series"))
    assert (record["n_samples"], record["n_target_classes"]) == (60, 3)
    assert record["provenance"]["embedding"]["representation"] == "spectrogram"
    assert record["estimates"]["search"]["held_out"] < record["chance"]


def test_all_that_a_table_lacks_is_told_at_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="modgap")
    path = tmp_path / "patients.csv"
    path.write_text(
        "patient,age,note,crp,outcome\n" + "".join(f"P{n // 2},{n},a{n},{n or ''},{n % 2}\n" for n in range(8))
    )
    with pytest.raises(
        UsageError, match=r"needs 3 things: .*label column.*got other text in note.*missing cells .in crp"
    ) as lacks:
        open_target(str(path))
    shown = name_options(str(lacks.value))
    assert "Pass --label COLUMN --columns age,crp,outcome --fill median --group patient." in shown
    described = CustomData(label_column="outcome", columns="age,crp", fill="median", group="patient")
    assert open_target(str(path), custom_data=described).read().samples[0].shape == (1, 2)
    assert "different names, so its rows are read as features" in caplog.text
    numbered = tmp_path / "numbered.csv"
    numbered.write_text("x1,x2,x3,outcome\n" + "".join(f"{n or ''},{n},{n},{n % 2}\n" for n in range(8)))
    # Without the label, its rows can be series.
    with pytest.raises(UsageError, match="'kind': 'table', 'label_column': 'COLUMN', 'fill': 'median'"):
        open_target(str(numbered))
    moments = tmp_path / "moments.csv"
    moments.write_text("run,time,x,label\n1,0,2,0\n1,1,3,0\n")
    with pytest.raises(UsageError, match="features or time series"):
        open_target(str(moments))


def test_a_table_of_files_asks_for_its_label_alone(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("file,site,species\na.png,1,x\na.png,2,y\n")
    with pytest.raises(UsageError, match=r"^expected a label column .* got file, site, species"):
        open_target(str(tmp_path / "list.csv"))


def test_a_table_of_texts_says_how_their_column_is_called(tmp_path):
    (tmp_path / "genes.csv").write_text("sequence,label\nACGT,x\nACG,y\n")
    with pytest.raises(UsageError, match=r"There is no column 'text'.* Rename the column of the texts to text\."):
        open_target(str(tmp_path / "genes.csv"), custom_data=CustomData(kind="text")).read()


def test_whole_numbers_of_a_real_type_are_values_with_a_note(tmp_path, caplog):
    caplog.set_level("INFO", logger="modgap")
    np.savez(tmp_path / "data.npz", x=np.zeros((40, 6)), y=np.arange(40.0) % 2)
    target = open_target(str(tmp_path / "data.npz"), custom_data=CustomData(kind="series"))
    assert target.manifest.task == "regression"
    assert "The 2 different values of y are whole numbers" in caplog.text
    assert "--task classification" in name_options(caplog.text)


def test_labels_of_which_nearly_all_differ_are_told(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((40, 6)), y=[f"label {number}" for number in range(40)])
    target = open_target(str(tmp_path / "data.npz"), custom_data=CustomData(kind="series"))
    with pytest.raises(InputError, match="The 40 samples of data have 40 different labels, so there are no validation"):
        read_target_data(target)


def test_a_path_that_is_not_there_is_said_to_be_missing():
    with pytest.raises(UsageError, match=r"^no target at gone/"):
        open_target("gone/", custom_data=CustomData(group="x"))
    with pytest.raises(UsageError, match=r"^There is no file or folder phtos, and no target of this name"):
        open_target("phtos")
    with pytest.raises(UsageError, match="Did you mean digits"):
        open_target("digts")


def test_a_csv_in_long_format_with_groups(modgap, tmp_path):
    rng = np.random.default_rng(2)
    labels = np.arange(40) % 2
    lines = ["run,time,x,z,walker,gait"]
    for run, (label, row) in enumerate(zip(labels, rows_of(rng, labels, 70), strict=True)):
        lines += [f"{run},{t},{v:.3f},{-v:.3f},{run // 4},{label}" for t, v in enumerate(row)]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    options = ("--label", "gait", "--series", "run", "--time", "time", "--group", "walker")
    record = report(modgap("discrepancy", *QUICK, "--target", tmp_path / "data.csv", *options))
    assert (record["n_samples"], record["n_target_classes"]) == (40, 2)
    assert record["n_groups"] == 10


def test_a_tabular_csv(modgap, tmp_path):
    rng = np.random.default_rng(3)
    labels = np.arange(80) % 2
    columns = [labels + rng.standard_normal(80), 1e6 * labels + 1e5 * rng.standard_normal(80), rng.random(80)]
    lines = ["age,income,noise,class"]
    lines += [f"{a:.3f},{b:.3f},{c:.3f},{'good' if k else 'bad'}" for a, b, c, k in zip(*columns, labels, strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    record = report(modgap("discrepancy", *QUICK, "--target", tmp_path / "data.csv", "--kind", "table"))
    assert (record["n_samples"], record["n_target_classes"]) == (80, 2)
    assert record["provenance"]["embedding"]["representation"] == "fold"


def test_a_csv_of_texts_is_refused_for_a_source_of_images(modgap, tmp_path):
    lines = [f"{'C' * (1 + i % 7)}O,alcohol\n{'C' * (1 + i % 7)}N,amine" for i in range(20)]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(lines))
    refused = modgap("discrepancy", *QUICK, "--target", tmp_path / "data.csv")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "The source takes image, but this target's samples are text" in refused.stderr


def test_hdf5_by_key_and_a_pair_of_npy_files(modgap, tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(4)
    labels = np.arange(60) % 3
    series = rows_of(rng, labels, 90).astype(np.float32)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["signal/emg"] = series
        file["gesture"] = labels
    keys = ("--x", "signal/emg", "--y", "gesture", "--kind", "series")
    first = report(modgap("discrepancy", *QUICK, "--target", tmp_path / "data.h5", *keys))
    pair = tmp_path / "pair"
    pair.mkdir()
    np.save(pair / "x.npy", series)
    np.save(pair / "y.npy", labels)
    second = report(modgap("discrepancy", *QUICK, "--target", pair, "--kind", "series"))
    assert first["estimates"]["search"]["value"] == second["estimates"]["search"]["value"]
    missing = modgap("discrepancy", *QUICK, "--target", tmp_path / "data.h5")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    assert "has no array x and no array y" in missing.stderr
    assert "signal/emg" in missing.stderr


@pytest.mark.parametrize("kind", ["sound", "text"])
@pytest.mark.parametrize("name", ["x.npy", "", "both.npz"])
def test_a_kind_that_arrays_cannot_have_is_refused(modgap, tmp_path, kind, name):
    values = np.zeros((12, 4), np.float32)
    labels = np.arange(12) % 2
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "y.npy", labels)
    np.savez(tmp_path / "both.npz", x=values, y=labels)
    done = modgap("discrepancy", *QUICK, "--target", tmp_path / name, "--kind", kind)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"--kind {kind} does not apply to" in done.stderr
    assert "Choose image, series or table." in done.stderr


def test_options_that_do_not_apply_raise_a_usage_error(modgap, sounds):
    done = modgap("discrepancy", *QUICK, "--target", sounds, "--label", "y")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--label does not apply" in done.stderr
