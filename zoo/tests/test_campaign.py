"""The quick share of the campaign of the zoo."""

import pytest

from tests.campaign.parsers import parse_unchanged
from tests.campaign.runner import run_chunk
from zoo.tests.campaign.all_campaigns import CAMPAIGNS, PARSERS, REGRESSIONS

VALID = [pytest.param(parser, id=parser.name) for parser in PARSERS if "hostile" not in parser.name]


@pytest.fixture(autouse=True)
def no_new_regressions(monkeypatch):
    """Keep failing inputs of the tests out of the repository."""
    monkeypatch.setattr("tests.campaign.parsers.save_regression", lambda path, content: None)


FILES = sorted(REGRESSIONS.iterdir())
BY_NAME = {parser.name.replace(" ", "_"): parser for parser in PARSERS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_inputs_that_failed_once_are_read_or_refused(path):
    assert path.stat().st_size <= 20_000
    assert BY_NAME[path.name.rpartition("-")[0]].campaign().replay(path.read_bytes()) is None


@pytest.mark.parametrize("parser", VALID)
def test_the_files_that_are_changed_are_valid(parser):
    assert parse_unchanged(parser) is not None


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_the_quick_share_of_a_parser(name):
    campaign = CAMPAIGNS[name]
    failures = {number: campaign.attempt(number) for number in range(campaign.quick)}
    assert {number: failure for number, failure in failures.items() if failure} == {}


def test_a_child_process_finds_the_campaigns_of_the_zoo():
    record = run_chunk(CAMPAIGNS["parse reader sdf"], 0, 2)
    assert (record["tries"], record["failures"]) == (2, {})
