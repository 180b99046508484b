"""Tables of errors as lines of a history: both layouts, the units, and one message for what is wrong."""

import random
from dataclasses import replace

import numpy as np
import pandas
import pytest

from modgap.errors import InputError, UsageError
from modgap.ranking.history.lines import VARIABLES, HistoryLine, Setup, history_table
from modgap.ranking.history.store import read_history
from modgap.ranking.history.tables import lines_of_table
from tests.commands import run_in_process

SETUP = Setup(128, 10, (0.0005, 0.0001))
LONG = "source,target,error\na,t,0.25\nb,t,0.5\na,u,0.125\n"
WIDE = "name,t,u\na,0.25,0.125\nb,0.5,\n"


def read(tmp_path, text, setup=SETUP, unit="auto", name="errors.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return lines_of_table(path, setup, unit)


def expected(source, target, error, **more):
    values = {"kind": "unknown", "samples": None, "classes": None, "setup": SETUP, "errors": {"trained": error}}
    return HistoryLine(source, target, **{**values, **more})


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        WIDE.replace("u\n", "u\n\n"),
        LONG.replace("0.5", "50").replace("0.25", "25").replace("0.125", "12.5"),
        "\ufeff" + LONG.replace(",", ";").replace("0.", "0,"),
        LONG.replace("source,target,error", " Model , Data set,ERROR "),
        LONG + "c,t,\n",
    ],
)
def test_both_layouts_and_units_are_the_same_lines(tmp_path, text):
    lines = [expected("a", "t", 0.25), expected("a", "u", 0.125), expected("b", "t", 0.5)]
    assert sorted(read(tmp_path, text), key=repr) == lines


def test_names_stay_as_they_are_written_and_have_the_size_of_the_input(tmp_path):
    found = read(tmp_path, "model,007,NA\n0042@64px,0.5,0.25\nNA,0.5,0.25\n")
    assert [(line.source, line.target) for line in found] == [
        ("0042", "007"), ("0042", "NA"), ("NA", "007"), ("NA", "NA"),
    ]  # fmt: skip
    assert [line.setup for line in found] == [replace(SETUP, input_size=64)] * 2 + [SETUP] * 2


def test_a_long_table_may_tell_more(tmp_path):
    text = (
        "source,target,error,variable,kind,samples,classes,held_out\n"
        "a,t,0.25,trained,image,200,10,100\n"
        "a,t,0.5,pilot-3,image,200,10,64\n"
    )
    held_out = {"trained": 100, "pilot-3": 64}
    more = {"kind": "image", "samples": 200, "classes": 10, "held_out": held_out}
    assert read(tmp_path, text) == [expected("a", "t", 0, **{**more, "errors": {"trained": 0.25, "pilot-3": 0.5}})]
    table = history_table(read(tmp_path, text), SETUP)
    assert table.errors[0, 0, VARIABLES.index("pilot-3")] == 0.5


def test_parquet_tables_are_read_too(tmp_path):
    pandas.DataFrame({"source": ["a", "b"], "t": [0.25, 0.5]}).to_parquet(tmp_path / "errors.parquet")
    assert lines_of_table(tmp_path / "errors.parquet", SETUP) == [expected("a", "t", 0.25), expected("b", "t", 0.5)]


def test_the_unit_is_clear_or_asked_for(tmp_path):
    text = "source,t,u,v\na,0.5,0.75,{}\n"
    assert read(tmp_path, text.format("1"))[-1].errors == {"trained": 1.0}
    with pytest.raises(UsageError, match="not clear whether they are percents"):
        read(tmp_path, text.format("1.5"))
    assert read(tmp_path, text.format("1.5"), unit="percent")[-1].errors == {"trained": 0.015}
    assert read(tmp_path, text.format("1"), unit="percent")[-1].errors == {"trained": 0.01}
    with pytest.raises(InputError, match=r"has the error 1\.5"):
        read(tmp_path, text.format("1.5"), unit="share")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,target,error\na,t,-0.5\n", "has the error -0.5"),
        ("source,target,error\na,t,101\n", "has the error 101"),
        ("source,target,error\na,t,inf\n", "has the error inf"),
        ("source,target,error\na,t,low\n", "'low' in row 2"),
        ("source,target,error\na,,0.5\n", "no target in row 2"),
        ("source,target,error\na,t,0.5\na,t,0.25\n", "Rows 2 and 3"),
        ("source,target,error,kappa\na,t,0.5,1\n", "does not have: kappa"),
        ("source,target,error,variable\na,t,0.5,pilot-2\n", "'pilot-2' in row 2"),
        ("source,target,error,samples\na,t,0.5,-3\n", "row 2 .*samples"),
        ("source,target,error,held_out\na,t,0.5,2.5\n", "row 2 .*held_out"),
        (f"source,target,error\n{'x' * 301},t,0.5\n", "row 2 .*source"),
        ("source,target,accuracy\na,t,0.5\n", "a column target"),
        ("source\na\n", "one column"),
        ("source,t\na,\n", "has no error"),
        ("source,t\n,0.5\n", "no source in row 2"),
        ("source,model\na,0.5\n", "two columns of the same name"),
        ("source,t\n", "no rows"),
        ("", "errors.csv"),
        (b"\x00\xff\x00", "errors.csv"),
    ],
)
def test_what_is_wrong_is_one_message(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_random_changes_of_a_table_are_read_or_refused(tmp_path):
    rng = random.Random(0)
    refused = 0
    for number in range(200):
        content = bytearray((LONG if number % 2 else WIDE).encode())
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            lines = read(tmp_path, bytes(content))
        except InputError:
            refused += 1
        else:
            assert all(0 <= value <= 1 for line in lines for value in line.errors.values())
    assert 20 < refused < 200


def test_the_command_adds_a_table(tmp_path, monkeypatch):
    monkeypatch.setenv("MODGAP_HISTORY", str(tmp_path / "history"))
    path = tmp_path / "errors.csv"
    path.write_text(LONG)
    refused = run_in_process("history", "add", str(path))
    assert (refused.returncode, "--samples is missing" in refused.stderr) == (2, True)
    setup = ("--samples", "128", "--epochs", "10", "--rates")
    refused = run_in_process("history", "add", str(path), *setup, "fast")
    assert (refused.returncode, "--rates is 'fast'" in refused.stderr) == (2, True)
    added = run_in_process("history", "add", str(path), *setup, "0.0005,0.0001")
    assert added.returncode == 0, added.stderr
    assert "Added 3 lines. The history has 3 lines of 2 sources on 2 targets." in added.stdout
    np.testing.assert_array_equal(
        history_table(read_history(tmp_path / "history").lines, SETUP).errors[:, :, 0], [[0.25, 0.125], [0.5, np.nan]]
    )
    assert "unknown" in run_in_process("history", "list").stdout
    refused = run_in_process("history", "add", str(tmp_path), "--unit", "share")
    assert (refused.returncode, "--unit applies to tables" in refused.stderr) == (2, True)
    assert run_in_process("history", "add", str(tmp_path / "absent.csv"), *setup, "1").returncode == 1
