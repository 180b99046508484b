"""All campaigns by name: those of the core, and those of the zoo, whose folder an sdist of the core lacks."""

import importlib
from pathlib import Path

from tests.campaign.commands import COMMAND_CAMPAIGNS
from tests.campaign.parsers import PARSER_CAMPAIGNS

ZOO = Path(__file__).parents[2] / "zoo" / "tests" / "campaign"


def zoo_campaigns():
    """Return the campaigns against the parsers of the zoo."""
    parsers = importlib.import_module("zoo.tests.campaign.parsers").PARSERS if ZOO.is_dir() else []
    return [parser.campaign() for parser in parsers]


CAMPAIGNS = {campaign.name: campaign for campaign in (*PARSER_CAMPAIGNS, *COMMAND_CAMPAIGNS, *zoo_campaigns())}
