"""All campaigns by name."""

from tests.campaign.commands import COMMAND_CAMPAIGNS
from tests.campaign.parsers import PARSER_CAMPAIGNS

CAMPAIGNS = {campaign.name: campaign for campaign in (*PARSER_CAMPAIGNS, *COMMAND_CAMPAIGNS)}
