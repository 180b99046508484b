"""The quick share of the campaign against the parsers of the zoo, and its regressions."""

import pytest

from tests.campaign.parsers import parse_unchanged
from zoo.tests.campaign.parsers import PARSERS, REGRESSIONS

FILES = sorted(REGRESSIONS.iterdir())
BY_NAME = {parser.name.replace(" ", "_"): parser for parser in PARSERS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_inputs_that_failed_once_are_read_or_refused(path):
    assert BY_NAME[path.name.rpartition("-")[0]].campaign().replay(path.read_bytes()) is None


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_the_files_that_are_changed_are_valid(parser):
    assert parse_unchanged(parser) is not None


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_the_quick_share_of_a_parser(parser):
    campaign = parser.campaign()
    failures = {number: campaign.attempt(number) for number in range(campaign.quick)}
    assert {number: failure for number, failure in failures.items() if failure} == {}


def test_regressions_are_few_bytes():
    assert all(path.stat().st_size <= 20_000 for path in FILES)
