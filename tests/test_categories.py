"""Columns of text with few values in tables: which are categories, and how new samples are read."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from modgap.errors import InputError, UsageError
from modgap.targets import open_target
from modgap.targets.custom import CustomData
from modgap.targets.manifest import InputSpec
from modgap.targets.unlabeled import read_unlabeled
from tests.commands import run_in_process

ROWS = ["age,sex,city,y"] + [f"{20 + n},{'fm'[n % 2]},{('A=1', 'B', '')[n % 3]},{'uv'[n // 2 % 2]}" for n in range(12)]
COLUMNS = ("age", "sex=f", "sex=m", "city=A=1", "city=B")


@pytest.fixture(name="people")
def table_of_people(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("\n".join(ROWS) + "\n")
    return path


def raw(path, **described):
    """Return the table of a file before its values are standardized."""
    target = open_target(str(path), custom_data=CustomData(kind="table", **described))
    return replace(target, manifest=target.manifest.model_copy(update={"steps": []})).read()


def test_each_value_is_a_column_of_0_and_1(people, caplog):
    caplog.set_level(logging.INFO, "modgap")
    table = raw(people)
    assert table.columns == COLUMNS
    samples = np.stack([table.samples[row][0] for row in range(3)])
    np.testing.assert_array_equal(samples, [[20, 1, 0, 1, 0], [21, 0, 1, 0, 1], [22, 1, 0, 0, 0]])
    assert "as a column of 0 and 1: sex (2), city (2)." in caplog.text
    assert raw(people, columns="age,city").columns == ("age", "city=A=1", "city=B")


def test_new_samples_have_the_columns_of_the_model(people, tmp_path, caplog):
    path = tmp_path / "new.csv"
    path.write_text("city,sex,age\nB,m,50\nC,f,60\n")
    found = read_unlabeled(path, InputSpec(kind="series"), columns=COLUMNS)
    np.testing.assert_array_equal(np.stack([one[0] for one in found]), [[50, 0, 1, 0, 1], [60, 1, 0, 0, 0]])
    assert "The model knows no city C," in caplog.text
    path.write_text("city,gender,age\nB,m,50\n")
    with pytest.raises(UsageError, match=r"new\.csv lacks sex of the columns .* It has city, gender, age\."):
        read_unlabeled(path, InputSpec(kind="series"), columns=COLUMNS)
    table = raw(people)
    again = read_unlabeled(people, InputSpec(kind="series"), columns=COLUMNS)
    np.testing.assert_array_equal(again[5], table.samples[5])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("note", [f"text {n}" for n in range(12)]),
        ("size", ["1", "2", "?"] * 4),
        ("patient", ["P1", "P2"] * 6),
        ("code", [f"c{n}" for n in range(21)] * 2),
    ],
)
def test_other_text_is_refused(tmp_path, name, values):
    path = tmp_path / "other.csv"
    path.write_text(f"age,{name},y\n" + "".join(f"{n},{value},{n % 2}\n" for n, value in enumerate(values)))
    with pytest.raises(InputError, match=f"got text in {name}"):
        raw(path)


def test_a_run_predicts_from_the_text(people, tmp_path):
    rows = ["age,sex,y"] + [f"{n % 17},{'fm'[n % 2]},{'no' if n % 2 else 'yes'}" for n in range(60)]
    people.write_text("\n".join(rows) + "\n")
    target, out = ("--target", people, "--kind", "table"), tmp_path / "run"
    trained = run_in_process("train", "--method", "baseline:linear", *target, "--out", out, "--json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["result"]["test"] == 0
    new = tmp_path / "new.csv"
    new.write_text("sex,age\nm,5\nf,5\n")
    predicted = run_in_process("predict", "--run", out, "--data", new, "--out", tmp_path / "found.csv")
    assert predicted.returncode == 0, predicted.stderr
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == ["no", "yes"]
