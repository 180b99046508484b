"""Regression from a table: every command reads the same task from the labels, and each message's advice works."""

import numpy as np
import pytest

from modgap.errors import InputError
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
    assert 'pass `custom_data={"label_type": "text"}`' in caplog.text
    table = target.read(classes=False)
    assert table.labels is None
    assert table.target_scale[0] > 10
    with pytest.raises(InputError, match=r"real values.* Pass `pseudo_classes=10`.*pass `custom_data=.*label_type"):
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
    with pytest.raises(InputError, match=r"its labels are no numbers, such as 'x'. Without `pseudo_classes`"):
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
        "--backend",
        "serial",
    )
    ranked = run_in_process("rank", "--sources", "vit-fashion", *data, "--pseudo-classes", "10", *scores)
    assert ranked.returncode == 0, ranked.stderr
    settings = ("--set", "stage2.epochs=1", "--out", str(tmp_path / "run"), "--pseudo-classes", "10")
    trained = run_in_process("train", "--method", "finetune", "--source", "vit-fashion", *data, *settings)
    assert trained.returncode == 0, trained.stderr
    assert "test nRMSE" in trained.stdout
    out = tmp_path / "predictions.csv"
    predicted = run_in_process("predict", "--run", str(tmp_path / "run"), "--data", str(houses), "--out", str(out))
    assert predicted.returncode == 0, predicted.stderr
    values = np.loadtxt(out, delimiter=",", skiprows=1, usecols=1)
    assert 15 < values.mean() < 30
