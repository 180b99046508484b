"""The quick share of the campaign, its regressions, and the frame itself."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.campaign.all_campaigns import CAMPAIGNS
from tests.campaign.mutations import header_bits, mutate
from tests.campaign.parsers import PARSERS, REGRESSIONS, parse_unchanged
from tests.campaign.runner import format_summary, run_campaigns
from tests.campaign.types import Campaign

FILES = sorted(path for path in REGRESSIONS.iterdir() if not path.name.startswith("."))
BY_NAME = {parser.name.replace(" ", "_"): parser for parser in PARSERS}


@pytest.fixture(autouse=True)
def no_new_regressions(monkeypatch):
    """Keep failing inputs of the tests out of the repository."""
    monkeypatch.setattr("tests.campaign.parsers.save_regression", lambda path, content: None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_inputs_that_failed_once_are_read_or_refused(path):
    parser = BY_NAME[path.name.rpartition("-")[0]]
    assert CAMPAIGNS[f"parse {parser.name}"].replay(path.read_bytes()) is None


# aeon, which reads .ts files, is one of the demo packages.
VALID = [
    pytest.param(parser, id=parser.name, marks=[pytest.mark.bundle] if parser.name in ("reader ts", "ts") else [])
    for parser in PARSERS
    if "hostile" not in parser.name
]


@pytest.mark.parametrize("parser", VALID)
def test_the_files_that_are_changed_are_valid(parser):
    assert parse_unchanged(parser) is not None


@pytest.mark.parametrize("name", [name for name, campaign in CAMPAIGNS.items() if campaign.quick])
def test_the_quick_share_of_a_parser(name):
    campaign = CAMPAIGNS[name]
    failures = {number: campaign.attempt(number) for number in range(campaign.quick)}
    assert {number: failure for number, failure in failures.items() if failure} == {}


def test_mutations_depend_on_the_seed_alone_and_header_bits_are_all_flipped():
    content = bytes(range(200))
    assert [mutate(content, seed) for seed in range(50)] == [mutate(content, seed) for seed in range(50)]
    assert len({mutate(content, seed) for seed in range(50)}) > 40
    flipped = {header_bits(content, number, 16) for number in range(128)}
    assert len(flipped) == 128
    assert all(sum(a != b for a, b in zip(content, one, strict=True)) == 1 for one in flipped)


def test_a_finished_part_is_not_run_again_and_a_crash_costs_one_try(tmp_path, monkeypatch):
    campaign = Campaign("parse idx", 3, 3, lambda number: None)
    record = {"campaign": "parse idx", "first": 0, "last": 3, "tries": 3, "failures": {"1": "a reason"}}
    (tmp_path / "results").write_text(json.dumps(record) + "\n")
    monkeypatch.setattr("tests.campaign.runner.run_chunk", None)
    records = run_campaigns([campaign], tmp_path / "results", 1)
    assert records == [record]
    assert format_summary(records).splitlines()[1].split() == ["parse", "idx", "3", "1"]
    assert "parse idx 1: a reason" in format_summary(records)


def test_hangs_and_crashes_are_failures(monkeypatch, tmp_path):
    from tests.campaign import runner

    first = [{"begin": 0}, {"end": 0, "failure": None}, {"begin": 1}]
    answers = iter([first, [{"begin": 2}, {"end": 2, "failure": "x"}]])
    monkeypatch.setattr(runner, "_answers", lambda *_arguments: next(answers))
    record = runner.run_chunk(dataclasses.replace(CAMPAIGNS["parse idx"]), 0, 3)
    assert (record["tries"], record["failures"]) == (3, {"1": "hang or crash", "2": "x"})


def test_regressions_are_few_bytes():
    assert all(path.stat().st_size <= 20_000 for path in FILES)
    assert all(Path(path).name.rpartition("-")[0] in BY_NAME for path in FILES)
