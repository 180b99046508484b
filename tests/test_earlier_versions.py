"""Records of a version with forecasts, several annealings and certified bounds: they open, and a transfer goes on."""

import html
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from modgap.api.prediction import load_run

RECORDS = Path(__file__).parent / "fixtures" / "earlier_records.zip"
"""Folders that `discrepancy`, `rank --pilot` and `transfer` of commit 9cceec8b wrote, without their figures."""


@pytest.fixture
def records(tmp_path):
    with zipfile.ZipFile(RECORDS) as archive:
        archive.extractall(tmp_path / "records")
    return tmp_path / "records"


@pytest.mark.parametrize(
    ("name", "file", "removed", "kept"),
    [
        ("disc", "result.json", '"learning_curve"', "The held-out error is 0.100"),
        ("rankp", "ranking.json", '"halving"', "the best of 2 sources with a probability of 59 %"),
        ("race", "request.json", '"history"', "Use the baseline extra-trees: its test 0-1 error is 0 %."),
    ],
)
def test_the_page_of_an_earlier_record_says_what_it_recorded(modgap, records, name, file, removed, kept):
    folder = records / name
    assert removed in (folder / file).read_text(encoding="utf-8")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = modgap("report", folder)
    assert done.returncode == 0
    words = html.unescape(re.sub("<[^>]+>", " ", (folder / "report.html").read_text(encoding="utf-8"))).split()
    assert kept in " ".join(words)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_the_model_of_an_earlier_transfer_predicts(records):
    model = load_run(records / "race")
    assert model.task == "classification"
    assert model.predict(np.random.default_rng(0).random((4, 1, 13))).shape == (4,)


def test_an_earlier_transfer_is_resumed(modgap, records):
    pytest.importorskip("mlxtend")
    done = modgap("transfer", "--resume", "--out", records / "race")
    assert done.returncode == 0
    assert "Use the baseline extra-trees" in done.stdout


@pytest.mark.parametrize("arguments", [["history"], ["history", "export"]])
def test_the_command_of_the_history_is_refused_with_how_to_export_it(modgap, tmp_path, monkeypatch, arguments):
    folder = tmp_path / "history"
    folder.mkdir()
    (folder / "history.jsonl").write_text("{}\n")
    monkeypatch.setenv("MODGAP_HISTORY", str(folder))
    done = modgap(*arguments)
    assert done.returncode == 2
    assert "modgap history was removed." in done.stderr
    assert "the version that made it exports it with modgap history export" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["history.jsonl"]


def test_cache_entries_of_removed_kinds_are_listed_and_pruned(modgap, records, monkeypatch):
    monkeypatch.setenv("MODGAP_CACHE", str(records / "cache"))
    listed = modgap("cache", "ls")
    assert listed.returncode == 0
    assert all(kind in listed.stdout for kind in ("sketches", "history_models"))
    assert modgap("cache", "verify").returncode == 0
    assert modgap("cache", "prune", "--all").stdout.startswith("deleted ")
    assert not list((records / "cache").rglob("*.safetensors"))
