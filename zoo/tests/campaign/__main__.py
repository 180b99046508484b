"""Run the campaigns of the zoo, with the arguments of `python -m tests.campaign`."""

from tests.campaign.__main__ import main
from zoo.tests.campaign.all_campaigns import CAMPAIGNS

if __name__ == "__main__":
    main(CAMPAIGNS)
