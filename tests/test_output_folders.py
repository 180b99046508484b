"""Output folders: results come before figures, and one process at a time writes to a folder."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from modgap.answers.formatting import plain_text
from modgap.discrepancy import figures
from modgap.discrepancy.class_errors import classes_csv, confusion_csv
from modgap.errors import InputError
from modgap.storage.locks import FOLDER_LOCK, exclusive_folder, output_folder
from modgap.training.predictions import Predictions, write_predictions
from modgap.training.run_folder import exclusive_run
from tests.test_figures import confusion, discrepancy_report

QUICK = ("--estimator=search", "--splits=3", "--permutations=0", "--quiet")


def measure(modgap, own_logits, folder, names=("a", "b", "c")):
    with np.load(own_logits) as arrays:
        np.savez(own_logits, **{name: arrays[name] for name in ("logits", "labels")}, class_names=np.array(names))
    return modgap("discrepancy", "--logits", own_logits, "--out", folder, *QUICK)


def test_a_figure_that_fails_leaves_all_results_and_the_table(modgap, own_logits, tmp_path, monkeypatch):
    def fail(report):
        raise RuntimeError(f"no font for {report.target_classes[0]}")

    monkeypatch.setattr(figures, "plot_discrepancy", fail)
    done = measure(modgap, own_logits, tmp_path / "out")
    assert done.returncode == 0
    assert "held-out error" in done.stdout
    assert [line for line in done.stderr.splitlines() if "not drawn" in line] == [
        "modgap: The figure discrepancy was not drawn (RuntimeError: no font for a). All results are complete."
    ]
    assert {"result.json", "samples.npz", "classes.csv", "classes.png"} <= set(os.listdir(tmp_path / "out"))


def test_results_and_table_are_complete_before_the_first_figure(modgap, own_logits, tmp_path, monkeypatch):
    present = []

    def stop(report):
        present.append((sorted(os.listdir(tmp_path / "out")), sys.stdout.buffer.getvalue().decode()))
        raise KeyboardInterrupt

    monkeypatch.setattr(figures, "plot_discrepancy", stop)
    assert measure(modgap, own_logits, tmp_path / "out").returncode == 130
    [(files, printed)] = present
    assert files == [FOLDER_LOCK, "classes.csv", "confusion.csv", "result.json", "samples.npz"]
    assert "held-out error" in printed


def test_files_of_an_earlier_result_do_not_stay(modgap, own_logits, tmp_path):
    assert measure(modgap, own_logits, tmp_path / "out").returncode == 0
    again = modgap("discrepancy", "--logits", own_logits, "--out", tmp_path / "out", *QUICK, "--splits", "0")
    assert again.returncode == 0, again.stderr
    assert not {"samples.npz", "classes.csv", "confusion.csv"} & set(os.listdir(tmp_path / "out"))


@pytest.mark.parametrize(
    "names", [(r"$\frac$", "$x^2$", "$"), ("caf\udce9", "b", "c"), ("日本", "العربية", "😀"), ("\x1b[31m", "_", "%s{}")]
)
def test_any_class_name_gets_results_and_figures(modgap, own_logits, tmp_path, names):
    done = measure(modgap, own_logits, tmp_path / "out", names)
    assert done.returncode == 0, done.stderr
    assert "not drawn" not in done.stderr
    assert "Glyph" not in done.stderr
    assert (tmp_path / "out" / "classes.png").exists()
    record = (tmp_path / "out" / "result.json").read_text()
    assert all(json.dumps(name)[1:-1] in record for name in names)


HOLD = """
import sys
from pathlib import Path
from modgap.storage.locks import exclusive_folder
with exclusive_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Return a process that has locked the folder `out`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_in_use_is_refused_with_its_user_until_that_is_killed(modgap, own_logits, tmp_path, holder):
    done = measure(modgap, own_logits, tmp_path / "out")
    assert done.returncode == 1
    assert f"Another modgap process is writing to {tmp_path / 'out'} (process {holder.pid} on " in done.stderr
    assert " since '2" in done.stderr
    with pytest.raises(InputError, match=f"process {holder.pid} on"), exclusive_run(tmp_path / "out", resume=True):
        pass
    holder.kill()
    holder.wait()
    with output_folder(str(tmp_path / "out")):
        assert os.listdir(tmp_path / "out") == [FOLDER_LOCK]
    assert os.listdir(tmp_path / "out") == []


def test_a_lock_leaves_no_new_folder_and_no_file(tmp_path):
    with exclusive_folder(tmp_path / "a" / "b"):
        assert os.listdir(tmp_path / "a" / "b") == [FOLDER_LOCK]
    assert not (tmp_path / "a" / "b").exists()


@pytest.mark.parametrize("content", [b"", b"[" * 9000, b"[]", b'{"process": "x"}', bytes(range(256))])
def test_a_damaged_lock_file_is_no_error(tmp_path, holder, content):
    (tmp_path / "out" / FOLDER_LOCK).write_bytes(content)
    with pytest.raises(InputError, match="has not said which process"), exclusive_folder(tmp_path / "out"):
        pass


FORMULAS = ("=HYPERLINK(1)", "+cmd|' /C'!A0", "-1+2", "@SUM(1)", "\t=1", "\r=1", "'=1", "'til", "-1", "1e3", "+", "cat")


def test_no_cell_of_a_table_is_run_by_a_spreadsheet_and_readers_get_the_names_back(tmp_path):
    report = discrepancy_report(confusion(len(FORMULAS)), names=FORMULAS)
    confused = io.StringIO(confusion_csv(report.result, report.best_map()), newline="")
    assert "\n'=HYPERLINK(1)," in confused.getvalue()
    outputs = np.eye(len(FORMULAS)) - 0.5
    write_predictions(Predictions("classification", FORMULAS, FORMULAS, outputs), tmp_path / "p.csv")
    predicted = io.StringIO((tmp_path / "p.csv").read_bytes().decode(), newline="")
    classes = io.StringIO(classes_csv(report.result, report.best_map()), newline="")
    for table in (confused, predicted, classes):
        rows = list(csv.reader(table))
        assert not [cell for row in rows for cell in row if re.match(r"[=@\t\r]|[+-](?!(\d+(\.\d+)?)?$)", cell)]
        assert "+" in [cell for row in rows for cell in row]
        assert {plain_text(row[0]) for row in rows[1:]} == set(FORMULAS)
        assert not [cell for row in rows for cell in row if re.fullmatch(r"'-?[\d.]+", cell)]
