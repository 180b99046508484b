"""Regression from custom data: commands read one task from the labels or `--task`, and each message's advice works."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes

import modgap
from modgap.errors import InputError, UsageError
from modgap.targets import CustomData, open_target
from tests.commands import run_in_process


@pytest.fixture(name="houses")
def table_of_houses(tmp_path):
    """Eighty rows with values with a decimal, whole prices that nearly all differ, and ten whole levels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 4))
    value = 22 + 5 * x[:, 0] - 3 * x[:, 1]
    path = tmp_path / "houses.csv"
    rows = [
        ",".join([*(f"{v:.3f}" for v in row), f"{y:.1f}", f"{y * 1000:.0f}", str(number % 10)])
        for number, (row, y) in enumerate(zip(x, value, strict=True))
    ]
    path.write_text("\n".join(["a,b,c,d,value,price,level", *rows, ""]))
    return path


def opened(path, label, columns="a,b,c,d", **options):
    pseudo_classes = options.pop("pseudo_classes", None)
    description = CustomData(kind="table", label_column=label, columns=columns, **options)
    return open_target(str(path), custom_data=description, pseudo_classes=pseudo_classes)


@pytest.mark.parametrize(
    ("label", "reason"), [("value", "some are not whole"), ("price", "most of the 80 rows differ")]
)
def test_many_different_numbers_are_values_and_a_line_says_so(houses, caplog, label, reason):
    caplog.set_level("INFO")
    target = opened(houses, label)
    assert target.manifest.task == "regression"
    assert f"in column {label!r} are" in caplog.text
    assert reason in caplog.text
    assert 'pass `custom_data={"task": "classification"}`' in caplog.text
    table = target.read(classes=False)
    assert table.labels is None
    assert table.target_scale[0] > 10
    with pytest.raises(InputError, match=r"real values.* Pass `pseudo_classes=10`.*pass `custom_data=.*classification"):
        target.read()
    clustered = opened(houses, label, pseudo_classes=10).read()
    assert len(np.unique(clustered.labels)) == 10
    classes = opened(houses, label, label_type="text")
    assert classes.manifest.task == "classification"
    assert len(classes.read().classes) > 40


def test_few_whole_numbers_are_classes_unless_they_are_to_be_clustered(houses):
    assert opened(houses, "level").manifest.task == "classification"
    assert opened(houses, "level").read().classes == [str(number) for number in range(10)]
    clustered = opened(houses, "level", pseudo_classes=3)
    assert clustered.manifest.task == "regression"
    assert len(np.unique(clustered.read().labels)) == 3


def test_text_is_not_clustered(tmp_path):
    (tmp_path / "a.csv").write_text("a,label\n" + "".join(f"{row},{'xy'[row % 2]}\n" for row in range(20)))
    target = open_target(str(tmp_path / "a.csv"), custom_data=CustomData(kind="table"), pseudo_classes=2)
    with pytest.raises(InputError, match=r"The label 'x' is not a number, and .* Remove `pseudo_classes`"):
        target.read()


def test_each_command_takes_the_table_with_the_flags_of_the_others(houses, tmp_path):
    data = ("--target", str(houses), "--kind", "table", "--label", "value", "--columns", "a,b,c,d")
    measure = ("discrepancy", "--source", "vit-fashion", *data, "--estimator", "soft", "--permutations", "0")
    refused = run_in_process(*measure)
    assert refused.returncode == 1
    assert "are read as values of a regression target" in refused.stderr
    assert "Pass --pseudo-classes 10" in refused.stderr
    assert run_in_process(*measure, "--pseudo-classes", "10").returncode == 0
    scores = (
        "--by",
        "logme",
        "--score",
        "logme",
        "--resamples",
        "0",
        "--no-controls",
        "--baselines",
        "none",
        "--jobs",
        "1",
    )
    ranked = run_in_process("rank", "--sources", "vit-fashion", *data, "--pseudo-classes", "10", *scores)
    assert ranked.returncode == 0, ranked.stderr
    settings = ("--set", "stage2.epochs=1", "--out", str(tmp_path / "run"), "--pseudo-classes", "10")
    trained = run_in_process("train", "--method", "finetune", "--source", "vit-fashion", *data, *settings)
    assert trained.returncode == 0, trained.stderr
    assert "test RMSE" in trained.stdout
    out = tmp_path / "predictions.csv"
    predicted = run_in_process("predict", "--run", str(tmp_path / "run"), "--data", str(houses), "--out", str(out))
    assert predicted.returncode == 0, predicted.stderr
    values = np.loadtxt(out, delimiter=",", skiprows=1, usecols=1)
    assert 15 < values.mean() < 30


def test_the_task_decides_what_numbers_in_a_column_are(houses):
    values = opened(houses, "level", task="regression")
    assert values.manifest.task == "regression"
    table = values.read(classes=False)
    assert table.labels is None
    assert table.target_scale[0] == pytest.approx(4.5, abs=0.7)
    unit = [float(table.targets[row] * table.target_scale[1] + table.target_scale[0]) for row in range(12)]
    assert unit == pytest.approx([*range(10), 0, 1], abs=1e-5)
    for label in ("value", "price"):
        classes = opened(houses, label, task="classification")
        assert classes.manifest.task == "classification"
        assert len(classes.read().classes) > 40
    assert "." in opened(houses, "value", task="classification").read().classes[0]


def test_many_whole_numbers_that_are_read_as_classes_are_noted(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "a.csv"
    note = "are 21 different whole numbers, and are read as classes. If they are values, pass"
    for n_numbers in (20, 21):
        path.write_text("a,label\n" + "".join(f"{row},{row % n_numbers}\n" for row in range(60)))
        assert open_target(str(path), custom_data=CustomData(kind="series")).manifest.task == "classification"
        assert (note in caplog.text) == (n_numbers == 21)
    caplog.clear()
    open_target(str(path), custom_data=CustomData(kind="series", task="classification"))
    assert note not in caplog.text


def test_spellings_of_a_number_are_one_value_and_still_no_two_classes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,label\n" + "".join(f"{row},{('1', '01', '1e0', '2.5')[row % 4]}\n" for row in range(20)))
    table = open_target(str(path), custom_data=CustomData(kind="series", task="regression")).read(classes=False)
    assert [float(table.targets[row]) for row in range(4)] == [1, 1, 1, 2.5]
    with pytest.raises(InputError, match="are two spellings of one number"):
        open_target(str(path), custom_data=CustomData(kind="series", task="classification")).read()


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (
            {"task": "regression", "label_column": "name"},
            "The label 'low' is not a number, and a regression target has",
        ),
        ({"task": "regression", "label_type": "text", "label_column": "a"}, "contradicts itself: values are numbers"),
        ({"task": "multi-label", "label_column": "name"}, "where each sample has one label. Save samples with several"),
        ({"task": "regresion", "label_column": "a"}, r"Unknown .*task.* 'regresion'. Did you mean regression"),
        ({"task": "classification", "label_column": "a", "pseudo": 3}, "applies to real-valued targets, but .* has"),
    ],
)
def test_labels_that_contradict_the_task_are_one_message(tmp_path, description, message):
    path = tmp_path / "a.csv"
    path.write_text("a,b,name\n" + "".join(f"{row}.5,{row},{('low', 'high')[row % 2]}\n" for row in range(20)))
    options = {name: value for name, value in description.items() if name != "pseudo"}
    data = CustomData(kind="table", columns="b", **options)
    with pytest.raises((InputError, UsageError), match=message) as error:
        open_target(str(path), custom_data=data, pseudo_classes=description.get("pseudo")).read(classes=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_the_task_decides_what_numbers_in_an_array_are(tmp_path, suffix):
    rng = np.random.default_rng(0)

    def target(y, task):
        x = rng.random((len(y), 9)).astype(np.float32)
        if suffix == ".npz":
            np.savez(tmp_path / "x.npz", x=x, y=y)
        else:
            np.save(tmp_path / "x.npy", x)
            np.save(tmp_path / "y.npy", y)
        return open_target(str(tmp_path / f"x{suffix}"), custom_data=CustomData(task=task))

    levels = np.array([3, 1, 2, 3, 1, 2] * 4)
    table = target(levels, "regression").read(classes=False)
    assert [float(table.targets[row]) for row in range(3)] == [3, 1, 2]
    assert target(levels.astype(float), "classification").read().classes == ["1", "2", "3"]
    both = np.eye(3, dtype=np.int64)[levels - 1]
    assert target(both, "multi-label").read().labels.shape == (24, 3)
    assert target(both, "classification").read().labels[:3].tolist() == [2, 0, 1]
    assert target(both, "regression").read(classes=False).targets[0].tolist() == [0, 0, 1]
    assert target(both * 7, "regression").read(classes=False).targets[0].tolist() == [0, 0, 7]
    texts = target(levels.astype(str), "regression").read(classes=False)
    assert [float(texts.targets[row]) for row in range(3)] == [3, 1, 2]
    for labels, task, message in (
        (levels + 0.5, "classification", r"The label 3.5 in .* is not a whole number.*pass `custom_data=.*regression"),
        (levels, "multi-label", "is multi-label, but each sample has one label"),
        (np.array(["a", "b"] * 12), "regression", "target .*: The label 'a' is not a number"),
        (rng.random((24, 2, 2)), "classification", "The task of target .* is classification, but its labels are real"),
    ):
        with pytest.raises(InputError, match=message):
            target(labels, task).read()


def test_names_of_class_folders_and_labels_of_listed_images_can_be_values(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "ages" / str(20 + 5 * (number % 3)) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    assert len(open_target(str(tmp_path / "ages")).read().classes) == 3
    folder = open_target(str(tmp_path / "ages"), custom_data=CustomData(task="regression")).read(classes=False)
    assert sorted({float(folder.targets[row]) for row in range(12)}) == [20, 25, 30]
    files = sorted((tmp_path / "ages").rglob("*.png"))
    rows = [f"{file.relative_to(tmp_path)},{file.parent.name}" for file in files]
    (tmp_path / "list.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    listed = open_target(str(tmp_path / "list.csv"), custom_data=CustomData(task="regression")).read(classes=False)
    assert [float(listed.targets[row]) for row in range(12)] == [float(file.parent.name) for file in files]
    (tmp_path / "ages" / "20").rename(tmp_path / "ages" / "young")
    with pytest.raises(InputError, match="target ages: The label 'young' is not a number"):
        open_target(str(tmp_path / "ages"), custom_data=CustomData(task="regression")).read(classes=False)


def test_numbers_of_classes_in_a_series_file_can_be_values(tmp_path):
    pytest.importorskip("aeon")
    header = "@problemName t\n@timeStamps false\n@univariate true\n@equalLength true\n@seriesLength 4\n"
    (tmp_path / "t.ts").write_text(f"{header}@classLabel true 10 5\n@data\n1,2,3,4:5\n5,6,7,8:10\n")
    assert list(open_target(str(tmp_path / "t.ts")).read().classes) == ["10", "5"]
    table = open_target(str(tmp_path / "t.ts"), custom_data=CustomData(task="regression")).read(classes=False)
    assert [float(table.targets[row]) for row in range(2)] == [5, 10]
    (tmp_path / "r.ts").write_text(f"{header}@targetLabel true\n@data\n1,2,3,4:.5\n5,6,7,8:1\n")
    with pytest.raises(InputError, match=r"task of target r is classification.*Pass `custom_data=.*regression"):
        open_target(str(tmp_path / "r.ts"), custom_data=CustomData(task="classification")).read()


@pytest.fixture(name="diabetes", scope="module")
def table_of_patients(tmp_path_factory):
    """The measurements of 442 patients, with a whole number for the progression of their disease; and the numbers."""
    x, y = load_diabetes(return_X_y=True)
    path = tmp_path_factory.mktemp("diabetes") / "diabetes.csv"
    rows = [",".join([*(f"{v:.5f}" for v in row), f"{value:.0f}"]) for row, value in zip(x, y, strict=True)]
    path.write_text("\n".join([",".join([*"abcdefghij", "progression"]), *rows, ""]))
    return path, y


@pytest.mark.parametrize(
    "method", ["baseline:linear", "linear-probe", pytest.param("finetune", marks=pytest.mark.long)]
)
def test_a_run_of_regression_predicts_in_the_unit_of_the_column(diabetes, tmp_path, method):
    path, y = diabetes
    data = ("--target", path, "--kind", "table", "--label", "progression", "--task", "regression")
    source = () if method.startswith("baseline") else ("--source", "vit-fashion")
    settings = ("--set", "stage2.epochs=1") if method == "finetune" else ()
    out = ("--out", tmp_path / "run", "--json")
    trained = run_in_process("train", "--method", method, *source, *data, *settings, *out)
    assert trained.returncode == 0, trained.stderr
    record = json.loads(trained.stdout)
    assert record["output"] == {"task": "regression", "shape": [1]}
    predicted = run_in_process("predict", "--run", tmp_path / "run", "--data", path, "--out", tmp_path / "new.csv")
    assert predicted.returncode == 0, predicted.stderr
    with (tmp_path / "new.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = np.array([float(row["value"]) for row in rows])
    assert list(rows[0]) == ["sample", "value"]
    assert 110 < values.mean() < 195
    test = modgap.open_target(
        path, custom_data={"kind": "table", "label_column": "progression", "task": "regression"}
    ).read(classes=False)
    is_test = np.asarray(test.splits) == 2
    if method != "finetune":
        # Linear models of these ten measurements leave about seven tenths of the standard deviation.
        assert record["result"]["test"] < 0.9 * y.std()
    error = np.sqrt(((values - y)[is_test] ** 2).mean())
    assert record["result"]["test"] == pytest.approx(error, rel=1e-3)
    reported = run_in_process("report", tmp_path / "run")
    assert reported.returncode == 0, reported.stderr
    assert (tmp_path / "run" / "report.html").is_file()
